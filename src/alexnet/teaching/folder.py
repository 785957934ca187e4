"""The folder of class folders that `alexnet teach` fills. It is the only truth: nothing of it is
kept elsewhere, so that what others change in it counts too.

A picture is on the disk, flushed, before anybody hears that it was taken. What is deleted lies in a
hidden folder, which no data set looks into, until the program ends; what is to be sorted into
classes in another, until it is. There its class is called "".
"""

import contextlib
import filecmp
import itertools
import os
import shutil
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet.atomic import is_leftover, replacing, to_free_name, writing
from alexnet.classification.predict import folder_names
from alexnet.data.images import FORMATS, open_image, readable_extensions
from alexnet.data.kinds import ending
from alexnet.data.levels import split_word
from alexnet.data.names import hidden
from alexnet.errors import InputError
from alexnet.words import shown

DELETED, UNSORTED = ".deleted", ".unsorted"
MOST_CLASSES, MOST_PICTURES = 100, 5000  # what a page can show, and a head learn in seconds


@dataclass(frozen=True, order=True)
class Picture:
    """A picture of a class, as its folder lists it."""

    name: str
    size: int  # bytes
    changed: int  # ns


Classes = dict[str, list[Picture]]


class Gone(InputError):
    """What is to be changed is not there any more: another page, or another program was faster."""


