"""Store: a data set as one memory-mapped array and a small JSON. Batches: shuffled, moved and
transformed pieces of one.

STORE/
    store.json      version, shape, classes, splits, origin, checksums
    x.bin           (N, C, H, W) uint8 images, or (N, D) float16 features, in C order
    y.npy           (N,) int64 labels
    ids.txt         one example per line: its path in the source, as a JSON string
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from alexnet.atomic import disk_error, sync
from alexnet.errors import DataError

VERSION = 1


@dataclass(frozen=True)
class Store:
    """A packed data set, opened for reading. Opening reads the JSON and maps the array; no image is
    touched."""

    path: Path
    x: NDArray[Any]  # (N, C, H, W) uint8 or (N, D) float16, memory-mapped
    info: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the Store at `path`.

        Raises:
            DataError: not a Store, one of another version, or one cut short.
        """
        repack = "Delete this folder; it is packed again from the source when next used."
        try:
            info = json.loads((path / "store.json").read_text(encoding="utf-8"))
            version, shape, dtype = info["version"], tuple(info["shape"]), np.dtype(info["dtype"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f"{path} is not a Store: its store.json cannot be used ({reason}).", repack
            ) from error
        if version != VERSION:
            raise DataError(
                f"{path} is a Store of version {version}; this alexnet reads version {VERSION}.",
                repack,
            )
        expected = int(np.prod(shape)) * dtype.itemsize
        found = (path / "x.bin").stat().st_size if (path / "x.bin").exists() else 0
        if found != expected:
            raise DataError(
                f"the Store {path} is damaged: x.bin has {found:,} bytes, expected {expected:,}.",
                repack,
            )
        return cls(path, np.memmap(path / "x.bin", dtype=dtype, mode="r", shape=shape), info)

    @cached_property
    def y(self) -> NDArray[np.int64]:
        """(N,) labels, indices into `classes`."""
        labels: NDArray[np.int64] = np.load(self.path / "y.npy", allow_pickle=False)
        return labels

    @cached_property
    def ids(self) -> list[str]:
        """N paths inside the source."""
        return [
            json.loads(line)
            for line in (self.path / "ids.txt").read_text(encoding="utf-8").splitlines()
        ]

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
            with open(self.path / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                raise DataError(
                    f"the Store {self.path} is damaged: {name} has checksum {found[:12]}, expected "
                    f"{expected[:12]}.",
                    "Delete this folder; it is packed again from the source when next used.",
                )


class StoreWriter:
    """Writes a Store aside, a chunk at a time, and gives it its name when it is complete."""

    def __init__(self, parent: Path, shape: Sequence[int], dtype: str) -> None:
        """`shape` is that of one example. The new Store becomes a folder in `parent`."""
        self.parent, self.shape, self.dtype = parent, tuple(shape), np.dtype(dtype)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(parent)
            self.aside = Path(tempfile.mkdtemp(dir=parent, prefix=".packing-"))
            self.file = open(self.aside / "x.bin", "wb")
        except OSError as error:
            raise disk_error(error, parent) from error
        self.sum = hashlib.sha256()
        self.y: list[int] = []
        self.ids: list[str] = []

    def require_space(self, examples: int) -> None:
        """DiskError at once if so many examples cannot fit, instead of after an hour."""
        needed = examples * int(np.prod(self.shape)) * self.dtype.itemsize
        if shutil.disk_usage(self.aside).free < needed:
            raise disk_error(OSError(errno.ENOSPC, "too small"), self.aside, needed)

    def append(self, x: NDArray[Any], y: Sequence[int], ids: Sequence[str]) -> None:
        """Adds examples: x (n, *shape), y (n), ids (n)."""
        data = np.ascontiguousarray(x, dtype=self.dtype).tobytes()
        try:
            self.file.write(data)
        except OSError as error:
            raise disk_error(error, self.aside / "x.bin") from error
        self.sum.update(data)
        self.y.extend(y)
        self.ids.extend(ids)

    def finish(self, name: str, info: dict[str, Any]) -> Path:
        """Completes the Store as `parent/name`; where one of that name is already, that one
        stays."""
        path = self.parent / name
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            np.save(self.aside / "y.npy", np.asarray(self.y, dtype=np.int64))
            lines = "".join(json.dumps(one) + "\n" for one in self.ids)
            (self.aside / "ids.txt").write_text(lines, encoding="utf-8")
            sums = {"x.bin": self.sum.hexdigest()}
            for file in ("y.npy", "ids.txt"):
                sums[file] = hashlib.sha256((self.aside / file).read_bytes()).hexdigest()
            shape = (len(self.y), *self.shape)
            full = {
                "version": VERSION,
                "shape": shape,
                "dtype": self.dtype.name,
                **info,
                "sha256": sums,
            }
            (self.aside / "store.json").write_text(json.dumps(full, indent=1), encoding="utf-8")
            for file in ("y.npy", "ids.txt", "store.json"):
                sync(self.aside / file)
            try:
                os.rename(self.aside, path)
            except OSError:
                if not (path / "store.json").exists():
                    raise
            sync(self.parent)
        except OSError as error:
            raise disk_error(error, path) from error
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.file.closed:
            try:
                self.file.close()  # flushes, and so fails on a full disk
            except OSError:
                pass
        shutil.rmtree(self.aside, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Deletes what writers that were killed more than a day ago left behind."""
    for aside in parent.glob(".packing-*"):
        with contextlib.suppress(OSError):  # another process may just have finished it
            if time.time() - (aside / "x.bin").stat().st_mtime > 86_400:
                shutil.rmtree(aside, ignore_errors=True)


def keyed_generator(*key: int) -> Generator:
    """A CPU generator that depends on `key` alone, such as (seed, epoch, step): it needs no history
    and no state."""
    return Generator().manual_seed(keyed_seed(*key))


def keyed_seed(*key: int) -> int:
    """63 well-mixed bits of `key`; its length counts, since SeedSequence pads with zeros."""
    return int(np.random.SeedSequence([len(key), *key]).generate_state(1, np.uint64)[0] >> 1)


class Batches:
    """Batches of some examples of a Store: ordered, moved to the device, transformed.

    The order of an epoch depends on (seed, epoch), the augmentation of a batch on (seed, epoch,
    step), and on nothing else. Each epoch uses every example once, in batches whose sizes differ by
    one at most.
    """

    def __init__(
        self,
        store: Store,
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        transform: Any,
        device: torch.device,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        """`transform` is an `augment.Transform`; `indices` (n,) are the examples of `store` to
        use."""
        self.store, self.indices = store, indices
        self.transform, self.device, self.shuffle, self.seed = transform, device, shuffle, seed
        self.steps = -(-len(indices) // batch_size)
        self.resident = _resident(store, device)

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.steps

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch from step `start` on: x (B, ...) as the transform makes it, y
        (B,) int64."""
        order = torch.from_numpy(self.indices)
        if self.shuffle:
            order = order[torch.randperm(len(order), generator=keyed_generator(self.seed, epoch))]
        for step, chosen in enumerate(order.tensor_split(max(1, self.steps))[start:], start):
            if not len(chosen):
                return
            x = self._gather(chosen)
            y = torch.from_numpy(self.store.y[chosen.numpy()]).to(self.device)
            yield self.transform(x, keyed_generator(self.seed, epoch, step)), y

    def _gather(self, chosen: Tensor) -> Tensor:
        if self.resident is not None:
            return self.resident[chosen.to(self.device)]
        return torch.from_numpy(np.asarray(self.store.x[chosen.numpy()])).to(self.device)


def _resident(store: Store, device: torch.device) -> Tensor | None:
    """The whole array on a CUDA device, if it takes at most half of the free memory there: then no
    batch is copied."""
    if device.type != "cuda" or store.x.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return None
    return torch.from_numpy(np.array(store.x)).to(device)
