"""Files, whole or not at all: written aside, flushed, renamed; a reader sees the old file or the
new one, whatever happens in between."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from alexnet.errors import AlexNetError, DiskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# a name of `replacing`: a dot, the file's own name, eight letters, its ending once more
LEFTOVER = re.compile(r"\.(.+)\.[a-z0-9_]{8}(\.\w+|)")


def disk_error(error: OSError, path: Path, needed: int = 0) -> AlexNetError:
    """The OSError of writing to `path`, in words the user can act on; `needed` bytes, if known."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        free = shutil.disk_usage(path.parent if path.parent.exists() else Path.cwd()).free
        return DiskError(
            f"no space left on the disk of {path.parent}: {free / 2**20:.0f} MiB free"
            + (f", {needed / 2**20:.0f} MiB needed." if needed else "."),
            "Free some space, or set ALEXNET_CACHE (prepared data) or --out (runs) to another "
            "disk.",
        )
    return DiskError(
        f"cannot write {path}: {error.strerror or error}.", "Check the path and its permissions."
    )


def sync(path: Path) -> None:
    """Flushes a file or the entries of a folder to the disk."""
    with contextlib.suppress(OSError):  # folders cannot be opened on Windows
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a name beside `path` to write a file to; afterwards it is flushed and takes the name
    `path`.

    If the block fails, nothing is left and `path` is as it was. OSErrors become DiskError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # the same ending, by which some writers choose a format
        descriptor, name = tempfile.mkstemp(path.suffix, f".{path.name}.", path.parent)
        os.close(descriptor)
    except OSError as error:
        raise disk_error(error, path) from error
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o666 & ~_umask())  # mkstemp's files are private
        sync(aside)
        os.replace(aside, path)
        sync(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        aside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes what writers that were killed left in a folder. Nobody else may write there."""
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            match = LEFTOVER.fullmatch(file.name)
            if match and Path(match[1]).suffix == match[2]:
                file.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, whole or not at all. Numbers that are not finite are refused."""
    with replacing(path) as aside:
        aside.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # an undecodable file name as JSON's own escape
        )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        OSError: there is no such file, or it cannot be read. ValueError: it holds something else.
    """
    found = from_json(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def read_arrays(path: Path, names: Iterable[str]) -> "dict[str, NDArray[Any]]":
    """Of an .npz file the arrays of these names, as far as they are there. No pickle is read.

    Raises:
        OSError: there is no such file. ValueError: it is damaged, or no .npz.
    """
    import numpy as np  # which the command line does without

    with open(path, "rb") as file:
        if not is_zip(file):
            raise ValueError("it is no .npz archive")  # NumPy would speak of pickles
        try:
            with np.load(file, allow_pickle=False) as archive:
                found = {name: archive[name] for name in names if name in archive.files}
        except Exception as error:  # of every kind, from zipfile, zlib and headers of arrays
            raise ValueError(str(error) or type(error).__name__) from error
    if not all(isinstance(one, np.ndarray) for one in found.values()):
        raise ValueError("it holds something else than arrays")
    return found


def is_zip(file: Path | IO[bytes]) -> bool:
    """Whether a file is a zip archive, or what is left of one."""
    import zipfile

    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:  # whoever opens it hears the reason
        return True


def from_json(text: str | bytes) -> Any:
    """The value that a JSON text holds.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a number to compute with; NaN and 1e400 are none."""
    return isinstance(value, int | float) and abs(value) < 2**63
