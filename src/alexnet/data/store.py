"""Store: a data set as one memory-mapped array and a small JSON. Batches: shuffled, moved and
transformed pieces of one.

STORE/
    store.json      version, shape, classes, splits, origin, checksums of the files
    x.bin           (N, C, H, W) uint8 images, or (N, D) float16 features, in C order
    crc32.npy       the CRC-32 of each block of rows of x.bin, compared when it is first used
    y.npy           (N,) int64 labels
    ids.txt         one example per line: its path in the source, as a JSON string
    content.npy     (N, 8) uint8: the first bytes of the SHA-256 of each example's file, of images
    groups.npy      (N,) int64: of examples that must not be parted by a split, where there are such
    chunks.txt      of features: examples and SHA-256 of each piece of x.bin, to go on from
"""

import contextlib
import errno
import hashlib
import io
import json
import math
import mmap
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import numpy as np
import torch
from filelock import BaseFileLock, FileLock, Timeout
from numpy.typing import NDArray
from torch import Generator, Tensor

from alexnet import marks
from alexnet.atomic import digest, disk_error, read_object, sealed, sync, writing
from alexnet.data.listing import Paths
from alexnet.errors import DataError, DiskError, RecipeError
from alexnet.ranks import WHOLE, Sharding
from alexnet.runtime import memory_limit

VERSION = 1
KINDS = ("uint8", "float16")  # of images, of features
# beside its store.json, where it has them
FILES = {marks.ARRAY, "ids.txt", "crc32.npy", "y.npy", "content.npy", "groups.npy", "chunks.txt"}
PACKING, LOCK = ".packing-", ".lock"  # a Store that is written; beside it, locked as long as it is
BLOCK = 2**20  # bytes of x.bin, at least, that have one checksum
AT_ONCE = 32  # blocks that are read together to be checked
PIECE = 2**17  # and that are read in a row where not all is shuffled with all
SMALL = 2**25  # bytes of arrays that are read as a whole before the first batch
REPACK = "Delete this folder; it is packed again from the source when next used."


Indices = NDArray[np.int64]  # of examples
Mix = Callable[[Tensor, Generator], tuple[Tensor, float]]  # `augment.mix`


