"""The file that an image of a data set was read from. Imports no torch."""

import contextlib
from pathlib import Path, PurePosixPath

from alexnet.data.kinds import kind_of
from alexnet.data.reading import parted
from alexnet.data.trees import levels_of


def original(data: str, id_: str) -> Path | None:
    """The file of an image, by its path inside the data; None where the data is no folder, or the
    file is not there (any more), or the path leads out of the folder."""
    with contextlib.suppress(OSError, ValueError):  # names that no file can have
        folder, reading = levels_of(Path(data))[0], parted(data)[1]
        if kind_of(folder.name) == "tables":
            folder = Path(reading.images) if reading.images else folder.parent
        path = PurePosixPath(id_)
        inside = not path.is_absolute() and ".." not in path.parts and "\\" not in id_
        if inside and folder.is_dir() and (folder / path).is_file():
            return folder / path
    return None
