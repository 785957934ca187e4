"""The files below a folder or inside a zip archive, seen the same way; nothing is extracted."""

import hashlib
import os
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from alexnet.errors import DataError

LAYOUTS_HINT = (
    "Looked for: class folders (CLASS/*.jpg, or train/CLASS/*.jpg with val/ and test/ beside it), "
    "Tiny ImageNet's tree, CIFAR-10's binary files, a Store; in a folder, a .zip, or (CIFAR-10) a "
    ".tar.gz."
)
LARGEST_FILE = 2**29  # bytes of one image file


class Tree(Protocol):
    """The files below a folder or inside a zip; paths are relative, with forward slashes."""

    where: Path

    def files(self) -> list[str]:
        """All files except hidden ones, sorted."""

    def folders(self) -> set[str]:
        """All folders except hidden ones."""

    def read(self, path: str) -> bytes:
        """The content of a file."""

    def open(self, path: str) -> IO[bytes]:
        """A file opened for reading, for those that want its beginning only."""


def hidden(name: str) -> bool:
    """Whether a name begins with a dot, or is a leftover of an operating system."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


class FolderTree:
    """A folder on disk."""

    def __init__(self, where: Path) -> None:
        self.where = where
        # path: (bytes, nanoseconds of the last change)
        self.entries: dict[str, tuple[int, int]] = {}
        self.directories: set[str] = set()
        self._scan(str(where), "", frozenset())

    def _scan(self, folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        try:
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in above:
                return  # a link to a folder that holds it
            with os.scandir(folder) as found:
                for entry in found:
                    path = prefix + entry.name
                    if hidden(entry.name):
                        continue
                    if entry.is_dir():
                        self.directories.add(path)
                        self._scan(entry.path, path + "/", above | {(here.st_dev, here.st_ino)})
                    elif entry.is_file():
                        state = entry.stat()
                        self.entries[path] = (state.st_size, state.st_mtime_ns)
                    elif entry.is_symlink() and not os.path.exists(entry.path):
                        # a broken link is a bad image, not an absent one
                        self.entries[path] = (0, 0)
        except OSError as error:
            raise DataError(
                f"cannot read the folder {folder}: {error.strerror}.", "Check its permissions."
            ) from error

    def signature(self) -> str:
        """Changes when any file changes, found without reading one."""
        lines = [f"{path}\0{state}" for path, state in sorted(self.entries.items())]
        return _digest("\n".join([str(self.where), *lines]))

    def files(self) -> list[str]:
        return sorted(self.entries)

    def folders(self) -> set[str]:
        return self.directories

    def read(self, path: str) -> bytes:
        full = self.where / path
        state = full.stat()
        if state.st_size > LARGEST_FILE or not stat.S_ISREG(state.st_mode):
            raise OSError(f"{state.st_size:,} bytes is no image file")
        return full.read_bytes()

    def open(self, path: str) -> IO[bytes]:
        return open(self.where / path, "rb")


class ZipTree:
    """A zip archive, read in place."""

    def __init__(self, where: Path) -> None:
        self.where = where
        try:
            self.archive = zipfile.ZipFile(where)
        except (zipfile.BadZipFile, OSError, RuntimeError) as error:
            # RuntimeError covers what zipfile raises for kinds of archive it does not know
            raise DataError(
                f"{where} cannot be read as a zip archive ({error}).",
                "It may be cut short: fetch or copy it again.",
            ) from error
        infos = [
            info
            for info in self.archive.infolist()
            if not any(map(hidden, info.filename.strip("/").split("/")))
        ]
        self.entries = {info.filename: info for info in infos if not info.is_dir()}
        self.directories = {info.filename.rstrip("/") for info in infos if info.is_dir()}
        for path in self.entries:
            self.directories.update(
                str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."
            )

    def files(self) -> list[str]:
        return sorted(self.entries)

    def folders(self) -> set[str]:
        return self.directories

    def read(self, path: str) -> bytes:
        if self.entries[path].file_size > LARGEST_FILE:
            raise OSError(f"{self.entries[path].file_size:,} bytes is no image file")
        try:
            return self.archive.read(self.entries[path])
        except Exception as error:  # of every kind: zlib.error, BadZipFile, RuntimeError, ...
            raise OSError(str(error)) from error

    def open(self, path: str) -> IO[bytes]:
        return self.archive.open(self.entries[path])


def source_signature(where: Path) -> str:
    """Changes when a file, or any file below a folder, changes; found without reading one."""
    if where.is_dir():
        return FolderTree(where).signature()
    state = where.stat()
    return _digest(f"{where}\0{(state.st_size, state.st_mtime_ns)}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def open_tree(where: Path) -> Tree:
    """The files of a folder or a zip archive."""
    if where.is_dir():
        return FolderTree(where)
    if zipfile.is_zipfile(where) or where.suffix.lower() == ".zip":
        return ZipTree(where)
    raise DataError(f"{where} is a file, but not a zip archive or CIFAR-10's tar.", LAYOUTS_HINT)
