"""Data at another place than a disk of this machine: a Store or a file, wherever fsspec can read
it (s3://, gs://, sftp://, https://, memory://). Read once into the cache, gone on with where it was
interrupted, and verified. With fetch.py the only module that touches the network."""

import contextlib
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import fsspec
import numpy as np

from alexnet import marks
from alexnet.atomic import digest, read_object, sync, writing
from alexnet.cache import cache_folder
from alexnet.console import progress, say
from alexnet.data.store import FILES, KINDS, CheckedArray, Store
from alexnet.errors import DataError, DownloadError
from alexnet.holding import one_at_a_time

PIECE = 2**22  # bytes asked for at once
GO_ON = "Run the same command again to go on where it stopped."


@dataclass(frozen=True)
class Location:
    """A file or a Store somewhere."""

    address: str
    files: Any  # an fsspec file system
    root: str

    @classmethod
    def of(cls, address: str) -> "Location":
        """DownloadError where no file system reads such an address."""
        try:
            files, root = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise DownloadError(
                f"{address} cannot be read: {error}", "Install what it names, and try again."
            ) from error
        except Exception as error:  # what file systems raise has no common base
            raise DownloadError(
                f"{address!r} is no location that can be read ({error}).",
                "Expected is a path or an address such as s3://bucket/photos.zip.",
            ) from error
        return cls(address, files, root)

    @property
    def name(self) -> str:
        """The last part of its path, where that can be a file's name."""
        last = self.root.rstrip("/").rpartition("/")[2]
        return last if last.strip(".") else "data"

    def size(self, file: str = "") -> int:
        """Bytes of the file, or of one in the folder; -1 where that is not there."""
        with self._asked():
            try:
                found = self.files.info(self._path(file))
            except (FileNotFoundError, NotADirectoryError):
                return -1
            return -1 if found["type"] == "directory" else int(found["size"])

    def version(self) -> str:
        """What changes when the file does, as far as its file system knows."""
        with self._asked():
            return str(self.files.ukey(self._path("")))

    def pieces(self, file: str, start: int, stop: float = math.inf) -> Iterator[bytes]:
        """The content from a byte on, and before another."""
        with self._asked(), self.files.open(self._path(file), "rb", cache_type="none") as source:
            source.seek(start)
            while start < stop and (piece := source.read(int(min(PIECE, stop - start)))):
                start += len(piece)
                yield piece

    def _path(self, file: str) -> str:
        return f"{self.root.rstrip('/')}/{file}" if file else self.root

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        """Whatever goes wrong in the block becomes a DownloadError."""
        try:
            yield
        except (DownloadError, GeneratorExit):
            raise
        except Exception as error:  # see `of`
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise DownloadError(f"{self.address} cannot be read ({reason}).", GO_ON) from error


def fetch_location(address: str) -> Path:
    """Fetches a Store, or a file such as an archive, into the cache; its path, which is DATA.

    What an interrupted fetch left is continued; what has changed there since is another download,
    with a path of its own. A Store gets its name only after all its checksums were found right; of
    a file only its size is known.

    Raises:
        DownloadError: it cannot be read, or is damaged. DiskError. RunError: another program
            fetches it.
    """
    location = Location.of(address)
    is_store = location.size(marks.STORE) >= 0
    if not is_store and location.size() < 0:
        raise DownloadError(
            f"there is no file and no Store at {address}.",
            f"A Store is a folder with {marks.STORE}, as `alexnet data prepare` prints it; other "
            "folders: pack them into an archive.",
        )
    said = b"".join(location.pieces(marks.STORE, 0)) if is_store else location.version().encode()
    what = address.encode("utf-8", "surrogateescape") + b"\0" + said
    stem = hashlib.sha256(what).hexdigest()[:16]
    target = cache_folder() / "downloads" / stem / location.name
    aside = target.with_name(f".{target.name}.partial")
    with one_at_a_time(target, f"{address} is being fetched"):
        if target.exists():
            say(f"{address} is here already")
            return target
        with writing(aside):
            aside.parent.mkdir(parents=True, exist_ok=True)
        if is_store:
            _receive_store(location, said, aside)
        else:
            _receive(location, {"": location.size()}, aside)
        with writing(target):
            os.replace(aside, target)
            sync(target.parent)
    return target


