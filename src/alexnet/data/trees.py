"""The files below a folder or inside an archive, seen the same way; nothing is extracted."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

from alexnet import marks
from alexnet.atomic import is_taken, is_zip, replacing, writing
from alexnet.data.archives import LARGEST_FILE, TAR_ENDINGS, TarTree, ZipTree, is_tar
from alexnet.data.listing import Paths, place_in
from alexnet.data.names import DEEPEST, hidden, told_outputs
from alexnet.data.reading import parted
from alexnet.errors import DataError, InputError

LAYOUTS_HINT = (
    "Looked for: class folders (CLASS/*.jpg, or train/CLASS/*.jpg with val/ and test/ beside it), "
    "Tiny ImageNet's tree, CIFAR's files, MNIST's idx, .npz or Parquet of images, a table of "
    "labels; in a folder, a .zip or a .tar(.gz). Or a Store."
)
READING = 3  # changes when the same files are read in another way: then Stores are looked at anew
MOST_VISITS = 16  # of one folder, through links
UNPACKED = (".7z", ".rar", ".zst", ".gz", ".bz2", ".xz", ".z01", ".001")


class Tree(Protocol):
    """The files below a folder or inside an archive; paths are relative, with forward slashes."""

    where: Path
    outputs: dict[str, str]  # folder that was passed over: what of our own output it is
    left_out: list[str]  # what else was passed over, in words
    notes: list[str]  # what else there is to say

    def files(self) -> Sequence[str]:
        """All files except hidden ones, sorted."""

    def has(self, path: str) -> bool:
        """Whether there is a file of that path, among those."""

    def folders(self) -> set[str]:
        """All folders without files, except hidden ones, and perhaps others."""

    def read(self, path: str) -> bytes:
        """The content of a file."""

    def open(self, path: str) -> IO[bytes]:
        """A file opened for reading, for those that want its beginning only."""


class FolderTree:
    """A folder on disk. Links are followed, but not in circles."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.paths = Paths()  # of the files, sorted
        self.directories: set[str] = set()
        self.outputs: dict[str, str] = {}
        self.left_out: list[str] = []
        self.notes: list[str] = []
        self.signature = ""  # changes when any file changes, found without reading one
        self._scan()

    def _scan(self) -> None:
        seen = hashlib.sha256(_encoded(str(self.where)))
        self.visits: Counter[tuple[int, int]] = Counter()
        self.passed: Counter[str] = Counter()  # in words: how many folders
        for path, state in self._walk(str(self.where), "", frozenset()):
            self.paths.append(path)
            seen.update(_encoded(f"\n{path}\0{state}"))
        self.signature = seen.hexdigest()
        self.left_out += [f"{count:,} {what}" for what, count in self.passed.items()]

    def _walk(
        self, folder: str, prefix: str, above: frozenset[tuple[int, int]]
    ) -> Iterator[tuple[str, tuple[int, int]]]:
        """The files below a folder in the order of their paths, each with its bytes and the
        nanoseconds of its last change. `prefix`: its path with a slash; `above`: the folders that
        it lies in."""
        try:
            here = os.stat(folder)
            identity = (here.st_dev, here.st_ino)
            if self._is_passed(identity, prefix, above):
                self.directories.discard(prefix[:-1])
                return
            names, folders, broken = _entries(folder)
            kind = marks.output_kind({*names}) if prefix else ""
            if kind:
                self.outputs[prefix[:-1]] = kind
                self.directories.discard(prefix[:-1])
                return
            names = [name for name in names if not hidden(name)]
            folders = {name for name in folders if not hidden(name)}
            self.directories |= {prefix + name for name in folders}
            # a path goes on with a slash behind a folder's name
            names.sort(key=lambda name: f"{name}/" if name in folders else name)
            for name in names:
                file = f"{folder}/{name}"
                if name in folders:
                    yield from self._walk(file, f"{prefix}{name}/", above | {identity})
                elif name in broken:  # a bad image, not an absent one
                    yield prefix + name, (0, 0)
                else:
                    found = os.stat(file)
                    if stat.S_ISREG(found.st_mode):
                        yield prefix + name, (found.st_size, found.st_mtime_ns)
        except OSError as error:
            raise DataError(
                f"cannot read the folder {folder}: {error.strerror}.", "Check its permissions."
            ) from error

    def _is_passed(
        self, identity: tuple[int, int], prefix: str, above: frozenset[tuple[int, int]]
    ) -> bool:
        """Whether a folder is passed over; takes down why."""
        self.visits[identity] += 1
        reasons = {
            "links to folders that they lie in": identity in above,
            f"folders more than {DEEPEST} folders deep": prefix.count("/") > DEEPEST,
            f"links to folders that {MOST_VISITS} others lead to": self.visits[identity]
            > MOST_VISITS,
        }
        self.passed.update(what for what, holds in reasons.items() if holds)
        return any(reasons.values())

    def files(self) -> Paths:
        return self.paths

    def has(self, path: str) -> bool:
        return place_in(self.paths, path) >= 0

    def folders(self) -> set[str]:
        return self.directories

    def read(self, path: str) -> bytes:
        return _content(self.where / path)

    def open(self, path: str) -> IO[bytes]:
        return open(self.where / path, "rb")


def _entries(folder: str) -> tuple[list[str], set[str], set[str]]:
    """The names in a folder; of these, the folders, and the links that lead nowhere or to
    themselves. There may be a million: nothing is kept of the others but their names."""
    names, folders, broken = [], set(), set()
    with os.scandir(folder) as found:
        for entry in found:
            names.append(entry.name)
            if entry.is_symlink() and not os.path.exists(entry.path):
                broken.add(entry.name)
            elif entry.is_dir():
                folders.add(entry.name)
    return names, folders, broken