class Folder:
    """A folder of class folders; its methods may be called by several threads."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: it is a file, or holds something else than folders of pictures. DiskError:
                it cannot be made.
        """
        self.path = path
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)  # of what is deleted; none is used again
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file, expected a folder.", "Give another FOLDER.")
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        for one in path.iterdir():
            if one.is_dir() and not hidden(one.name):
                self._require_plain(one)
        if any(ending(one.name) in readable_extensions() for one in _files(path)):
            raise InputError(
                f"{path} holds pictures outside of class folders.",
                "Put them into a folder for each class.",
            )

    def _require_plain(self, folder: Path) -> None:
        inner = [one for one in folder.iterdir() if one.is_dir() and not hidden(one.name)]
        if inner or split_word(folder.name)[0]:
            raise InputError(
                f"{folder} is no folder of pictures of one class"
                + (f": there are folders in it, such as {inner[0].name}." if inner else "."),
                "Give a folder whose folders are the classes, such as the one for training.",
            )

    def classes(self) -> Classes:
        """The pictures of each class, both sorted."""
        return {
            one.name: _pictures(one)
            for one in sorted(self.path.iterdir())
            if one.is_dir() and not hidden(one.name)
        }

    def unsorted(self) -> list[Picture]:
        """The pictures that are to be sorted into classes, sorted by name."""
        return _pictures(self.path / UNSORTED)

    def lay_unsorted(self, files: Sequence[Path]) -> int:
        """Copies pictures here, to be sorted into classes; returns how many. What is in the folder
        already is left out.

        Raises:
            DiskError: one cannot be read or written.
        """
        place, count = self.path / UNSORTED, 0
        with self._changing():
            place.mkdir(exist_ok=True)
            for file in files:
                here = (one for one in self.path.glob("*/*") if one.is_file())
                if not any(filecmp.cmp(file, one, shallow=False) for one in here):
                    with replacing(place / file.name, to_free_name) as aside:
                        shutil.copyfile(file, aside)
                    count += 1
        return count

    def file(self, class_: str, picture: str) -> Path:
        """The file of a picture.

        Raises:
            Gone: there is none.
        """
        folder = self._class(class_) if class_ else self.path / UNSORTED
        if picture not in {one.name for one in _files(folder)} or hidden(picture):
            raise Gone(f"the picture is not in {shown(class_)} any more.", "Choose another.")
        return folder / picture

    def _class(self, name: str) -> Path:
        """The folder of a class; only what a listing holds can be named, whatever a name holds."""
        if hidden(name) or name not in {one.name for one in self.path.iterdir() if one.is_dir()}:
            raise Gone(f"the class {shown(name[:60])} is not there any more.", "Choose another.")
        return self.path / name

    def _free(self, name: str) -> Path:
        """A folder of a new name.

        Raises:
            InputError: the name is not one for a class, or taken.
        """
        name = unicodedata.normalize("NFC", name).strip()
        [safe] = folder_names([name])
        if not name:
            raise InputError("a class needs a name.", "Type one.")
        if hidden(name) or split_word(name)[0]:
            raise InputError(f"a class cannot be called {shown(name)}.", "Choose another name.")
        if name != safe:
            raise InputError(
                f"a folder cannot be called {shown(name[:60])} everywhere.", f"Call it {safe}."
            )
        there = {one.name.casefold() for one in self.path.iterdir()}
        if name.casefold() in there:
            raise InputError(f"there is a class {name} already.", "Choose another name.")
        return self.path / name

    def add_class(self, name: str) -> None:
        """Makes an empty class; InputError as in `_free`."""
        with self._changing():
            if len(self.classes()) >= MOST_CLASSES:
                raise InputError(f"there are {MOST_CLASSES} classes already.", "Delete one.")
            self._free(name).mkdir()

    def rename_class(self, name: str, new: str) -> None:
        """Gives a class another name; InputError as in `_free`, Gone."""
        with self._changing():
            old = self._class(name)
            if name != new:
                old.rename(self._free(new))

    def add(self, class_: str, name: str, content: bytes) -> str:
        """Writes a picture, whole or not at all; returns the name that it has.

        Args:
            class_: its class.
            name: what it was called, which need not be a name of a file here.
            content: an image file.

        Raises:
            Gone: no such class. BadImage: it is no image. InputError: there are too many.
            DiskError: it cannot be written.
        """
        suffix = FORMATS.get(open_image(content).format or "", ".jpg").split()[0]  # MPO: a JPEG
        [stem] = folder_names([Path(name).stem or "picture"])
        names: list[str] = []

        def rename(aside: Path, path: Path) -> None:
            names.append(to_free_name(aside, path).name)

        with self._changing():
            folder = self._class(class_)
            if (
                sum(len(_files(one)) for one in self.path.iterdir() if one.is_dir())
                >= MOST_PICTURES
            ):
                raise InputError(
                    f"there are {MOST_PICTURES:,} pictures already, as many as are taught here.",
                    f"Train on them: alexnet train {self.path}",
                )
            with replacing(folder / f"{stem}{suffix}", rename) as aside:
                aside.write_bytes(content)
        return names[0]

    def move(self, class_: str, pictures: list[str], to: str) -> None:
        """Moves pictures to another class. Gone."""
        with self._changing():
            self._move([self.file(class_, one) for one in pictures], self._class(to))

    def delete(self, class_: str, pictures: list[str] | None = None) -> str:
        """Takes pictures away, or a whole class; returns by which name they come back. Gone."""
        with self._changing():
            bin_ = self.path / DELETED
            bin_.mkdir(exist_ok=True)
            files = [self.file(class_, one) for one in pictures or []]
            folder = files[0].parent if files else self._class(class_)
            target = bin_ / str(next(self._numbers))
            target.mkdir()
            if pictures is None:
                folder.rename(target / folder.name)
            else:
                (target / folder.name).mkdir()
                self._move(files, target / folder.name)
            return target.name

    def restore(self, deleted: str) -> None:
        """Brings back what `delete` took away; its class too. Gone."""
        with self._changing():
            place = self.path / DELETED / deleted
            if not deleted.isdecimal() or not place.is_dir():
                raise Gone("that cannot be brought back any more.", "It was brought back before.")
            for folder in place.iterdir():
                (self.path / folder.name).mkdir(exist_ok=True)
                self._move(list(folder.iterdir()), self.path / folder.name)
            shutil.rmtree(place)

    def _move(self, files: list[Path], folder: Path) -> None:
        for file in files:
            to_free_name(file, folder / file.name)

    def forget_deleted(self) -> None:
        """Deletes what was deleted for good."""
        shutil.rmtree(self.path / DELETED, ignore_errors=True)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock, writing(self.path):
            yield


def _pictures(folder: Path) -> list[Picture]:
    readable, found = readable_extensions(), []
    for file in _files(folder):
        if ending(file.name) in readable and not is_leftover(file.name):
            with contextlib.suppress(OSError):  # gone in this moment
                about = file.stat()
                found.append(Picture(file.name, about.st_size, about.st_mtime_ns))
    return sorted(found)


def _files(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return [one for one in found if not hidden(one.name) and one.is_file()]
    except FileNotFoundError:  # deleted in this moment
        return []