def _receive_store(location: Location, said: bytes, aside: Path) -> None:
    with writing(aside):
        aside.mkdir(exist_ok=True)
        (aside / marks.STORE).write_bytes(said)
    try:
        info = read_object(aside / marks.STORE)
        files = set(info["sha256"])
        if info["dtype"] not in KINDS or not {marks.ARRAY} <= files <= FILES:
            raise ValueError("it has other files than a Store")
        sizes = {file: location.size(file) for file in files}
        expected = math.prod(info["shape"]) * np.dtype(info["dtype"]).itemsize
        if sizes[marks.ARRAY] != expected or min(sizes.values()) < 0:
            raise ValueError(f"a file is missing, or x.bin has not {expected:,} bytes")
    except (ValueError, KeyError, TypeError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise DownloadError(
            f"{location.address} is not a Store that can be used ({error}).",
            "Pack it again there: alexnet data prepare.",
        ) from error
    _receive(location, dict(sorted(sizes.items(), key=lambda item: item[1])), aside)
    small = {file: sizes[file] for file in files - {marks.ARRAY}}
    if wrong := [file for file in small if digest(aside / file) != info["sha256"][file]]:
        _receive_again(location, {file: small[file] for file in sorted(wrong)}, aside)
    try:
        store = Store.open(aside)
        try:
            store.verify()
        except DataError:
            _receive_blocks_again(location, store, aside)
            store.verify()
    except DataError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise DownloadError(
            f"what came from {location.address} is damaged: {error.message}",
            "It was deleted. Try again; if that repeats, the Store there is damaged.",
        ) from error


def _receive_again(location: Location, sizes: dict[str, int], aside: Path) -> None:
    """Once more files of so many bytes that have arrived with other bits than they were written."""
    for file in sizes:
        with writing(aside / file):
            (aside / file).unlink()
    say(f"{', '.join(sizes)} came damaged")
    _receive(location, sizes, aside)


def _receive_blocks_again(location: Location, store: Store, aside: Path) -> None:
    """The same of parts of x.bin."""
    for part in cast(CheckedArray, store.x).damaged():
        say(f"fetching {len(part):,} bytes of {location.address} again, which came damaged")
        with writing(aside / marks.ARRAY):
            with open(aside / marks.ARRAY, "r+b") as out:
                out.seek(part.start)
                for piece in location.pieces(marks.ARRAY, part.start, part.stop):
                    out.write(piece)
            sync(aside / marks.ARRAY)


def _receive(location: Location, sizes: dict[str, int], aside: Path) -> None:
    """Appends what is missing of files of so many bytes; "" is the location itself."""
    places = {file: aside / file if file else aside for file in sizes}
    whole, done = sum(sizes.values()), sum(map(_size, places.values()))
    here = f", {done / 1e6:.0f} MB are here" if done else ""
    say(f"fetching {location.address} ({whole / 1e6:.0f} MB{here})")
    with progress(location.name, whole, done=done) as advance:
        for file, place in places.items():
            _append(location, file, place, sizes[file], advance)
            with writing(place):
                sync(place)


def _append(
    location: Location, file: str, place: Path, size: int, advance: Callable[[int], None]
) -> None:
    done = _size(place)
    with writing(place), open(place, "ab") as out:
        for piece in location.pieces(file, done) if done < size else ():
            out.write(piece)
            done += len(piece)
            advance(len(piece))
    if done != size:
        with writing(place):
            place.unlink()
        raise DownloadError(
            f"{location.address} has changed while it was read: {done:,} bytes of {size:,} came.",
            "Run the same command again.",
        )


def _size(path: Path) -> int:
    """Of a file that is there, 0 of others."""
    return path.stat().st_size if path.is_file() else 0