def _content(file: Path) -> bytes:
    state = file.stat()
    if state.st_size > LARGEST_FILE or not stat.S_ISREG(state.st_mode):
        raise OSError(f"{state.st_size:,} bytes is no image file")
    return file.read_bytes()


class LooseFiles:
    """A folder whose files are asked for one by one and never listed: others of any number may lie
    beside them."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.outputs: dict[str, str] = {}
        self.left_out: list[str] = []
        self.notes: list[str] = []
        self.seen = hashlib.sha256()  # every file asked for, as it was found

    def files(self) -> Sequence[str]:
        return []

    def folders(self) -> set[str]:
        return set()

    def has(self, path: str) -> bool:
        state: object = None
        try:
            found = os.stat(os.path.join(self.where, path))
            if stat.S_ISREG(found.st_mode):
                state = found.st_size, found.st_mtime_ns
        except (OSError, ValueError):  # ValueError: no file can have such a name
            pass
        self.seen.update(f"{path}\0{state}\n".encode("utf-8", "surrogateescape"))
        return state is not None

    def read(self, path: str) -> bytes:
        try:
            return _content(self.where / path)
        except ValueError as error:  # no file can have such a name
            raise OSError(str(error)) from error

    def open(self, path: str) -> IO[bytes]:
        return open(self.where / path, "rb")


class Inside:
    """A folder of a tree, seen as the top of one."""

    def __init__(self, tree: Tree, folder: str) -> None:
        """`folder` ends with a slash, or is empty."""
        self.tree, self.folder, self.where = tree, folder, tree.where / folder
        self.outputs, self.left_out, self.notes = tree.outputs, tree.left_out, tree.notes

    def files(self) -> Sequence[str]:
        inside = filter(lambda path: path.startswith(self.folder), self.tree.files())
        return Paths(path.removeprefix(self.folder) for path in inside)

    def has(self, path: str) -> bool:
        return self.tree.has(self.folder + path)

    def folders(self) -> set[str]:
        inside = filter(lambda path: path.startswith(self.folder), self.tree.folders())
        return {path.removeprefix(self.folder) for path in inside}

    def read(self, path: str) -> bytes:
        return self.tree.read(self.folder + path)

    def open(self, path: str) -> IO[bytes]:
        return self.tree.open(self.folder + path)


def levels_of(address: Path) -> tuple[Path, int]:
    """DATA/* stands for the folders of DATA, whatever lies in them, as classes, and DATA/*/* for
    the folders one level further down: what is read, and how many levels down."""
    where, levels = Path(parted(address)[0]), 0
    while where.name == "*" and not where.exists():
        where, levels = where.parent, levels + 1
    return where, levels


def source_state(where: Path) -> tuple[str, str]:
    """A signature that changes when a file, or any file below a folder, changes, found without
    reading one; and what of our own output lies in a folder, in words."""
    query = parted(where)[1].query
    where, levels = levels_of(where)
    ours = ""
    if where.is_dir():
        tree = FolderTree(where)
        state, ours = tree.signature, told_outputs(tree.outputs)
    else:
        found = where.stat()
        words = _encoded(f"{where}\0{(found.st_size, found.st_mtime_ns)}")
        state = hashlib.sha256(words).hexdigest()
    return f"{state} {READING} {levels}{query}", ours


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def open_tree(where: Path, space: Path) -> Tree:
    """The files of a folder, a zip or a tar archive. Compressed tars are expanded into a temporary
    file in the folder `space`.

    Raises:
        DataError: it is none of these, or damaged. DiskError: no space to expand it.
    """
    where, _ = levels_of(where)
    name = where.name.lower()
    if where.is_dir():
        return FolderTree(where)
    refuse_other_files(where)
    if not is_tar(where) and (is_zip(where) or name.endswith(".zip")):
        return ZipTree(where)
    return TarTree(where, space)


def refuse_other_files(where: Path) -> None:
    """DataError unless a file is an archive, or called like one."""
    name = where.name.lower()
    if is_tar(where) or is_zip(where) or name.endswith((".zip", *TAR_ENDINGS)):
        return
    if name.endswith(UNPACKED):
        hint = "Unpack it and give the folder, or pack the folder as a .zip or .tar. "
        raise DataError(f"{where} is a file, but not a zip or tar archive.", hint + LAYOUTS_HINT)
    raise DataError(f"{where} is a file, but not a zip archive or a tar archive.", LAYOUTS_HINT)


def mark_output(folder: Path, what: str, *names: str) -> None:
    """Makes a folder and notes in it that we wrote what it holds, so that it is never taken for
    data together with what lies around it. A folder that holds other things is left as it is;
    files of these `names`, which are about to be written, must not be among them.

    Raises:
        InputError: somebody else's file would be replaced. DiskError: it cannot be written.
    """
    with writing(folder / marks.OUTPUT):
        folder.mkdir(parents=True, exist_ok=True)
        if is_taken(folder):
            theirs = not (folder / marks.OUTPUT).exists()
            if theirs and (lost := [name for name in names if (folder / name).exists()]):
                raise InputError(
                    f"{folder / lost[0]} is there already, in a folder that {what} did not make: "
                    "it would be lost.",
                    "Choose another folder, or move it away first.",
                )
            return
    with replacing(folder / marks.OUTPUT) as aside:
        aside.write_text(f"{what}\n", encoding="utf-8")
