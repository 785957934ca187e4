"""Where data lies, and what of it can be said before anything is decoded. Imports no torch."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet import marks
from alexnet.cache import cache_folder
from alexnet.console import say
from alexnet.data.fetch import DOWNLOADS, downloaded
from alexnet.data.kinds import TABLES
from alexnet.data.reading import parted, with_whole_paths
from alexnet.data.trees import LAYOUTS_HINT, levels_of, open_tree, refuse_other_files, source_state
from alexnet.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from alexnet.data.sources import Source

SOON = 5_000  # files that are listed in a blink


def find_data(name: str) -> Path:
    """The path that a data set's name or path stands for.

    Raises:
        DataError: nothing is there; says how to get it.
    """
    if (here := _on_disk(name)) is not None:
        return here
    name, reading = parted(name)
    if name in DOWNLOADS:
        archive = downloaded(name)
        if archive is None:
            raise DataError(
                f"{name} is not on this machine.",
                f"Fetch it with `alexnet data fetch {name}`, or give the path of your copy instead "
                "of the name.",
            )
        return Path(str(archive) + with_whole_paths(reading).query)
    if "/" not in name and "\\" not in name:
        raise DataError(
            f"there is no data set and no path {name!r}.",
            did_you_mean(name, ["digits", "tiny-image10", *DOWNLOADS]) + f" {LAYOUTS_HINT}",
        )
    raise DataError(
        f"there is nothing at {name}.",
        "Check the path; relative paths start at the current folder.",
    )


def _on_disk(name: str) -> Path | None:
    """The whole path of an address, with whatever says how it is read; None if nothing is there."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # names that no file can have
        address = Path(name or "?").expanduser()
        (where, levels), reading = levels_of(address), parted(address)[1]
        if where.exists():
            query = with_whole_paths(reading).query
            return Path(str(where.resolve().joinpath(*["*"] * levels)) + query)
    return None


def lasting(name: str) -> str:
    """A name or a path as it holds in whatever folder a program is started."""
    if (here := _on_disk(name)) is not None:
        return str(here)
    plain, reading = parted(name)
    return plain + with_whole_paths(reading).query


def is_there(name: str) -> bool:
    """Whether a data set of this name or path is on this machine."""
    plain = parted(name)[0]
    if plain == "digits":
        return True
    try:
        find_data("tiny-imagenet" if plain == "tiny-image10" else name)
    except DataError:
        return False
    return True


def kind_of_data(name: str, where: Path) -> str:
    """What of ours a folder of data is: "a Store", or nothing.

    Raises:
        DataError: it is a run or a sweep.
    """
    plain, reading = parted(where)
    kind = marks.kind_of(Path(plain))
    if kind in ("a run", "a sweep"):
        raise DataError(
            f"{name} is the directory of {kind}, and holds no images.",
            "Give the data that it was trained on: a folder or an archive of images.",
        )
    if kind and reading.labels:
        raise DataError(
            f"{plain} is {kind}, which is packed: its labels are not changed by a table.",
            "Give --labels with the data that it was packed from.",
        )
    return kind


def read_source(where: Path) -> "Source":
    """The labelled images of a folder, of a zip or tar archive, or of a table. What there is to say
    about the reading is said."""
    return said(listed(where))


def said(source: "Source") -> "Source":
    """A source, after what there is to say about it was said."""
    for note in source.notes:
        say(note)
    return source


def listed(where: Path) -> "Source":
    """The same without a word."""
    plain, levels = levels_of(where)
    reading = parted(where)[1]
    if _is_table(plain):
        return _table(where)[0]
    from alexnet.data.changes import changed
    from alexnet.data.groups import grouped
    from alexnet.data.layouts import read_tree

    source = read_tree(open_tree(plain, cache_folder()), levels, reading)
    return changed(grouped(source, reading.group), reading.labels)


def looked_at(where: Path) -> tuple[str, str, "Callable[[], Source]"]:
    """A signature that changes when anything that is read changes; what of our own output lies in a
    folder, in words; and what lists the images, which of a table is done for its signature."""
    if _is_table(levels_of(where)[0]):
        from alexnet.data.arrays import holds_pixels

        if not holds_pixels(levels_of(where)[0], parted(where)[1]):
            source, state = _table(where)
            return state, "", lambda: said(source)
    from alexnet.data.changes import state_of

    state, ours = source_state(where)
    return state + state_of(parted(where)[1].labels), ours, lambda: read_source(where)


def _is_table(where: Path) -> bool:
    return where.suffix.lower() in TABLES and where.is_file()


def _table(where: Path) -> "tuple[Source, str]":
    from alexnet.data.arrays import table_of_pictures
    from alexnet.data.changes import changed, state_of
    from alexnet.data.groups import grouped
    from alexnet.data.tables import table_file

    reading, plain = parted(where)[1], levels_of(where)[0]
    if found := table_of_pictures(plain, reading):
        source, state = found, source_state(where)[0]
    else:
        source, state = table_file(plain, reading, cache_folder())
        source = grouped(source, reading.group)
    return changed(source, reading.labels), state + state_of(reading.labels)


def require_classes(name: str, classes: Sequence[str]) -> None:
    """DataError unless there are two classes at least."""
    if len(classes) < 2:
        raise DataError(
            f"{name} has one class only ({', '.join(classes)}); a classifier needs at least two.",
            "Add images of another class: a folder beside the first, or rows with another label. "
            "Where the names of the files say it: --label-pattern '(?P<label>[A-Za-z]+)_'",
        )


def look_at(name: str, enough: int = 2) -> None:
    """Looks whether there is data with `enough` classes, as far as that is known in a blink: a
    folder of many files, or an archive, is read when it is packed.

    Raises:
        DataError: nothing is there, it is no data, or its layout is not recognised.
    """
    plain = parted(name)[0]
    if plain == "digits":
        return
    where = find_data("tiny-imagenet" if plain == "tiny-image10" else name)
    folder = levels_of(where)[0]
    if kind_of_data(name, where):
        return
    if _is_table(folder):
        soon = folder.stat().st_size < 100 * SOON  # bytes of a row
    elif folder.is_file():
        refuse_other_files(folder)
        soon = False
    else:
        soon = sum(1 for _ in itertools.islice(_files_below(folder), SOON)) < SOON
    if soon:
        found = listed(where)
        if enough > 1:
            require_classes(name, found.classes)


def _files_below(folder: Path) -> Iterator[str]:
    for _, _, files in os.walk(folder):
        yield from files