def block_of(row: int, size: int = BLOCK) -> int:
    """How many examples of so many bytes each lie together in a block of so many."""
    return max(1, -(-size // max(1, row)))


class CheckedArray:
    """An array on disk that reads as a NumPy array does: [...], shape, dtype, nbytes, len().

    A block of rows is compared with its checksum when it is first used, which costs a quarter of a
    second per GB, once, and nothing when it is opened.
    """

    def __init__(
        self, store: Path, array: NDArray[Any], rows: int, sums: NDArray[np.uint32] | None
    ) -> None:
        """Args: rows: of a block; sums: of the blocks, None where there are none (0.1.0)."""
        self.store, self.array, self.rows, self.sums = store, array, rows, sums
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.nbytes = array.nbytes
        self.unchecked = np.ones(0 if sums is None else len(sums), dtype=bool)
        self.checked = sums is None  # all of it

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if not self.checked:
            rows = key[0] if isinstance(key, tuple) else key
            if not (isinstance(rows, np.ndarray) and rows.dtype.kind in "iu"):
                rows = np.arange(len(self))[rows]
            self._check(rows // self.rows)
        found: NDArray[Any] = self.array[key]
        return found

    def ahead(self, rows: Indices) -> None:
        """Asks the system to read rows, sorted, that will soon be wanted, where it knows how."""
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            self._ahead(int(run[0]), int(run[-1]) + 1)

    def _ahead(self, start: int, stop: int) -> None:
        if self._lent:
            size = self.nbytes // len(self)
            begin = start * size // mmap.PAGESIZE * mmap.PAGESIZE
            self._lent.madvise(mmap.MADV_WILLNEED, begin, stop * size - begin)

    def only_what_is_wanted(self) -> None:
        """From here on the system reads what is looked at or asked for ahead, and nothing around
        it, where it knows how: of what does not fit into memory that would only push out the
        rest, megabytes for each image on some systems."""
        if self._lent:
            self._lent.madvise(mmap.MADV_RANDOM)

    @property
    def _lent(self) -> Any:
        """The memory map, where the system takes advice."""
        found = getattr(self.array, "_mmap", None)
        return found if hasattr(found, "madvise") else None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype, copy=copy)

    def _check(self, blocks: NDArray[np.int64]) -> None:
        """DataError if one of the blocks is not what was written."""
        assert self.sums is not None  # noqa: S101  else all is checked
        wanted = np.unique(blocks[self.unchecked[blocks]])
        for place, block in enumerate(wanted):
            if place % AT_ONCE == 0:
                for one in wanted[place : place + AT_ONCE]:
                    self._ahead(int(one) * self.rows, min((int(one) + 1) * self.rows, len(self)))
            if not self._is_sound(int(block)):
                rows = self._rows_of(int(block))
                raise DataError(
                    f"the Store {self.store} is damaged: examples {rows.start} to {rows.stop - 1} "
                    "of x.bin are not what was written.",
                    REPACK,
                )
            self.unchecked[block] = False
        self.checked = not self.unchecked.any()

    def damaged(self) -> Iterator[range]:
        """Which bytes of the file are not what was written, by blocks. Reads all of them."""
        size = self.nbytes // len(self)
        for block in range(0 if self.sums is None else len(self.sums)):
            if not self._is_sound(block):
                rows = self._rows_of(block)
                yield range(rows.start * size, rows.stop * size)

    def _rows_of(self, block: int) -> range:
        return range(block * self.rows, min((block + 1) * self.rows, len(self)))

    def _is_sound(self, block: int) -> bool:
        rows = self._rows_of(block)
        part = np.ascontiguousarray(self.array[rows.start : rows.stop]).reshape(-1).view(np.uint8)
        return bool(zlib.crc32(part.data) == cast(NDArray[np.uint32], self.sums)[block])


class Info(dict[str, Any]):
    """What store.json says; DataError if it does not."""

    def __init__(self, path: Path, said: dict[str, Any]) -> None:
        super().__init__(said)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise DataError(f"the Store {self.path} is damaged: it has no {key!r}.", REPACK)


@dataclass(frozen=True)
class Store:
    """A packed data set, opened for reading. Opening reads the JSON and maps the array; no image is
    touched. Whatever is read is compared with its checksum."""

    path: Path
    x: NDArray[Any]  # (N, C, H, W) uint8 or (N, D) float16, memory-mapped; a CheckedArray
    info: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the Store at `path`.

        Raises:
            DataError: not a Store, one of another version, or one cut short.
        """
        try:
            info = read_object(path / marks.STORE)
            version, shape, kind = info["version"], tuple(info["shape"]), info["dtype"]
            rows = int(info.get("block", 1))
            if len(shape) > 4 or not all(isinstance(one, int) and one > 0 for one in shape):
                raise ValueError(f"a shape of {shape}")
            # NumPy reads a type's name as Python, and warns of names that are to go
            if not shape or kind not in KINDS or not 1 <= rows < 2**63:
                raise ValueError(f"an array of {kind} in blocks of {rows}")
            dtype = np.dtype(kind)
            size = math.prod(shape) * dtype.itemsize
            check_info(info, shape[0])
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f"{path} is not a Store: its {marks.STORE} cannot be used ({reason}).", REPACK
            ) from error
        if version != VERSION:
            raise DataError(
                f"{path} is a Store of version {version}; this alexnet reads version {VERSION}.",
                REPACK,
            )
        found = (path / marks.ARRAY).stat().st_size if (path / marks.ARRAY).exists() else 0
        if found != size:
            raise DataError(
                f"the Store {path} is damaged: x.bin has {found:,} bytes, expected {size:,}.",
                REPACK,
            )
        array = np.memmap(path / marks.ARRAY, dtype=dtype, mode="r", shape=shape)
        store = cls(path, array, Info(path, info))
        sums = store._array("crc32.npy") if "block" in info else None
        if sums is not None and sums.shape != (-(-shape[0] // rows),):
            raise DataError(f"the Store {path} is damaged: its blocks are not its own.", REPACK)
        checked = CheckedArray(path, array, rows, sums)
        return replace(store, x=cast(NDArray[Any], checked))

    def _sound(self, name: str) -> bytes:
        """The content of a file; DataError if it is not what was written."""
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise DataError(
                f"the Store {self.path} is damaged: {name} cannot be read ({error.strerror}).",
                REPACK,
            ) from error
        expected = self.info["sha256"].get(name, "none")
        self._compare(name, hashlib.sha256(content).hexdigest(), expected)
        return content

    def _compare(self, name: str, found: str, expected: str) -> None:
        if found != expected:
            raise DataError(
                f"the Store {self.path} is damaged: {name} has checksum {found[:12]}, expected "
                f"{expected[:12]}.",
                REPACK,
            )

    def _array(self, name: str) -> NDArray[Any]:
        found: NDArray[Any] = np.load(io.BytesIO(self._sound(name)), allow_pickle=False)
        return found

    @cached_property
    def y(self) -> NDArray[np.int64]:
        """(N,) labels, indices into `classes`."""
        return self._array("y.npy")

    @cached_property
    def ids(self) -> Sequence[str]:
        """N paths inside the source."""
        return Paths(json.loads(line) for line in io.BytesIO(self._sound("ids.txt")))

    @cached_property
    def content(self) -> NDArray[np.uint8] | None:
        """(N, 8) the beginning of each file's SHA-256; None in Stores of 0.1.0 and of features."""
        return self._array("content.npy") if "content.npy" in self.info["sha256"] else None

    @cached_property
    def groups(self) -> NDArray[np.int64] | None:
        """(N,) what belongs together has the same number; None where nothing does."""
        return self._array("groups.npy") if "groups.npy" in self.info["sha256"] else None

    @cached_property
    def drawn(self) -> NDArray[np.int64]:
        """(N,) the labels by which splits are drawn: `y` as it was before a table of changes."""
        labels = self.y.copy()
        for row, label in self.info.get("changes", {}).get("drawn", {}).items():
            labels[int(row)] = label
        return labels

    @property
    def classes(self) -> list[str]:
        """Class identifiers: folder names or WordNet ids. The index is the label."""
        return list(self.info["classes"])

    @property
    def names(self) -> list[str]:
        """Readable class names, all different, in the order of `classes`."""
        return list(self.info["names"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every example's split, class, path and content, whatever the container or
        the size packed."""
        return str(self.info["fingerprint"])

    def split(self, name: str) -> NDArray[np.int64]:
        """Indices of the split `name` ("train", "val", "test" or "all"); none if there is no such
        split."""
        start, stop = self.info["splits"].get(name, (0, 0))
        return np.arange(start, stop)

    def __len__(self) -> int:
        return len(self.x)

    def verify(self) -> None:
        """Reads everything and compares checksums; DataError names the file that has changed."""
        for name, expected in self.info["sha256"].items():
            try:
                found = digest(self.path / name)
            except (OSError, ValueError) as error:  # ValueError: no file can have such a name
                found = str(error)
            self._compare(name, found, expected)


def check_info(info: dict[str, Any], examples: int) -> None:
    """ValueError if what store.json says, as far as it does, cannot be: that of 0.1.0 has no
    checksum."""
    known: dict[str, Callable[[Any], bool]] = {
        "classes": _are_words,
        "names": _are_words,
        "left_out": _are_words,
        "fingerprint": lambda one: isinstance(one, str),
        "source": lambda one: isinstance(one, str),
        "sha256": lambda one: isinstance(one, dict) and _are_words(list(one.values())),
        "splits": lambda one: all(
            isinstance(start, int) and isinstance(stop, int) and 0 <= start <= stop <= examples
            for start, stop in one.values()
        ),
        "changes": lambda one: (
            isinstance(one["table"], str)
            and all(isinstance(one[key], int) for key in ("changed", "left_out"))
            and all(
                int(row) in range(examples) and label in range(len(info["classes"]))
                for row, label in one["drawn"].items()
            )
        ),
        "bad": lambda one: all(
            _are_words([each["id"], each["class"], each["reason"]]) for each in one
        ),
    }
    for key, is_sound in known.items():
        with contextlib.suppress(AttributeError):
            if key not in info or is_sound(info[key]):
                continue
        raise ValueError(f"{key} is not what it should be")
    if {"classes", "names"} <= set(info) and len(info["classes"]) != len(info["names"]):
        raise ValueError("there are not as many classes as names")


def _are_words(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(one, str) for one in found)


class StoreWriter:
    """Writes a Store aside, a chunk at a time, and gives it its name when it is complete.

    A writer with a name keeps what it has when it is interrupted, and a later one of that name goes
    on from there: every chunk is noted with its checksum, and what does not match is written again.
    """

    def __init__(self, parent: Path, shape: Sequence[int], dtype: str, name: str = "") -> None:
        """`shape` is that of one example. The new Store becomes a folder in `parent`."""
        self.parent, self.shape, self.dtype, self.name = parent, tuple(shape), np.dtype(dtype), name
        self.sum = hashlib.sha256()
        self.row = int(np.prod(self.shape)) * self.dtype.itemsize  # bytes of an example
        self.rows = block_of(self.row)  # examples of a block
        self.sums: list[int] = []  # of the blocks, the last one perhaps not whole yet
        self.count = 0  # examples written
        self.alive: BaseFileLock | None = None  # held while something is written that cannot go on
        with writing(parent):
            parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(parent)
            if name:
                self.aside = parent / f".unfinished-{name}"
                self.aside.mkdir(exist_ok=True)
            else:
                self.aside = parent / f"{PACKING}{secrets.token_hex(8)}"
            try:
                self._begin()
            except OSError:
                self._end(keep=bool(name))
                raise

    def _begin(self) -> None:
        if not self.name:
            self.alive = FileLock(f"{self.aside}{LOCK}")
            self.alive.acquire()
            self.aside.mkdir(mode=0o700)
        self.file = open(self.aside / marks.ARRAY, "ab", buffering=0)
        if self.name:
            self._keep_what_is_sound()

    def _keep_what_is_sound(self) -> None:
        """Cuts x.bin and chunks.txt behind the last chunk in a row whose checksum is right."""
        chunks = self.aside / "chunks.txt"
        noted = chunks.read_text(encoding="ascii", errors="replace") if chunks.exists() else ""
        kept: list[str] = []
        size = self.row
        left = (self.aside / marks.ARRAY).stat().st_size
        with open(self.aside / marks.ARRAY, "rb") as file:
            for line in noted.splitlines(keepends=True):
                examples, _, checksum = line.strip().partition(" ")
                # A damaged count may ask for more than there is, and get bytes of the right sum.
                asked = int(examples) * size if examples.isdecimal() else 0
                data = file.read(asked) if 0 < asked <= left else b""
                if not data or hashlib.sha256(data).hexdigest() != checksum or line[-1] != "\n":
                    break
                left -= asked
                kept.append(line)
                self._add(data)
        self.file.truncate(self.count * size)
        chunks.write_text("".join(kept), encoding="ascii")

    def _add(self, data: bytes | memoryview) -> None:
        """Counts whole examples, and adds them to the checksums."""
        self.sum.update(data)
        view, block = memoryview(data), self.rows * self.row
        while view:
            filled = self.count * self.row % block
            part = view[: block - filled]
            self.sums[len(self.sums) - bool(filled) :] = [
                zlib.crc32(part, self.sums[-1] if filled else 0)
            ]
            self.count += len(part) // self.row
            view = view[len(part) :]

    def written(self) -> NDArray[Any]:
        """(N, *shape) what has been written so far, to look at; N is not 0."""
        return np.memmap(self.aside / marks.ARRAY, self.dtype, "r", shape=(self.count, *self.shape))

    def require_space(self, examples: int) -> None:
        """DiskError at once if so many examples cannot fit, instead of after an hour."""
        needed = (examples - self.count) * self.row
        with writing(self.aside):
            free = shutil.disk_usage(self.aside).free
        if free < needed:
            raise disk_error(OSError(errno.ENOSPC, "too small"), self.aside, needed)

    def append(self, x: NDArray[Any]) -> None:
        """Adds the examples x (n, *shape)."""
        data = np.ascontiguousarray(x, dtype=self.dtype).reshape(-1).view(np.uint8).data
        with writing(self.aside / marks.ARRAY):
            written = 0
            while written < len(data):  # an unbuffered file may take less than it is given
                written += self.file.write(data[written:])
            self._add(data)
            if self.name:
                with open(self.aside / "chunks.txt", "a", encoding="ascii") as file:
                    file.write(f"{len(x)} {hashlib.sha256(data).hexdigest()}\n")

    def finish(
        self,
        name: str,
        info: dict[str, Any],
        y: NDArray[np.int64],
        ids: Iterable[str],
        content: NDArray[np.uint8] | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> Path:
        """Completes the Store as `parent/name` with labels y (N,), N ids, the beginnings of the
        checksums of N files (N, 8), and numbers of groups (N,); where one of that name is already,
        that one stays."""
        path = self.parent / name
        with writing(path):
            os.fsync(self.file.fileno())
            self.file.close()
            arrays = {"y": np.asarray(y, dtype=np.int64)}
            if content is not None:
                arrays["content"] = np.asarray(content, dtype=np.uint8)
            if groups is not None:
                arrays["groups"] = np.asarray(groups, dtype=np.int64)
            self._write_rest(info, arrays, ids)
            try:
                os.rename(self.aside, path)
            except OSError:
                if not (path / marks.STORE).exists():
                    raise
            sync(self.parent)
        return path

    def __enter__(self) -> Self:
        return self

    def _write_rest(
        self, info: dict[str, Any], arrays: dict[str, NDArray[Any]], ids: Iterable[str]
    ) -> None:
        """Every file but x.bin."""
        with open(self.aside / "ids.txt", "w", encoding="utf-8", newline="\n") as lines:
            lines.writelines(f"{json.dumps(one)}\n" for one in ids)
        files = ["ids.txt"]
        for name, array in {"crc32": np.array(self.sums, dtype=np.uint32), **arrays}.items():
            np.save(self.aside / f"{name}.npy", array)
            files.append(f"{name}.npy")
        sums = {marks.ARRAY: self.sum.hexdigest()}
        for file in files:
            sums[file] = digest(self.aside / file)
        full = {
            "version": VERSION,
            "shape": (self.count, *self.shape),
            "dtype": self.dtype.name,
            "block": self.rows,
            **info,
            "sha256": sums,
        }
        (self.aside / marks.STORE).write_bytes(sealed(json.dumps(full, indent=1).encode("ascii")))
        for file in (*files, marks.STORE):
            sync(self.aside / file)

    def _end(self, keep: bool) -> None:
        """Takes away what was not finished, but for what is to be gone on from."""
        if not keep:
            shutil.rmtree(self.aside, ignore_errors=True)
        if self.alive is not None:
            with contextlib.suppress(OSError):  # what went wrong before is what is told
                self.alive.release()
                Path(self.alive.lock_file).unlink(missing_ok=True)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
        # on a full disk the space of what is unfinished is wanted back
        self._end(keep=bool(self.name) and error is not None and not isinstance(error, DiskError))


def reopen_for_writing(path: Path) -> None:
    """Turns a damaged Store back into an unfinished one, whose writer keeps what is sound."""
    aside = path.parent / f".unfinished-{path.name}"
    with writing(path):
        shutil.rmtree(aside, ignore_errors=True)
        (path / marks.STORE).unlink(missing_ok=True)
        os.rename(path, aside)


def remove_leftovers(parent: Path) -> None:
    """Deletes what writers left behind: those that cannot go on where they are not at work any
    more, the others after a month."""
    for lock in parent.glob(f"{PACKING}*{LOCK}"):
        with contextlib.suppress(OSError, Timeout), FileLock(lock, timeout=0):  # at work
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()
    for aside in filter(Path.is_dir, parent.glob(f"{PACKING}*")):  # of 0.1.0, without a lock
        with contextlib.suppress(OSError):
            if not Path(f"{aside}{LOCK}").exists() and _age(aside) > 86_400:
                shutil.rmtree(aside, ignore_errors=True)
    for aside in parent.glob(".unfinished-*"):
        with contextlib.suppress(OSError):
            if _age(aside) > 30 * 86_400:
                shutil.rmtree(aside, ignore_errors=True)


def _age(aside: Path) -> float:
    """Seconds since an unfinished Store was written to."""
    array = aside / marks.ARRAY
    return time.time() - (array if array.exists() else aside).stat().st_mtime


def keyed_generator(*key: int) -> Generator:
    """A CPU generator that depends on `key` alone, such as (seed, epoch, step): it needs no history
    and no state."""
    return Generator().manual_seed(keyed_seed(*key))


class Rows(NamedTuple):
    """Which rows of a batch a shard of it is."""

    start: int
    stop: int
    of: int  # rows of the whole batch


class ShardGenerator(Generator):
    """Whoever draws from it for the rows of a shard draws for the whole batch, and takes these."""

    rows: Rows | None = None


def seed_dropout(device: torch.device, *key: int) -> None:
    """Sets the generators that dropout draws from, so that they depend on `key` alone.

    `torch.manual_seed` does the same for all devices, with half a millisecond of ceremony.
    """
    torch.default_generator.manual_seed(keyed_seed(*key))
    if device.type == "cuda":
        torch.cuda.manual_seed(keyed_seed(*key))
    elif device.type == "mps":
        torch.mps.manual_seed(keyed_seed(*key))


def keyed_seed(*key: int) -> int:
    """63 well-mixed bits of `key`; its length counts, since SeedSequence pads with zeros."""
    return int(np.random.SeedSequence([len(key), *key]).generate_state(1, np.uint64)[0] >> 1)


@dataclass(frozen=True)
class Arrays:
    """Examples in memory: what `Batches` needs of a Store."""

    x: NDArray[Any]  # (N, ...)
    y: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.x)


class Shard(NamedTuple):
    """Some rows of a batch, ready to train on."""

    x: Tensor  # (B, ...)
    y: Tensor  # (B,)
    rows: Rows
    own: float = 1.0  # the part of each x that is of its y; the rest is of the y before it

    @classmethod
    def whole(cls, x: Tensor, y: Tensor, own: float = 1.0) -> Self:
        """All of a batch."""
        return cls(x, y, Rows(0, len(x), len(x)), own)


class Batch(NamedTuple):
    """What this process computes of a batch: its only shard, or some of several."""

    shards: Sequence[Shard]
    sharding: Sharding = WHOLE


class Batches:
    """Batches of some examples of a Store: ordered, moved to the device, transformed.

    The order of an epoch depends on (seed, epoch), the augmentation of a batch on (seed, epoch,
    step), and on nothing else. Each epoch uses every example once, in batches whose sizes differ by
    one at most; a balanced one as many, each class as often as another. Of several Stores of the
    same examples (features of an image and of its mirror) each epoch takes one for every example,
    in turn.
    """

    def __init__(
        self,
        store: Store | Arrays | Sequence[Store],
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        transform: Any,
        device: torch.device,
        shuffle: bool = False,
        balanced: bool = False,
        window: int = 0,
        seed: int = 0,
        sharding: Sharding = WHOLE,
        mix: Mix | None = None,
    ) -> None:
        """`transform` is an `augment.Transform`; `indices` (n,) are the examples to use. `balanced`
        says which of them an epoch has: of small classes some several times, of large ones not
        all, but others in the next epoch. With a `window` as many examples are shuffled with one
        another at a time, of blocks that lie together, whose order is of chance; they are read
        before they are needed. `sharding` and `mix`, which mixes what the transform has made, are
        for `shards`.

        Raises:
            RecipeError: a shard would have fewer than two examples.
        """
        self.stores: Sequence[Store | Arrays] = (
            [store] if isinstance(store, Store | Arrays) else list(store)
        )
        self.indices = indices
        self.transform, self.device, self.shuffle, self.seed = transform, device, shuffle, seed
        self.balanced, self.window = balanced, window
        self.steps = -(-len(indices) // batch_size)
        self.sharding, self.mix = sharding, mix
        if sharding.count > 1 and len(indices) // self.steps < 2 * sharding.count:
            raise RecipeError(
                f"{len(indices):,} training images in batches of {batch_size} are "
                f"{len(indices) // self.steps} or more each, too few for {sharding.count} shards "
                "of at least 2.",
                "Use fewer --shards (or processes), or a larger --batch-size.",
            )
        self.resident = _resident(self.stores, device, often=shuffle)
        arrays: list[object] = [one.x for one in self.stores]
        on_disk = [x for x in arrays if isinstance(x, CheckedArray)]
        self.beyond = 0 < memory_limit() < sum(x.nbytes for x in on_disk)
        if self.beyond:
            for x in on_disk:
                x.only_what_is_wanted()
        # where in the turn an example begins, so that no epoch has all images or all mirrors
        length = len(self.stores[0])
        self.turn = torch.randint(len(self.stores), (length,), generator=keyed_generator(seed))

    @classmethod
    def of_arrays(
        cls,
        x: NDArray[Any] | Tensor,
        y: NDArray[Any] | Tensor | Sequence[int],
        *,
        batch_size: int,
        transform: Any = None,
        device: str | torch.device = "cpu",
        shuffle: bool = False,
        seed: int = 0,
    ) -> Self:
        """Batches of examples in memory, for `fit`.

        Args:
            x: (N, ...) numbers; floating ones become float32, others stay as they are.
            y: (N,) labels from 0.
            batch_size: at most so many in a batch.
            transform: what makes of a batch of x and a torch.Generator what the model sees;
                nothing by default.
            device: where batches go.
            shuffle: another order in each epoch, which (seed, epoch) determine.

        Raises:
            DataError: x or y are no such arrays, or not of one length.
        """
        arrays = _in_memory(x, y)
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}, expected at least 1.")
        return cls(
            arrays,
            np.arange(len(arrays)),
            batch_size=batch_size,
            transform=transform or (lambda x, generator: x),
            device=torch.device(device),
            shuffle=shuffle,
            seed=seed,
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.steps

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch from step `start` on: x (B, ...) as the transform makes it, y
        (B,) int64."""
        for step, chosen in self._chosen(epoch, start):
            yield self._made(chosen, epoch, keyed_generator(self.seed, epoch, step))

    def shards(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The same batches, as this process trains on them: whole, or its shards of them, for
        which the transform draws what it draws for these rows in the whole batch."""
        for step, chosen in self._chosen(epoch, start):
            if self.sharding.is_whole:
                generator = keyed_generator(self.seed, epoch, step)
                yield Batch([Shard.whole(*self._mixed(chosen, epoch, generator))])
                continue
            pieces, begin = chosen.tensor_split(self.sharding.count), 0
            found = []
            for place, piece in enumerate(pieces):
                rows = Rows(begin, begin + len(piece), len(chosen))
                begin = rows.stop
                if place in self.sharding.mine:
                    generator = ShardGenerator()
                    generator.manual_seed(keyed_seed(self.seed, epoch, step))
                    generator.rows = rows
                    x, y, own = self._mixed(piece, epoch, generator)
                    found.append(Shard(x, y, rows, own))
            yield Batch(found, self.sharding)

    def _chosen(self, epoch: int, start: int) -> Iterator[tuple[int, Tensor]]:
        """Of each step of an epoch the examples."""
        order = torch.from_numpy(self._even(epoch) if self.balanced else self.indices)
        windows: Sequence[Tensor] = [order]
        if self.shuffle:
            windows = self._shuffled(order, keyed_generator(self.seed, epoch))
        pieces = torch.cat(tuple(windows)).tensor_split(max(1, self.steps))
        begin, expected = sum(map(len, pieces[:start])), 0
        for step, chosen in enumerate(pieces[start:], start):
            if not len(chosen):
                return
            if len(windows) > 1:  # the next one when half of one is over
                now = (begin + self.window // 2) // self.window
                for window in windows[max(expected, now) : now + 1]:
                    self._expect(window)
                begin, expected = begin + len(chosen), now + 1
            elif self.beyond:  # the next batch
                for piece in pieces[step + (step > start) : step + 2]:
                    self._expect(piece)
            yield step, chosen

    def _expect(self, window: Tensor) -> None:
        for store in self.stores:
            if isinstance(store.x, CheckedArray):
                store.x.ahead(np.sort(window.numpy()))

    def _shuffled(self, order: Tensor, generator: Generator) -> Sequence[Tensor]:
        """Examples in an order of chance, by windows."""
        windows: Sequence[Tensor] = [order]
        if 0 < self.window < len(order):
            x = self.stores[0].x
            together = block_of(x.nbytes // len(x), PIECE)
            _, place = torch.unique(order // together, return_inverse=True)
            turn = torch.randperm(int(place.max()) + 1, generator=generator)
            windows = order[turn[place].argsort(stable=True)].split(self.window)
        return [one[torch.randperm(len(one), generator=generator)] for one in windows]

    def _made(self, chosen: Tensor, epoch: int, generator: Generator) -> tuple[Tensor, Tensor]:
        x = self._gather(chosen, epoch)
        y = torch.from_numpy(self.stores[0].y[chosen.numpy()]).to(self.device)
        return self.transform(x, generator), y

    def _mixed(
        self, chosen: Tensor, epoch: int, generator: Generator
    ) -> tuple[Tensor, Tensor, float]:
        x, y = self._made(chosen, epoch, generator)
        if self.mix is None:
            return x, y, 1.0
        x, own = self.mix(x, generator)
        return x, y, own

    def _even(self, epoch: int) -> Indices:
        """As many examples as there are, the same number of each class: the next ones in rounds
        through all of a class, each round in an order of its own."""
        labels = self.stores[0].y[self.indices]
        known = np.unique(labels)
        found = []
        for place, label in enumerate(known):
            members = self.indices[labels == label]
            # what does not divide goes round, too
            turn = (place + epoch) % len(known)
            count = len(self.indices) // len(known) + (turn < len(self.indices) % len(known))
            start = epoch * (len(self.indices) // len(known))
            first, last = start // len(members), (start + count - 1) // len(members)
            rounds = [
                members[np.random.default_rng(keyed_seed(self.seed, int(label), one)).permutation(
                    len(members)
                )]
                for one in range(first, last + 1)
            ]  # fmt: skip
            found.append(np.concatenate(rounds)[start - first * len(members) :][:count])
        return np.concatenate(found)

    def _gather(self, chosen: Tensor, epoch: int) -> Tensor:
        if len(self.stores) == 1 and self.resident is None:
            return self._rows(0, chosen)
        which = (self.turn[chosen] + epoch) % len(self.stores)
        if self.resident is not None:
            place = which * len(self.stores[0]) + chosen
            return self.resident[place.to(self.device)]
        parts = [(which == number).nonzero()[:, 0] for number in range(len(self.stores))]
        x = torch.cat([self._rows(number, chosen[part]) for number, part in enumerate(parts)])
        return x[torch.cat(parts).argsort().to(x.device)]

    def _rows(self, number: int, chosen: Tensor) -> Tensor:
        found = np.asarray(self.stores[number].x[chosen.numpy()])
        return torch.from_numpy(found).to(self.device)


def _in_memory(x: Any, y: Any) -> Arrays:
    x, y = (np.asarray(one.detach().cpu() if isinstance(one, Tensor) else one) for one in (x, y))
    if y.dtype.kind not in "iu" or y.ndim != 1 or not len(y) or y.min() < 0:
        raise DataError(
            f"y is an array of {y.dtype}, shape {y.shape}, expected labels: whole numbers from 0, "
            "one for each example.",
            "Of names: numpy.unique(names, return_inverse=True)[1].",
        )
    if x.dtype.kind not in "biuf" or x.ndim < 2 or len(x) != len(y):
        raise DataError(
            f"x is an array of {x.dtype}, shape {x.shape}, expected {len(y)} examples of numbers, "
            f"shape ({len(y)}, ...), because there are so many labels."
        )
    kind = np.dtype(np.float32) if x.dtype.kind == "f" else x.dtype.newbyteorder("=")
    return Arrays(x.astype(kind, copy=False), y.astype(np.int64))


def _resident(stores: Sequence[Store | Arrays], device: torch.device, often: bool) -> Tensor | None:
    """The whole arrays, one after the other, on a CUDA device, if they take at most a third of the
    free memory there: then no batch is copied. Elsewhere small ones that are gone through often:
    gathering the rows of several views takes a tenth of a step of a head, and less than half of
    that from one array."""
    size = sum(store.x.nbytes for store in stores)
    if device.type == "cuda":
        most = torch.cuda.mem_get_info(device)[0] // 3
    else:
        most = SMALL if often else -1
    if size > most:
        return None
    return torch.cat([torch.from_numpy(np.array(store.x)).to(device) for store in stores])
