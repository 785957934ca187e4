"""The frozen part of a network, run once over a Store: what comes out is a Store of features, kept
in the cache and found again whatever is trained on top of it.

Shapes: N examples, B batch, D features. What decides the numbers is the key of a feature Store:
the frozen weights and layers, the data, the transform, the arithmetic. Other weights have another
key, so features of theirs are never mistaken for these.
"""

import contextlib
import copy
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from alexnet import ranks
from alexnet.atomic import writing
from alexnet.cache import cache_folder
from alexnet.console import progress, say, warn
from alexnet.data.augment import Transform
from alexnet.data.store import (
    Batches,
    Store,
    StoreWriter,
    keyed_generator,
    reopen_for_writing,
    seed_dropout,
)
from alexnet.errors import DataError, ModelError
from alexnet.network.description import Preprocessing
from alexnet.network.inference import evaluation_transforms
from alexnet.network.model import drops_for
from alexnet.ranks import WHOLE, Sharding

VERSION = 1  # of the arithmetic; part of every key
CHUNK = 512  # examples written at once
# images that go through the layers at once: on a CPU few, because maps that stay in its cache are
# worth more than long loops (measured in docs/log.md); on a GPU a whole chunk
CPU_BATCH = 16

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """One way of looking at every image: the centre, its mirror, or an augmented one."""

    name: str
    transform: Transform
    settings: dict[str, Any]  # JSON-ready; everything that decides what `transform` does


def evaluation_view(how: Preprocessing, mirror: bool = False) -> View:
    """The centre of every image, or its mirror image: what evaluation looks at. Whoever needs
    features of it finds those that others computed."""
    plain = how.to_dict() | {"views": None}
    centre, mirrored = evaluation_transforms(dataclasses.replace(how, views=2))
    if mirror:
        return View("mirror", mirrored, plain | {"mirror": True})
    return View("centre", centre, plain)


@dataclass(frozen=True)
class FeatureStores:
    """The features of some examples of a Store: one feature Store per view."""

    stores: list[Store]
    rows: Indices  # sorted; row i of each feature Store is example rows[i] of the Store of images

    def place(self, indices: Indices) -> Indices:
        """Where examples of the Store of images are in the feature Stores."""
        return np.searchsorted(self.rows, indices)


class FrozenPart:
    """The frozen layers, ready to be run fast: without gradients, in evaluation mode, their weights
    in the arithmetic of the device."""

    def __init__(
        self,
        body: nn.Sequential,
        device: torch.device,
        dtype: torch.dtype,
        dropout: bool = False,
        memory: "Remembered | None" = None,
    ) -> None:
        """`dropout` keeps the dropout of frozen layers at work; `memory` is what is known of single
        images in views that draw nothing at random, and is to be remembered of these."""
        self.digest, self.memory = body_digest(body), memory
        self.device, self.dtype = device, dtype
        fast = copy.deepcopy(body).eval().requires_grad_(False)
        fast.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.convolutions, self.after_convolutions = fast[:3], fast[3:]
        for layer, exact in zip(fast.modules(), body.modules(), strict=True):
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):  # statistics need the digits
                layer.float().load_state_dict(exact.state_dict())
            if isinstance(layer, nn.Dropout):
                layer.train(dropout)
        self.batch = CPU_BATCH if device.type == "cpu" else CHUNK

    @torch.no_grad()  # not inference mode, whose tensors cannot be trained on
    def __call__(self, x: Tensor) -> Tensor:
        """Features (B, D) in `dtype` of transformed images (B, 3, H, W)."""
        features: Tensor = self.after_convolutions(self.convolve(x))
        return features

    def convolve(self, x: Tensor) -> Tensor:
        """The convolutions, a few images at a time."""
        return torch.cat([self.convolutions(piece.to(self.dtype)) for piece in x.split(self.batch)])

    def after(self, transform: Transform) -> Transform:
        """`transform` and then the frozen layers, as one transform: images (B, C, H, W) uint8 to
        features (B, D) float32."""

        def both(x: Tensor, generator: Generator) -> Tensor:
            x = transform(x, generator)
            drops_for(self.after_convolutions, getattr(generator, "rows", None))
            seed_dropout(x.device, int(torch.randint(2**62, (1,), generator=generator)))
            return self(x).float()

        return both

    @torch.no_grad()
    def by_pieces(self, transform: Transform, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """`transform` and then the frozen layers, images (B, C, H, W) uint8 to features (B, D)
        float32, few of them large at any time. `seeds` and a piece's place key its randomness."""
        pieces = [
            self.convolve(transform(piece, keyed_generator(*seeds, place)))
            for place, piece in enumerate(x.split(self.batch))
        ]
        features: Tensor = self.after_convolutions(torch.cat(pieces))
        return features.float()

    def features_of(self, side: int) -> int:
        """D for images of `side` px."""
        blank = torch.zeros(1, 3, side, side, device=self.device)
        return int(self(blank.contiguous(memory_format=torch.channels_last)).shape[1])


class Remembered:
    """Features of single images in memory, by their pixels: data that changes by a few images at a
    time costs these few. What a picture's features are does not depend on the batch."""

    def __init__(self) -> None:
        self._known: dict[bytes, NDArray[np.float16]] = {}

    def features(
        self, frozen: FrozenPart, view: View, x: Tensor, seeds: Sequence[int] = ()
    ) -> Tensor:
        """(N, D) float32, rounded to float16, of images (N, C, H, W) uint8; only those that are not
        known yet are computed."""
        settings = json.dumps([frozen.digest, view.settings, list(x.shape[1:])]).encode()
        keys = [hashlib.sha256(settings + one.numpy().tobytes()).digest() for one in x.cpu()]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        if new:
            found = frozen.by_pieces(view.transform, x[new], seeds).half().cpu().numpy()
            self._known.update(zip([keys[place] for place in new], found, strict=True))
        return torch.from_numpy(np.stack([self._known[key] for key in keys])).float()


def body_digest(body: nn.Module) -> str:
    """A checksum of frozen layers: what they are, in order, and every weight. Dropout does not
    count: a frozen layer drops nothing."""
    found = hashlib.sha256()
    for layer in body.modules():
        if not isinstance(layer, nn.Sequential | nn.Dropout):
            found.update(repr(layer).encode())
    for tensor in body.state_dict().values():
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def feature_stores(
    frozen: FrozenPart, store: Store, rows: Indices, views: Sequence[View], side: int
) -> FeatureStores:
    """The features of examples `rows` (sorted) of a Store of images, computed where they are not in
    the cache yet. Memory stays flat; an interrupted computation goes on where it stopped.

    Args:
        frozen: the frozen layers.
        store: images.
        rows: (N,) the examples wanted. Where features of all examples are there, those are used.
        views: what to look at; a feature Store for each.
        side: side in px of the transformed images.

    Raises:
        DiskError: too little space; nothing is left behind.
        ModelError: a feature is not finite, or too large for float16.
    """
    width = frozen.features_of(side)
    folder = cache_folder() / "features"
    rows, missing = missing_views(frozen, store, rows, views)
    if missing:
        size = len(missing) * len(rows) * width * 2
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        say(
            f"the frozen layers run once: {len(rows):,} images, {len(missing)} "
            f"view{'s' if len(missing) > 1 else ''}, {width:,} features of float16, "
            f"{size / 2**30:.2f} GiB in {folder} ({free / 2**30:.0f} GiB free)"
        )
    return FeatureStores(
        [_feature_store(frozen, store, rows, view, width, folder) for view in views], rows
    )


def missing_views(
    frozen: FrozenPart, store: Store, rows: Indices, views: Sequence[View]
) -> tuple[Indices, list[View]]:
    """The views whose features are not in the cache, and the examples to take: all of them, where
    features of all are there, else `rows`."""
    folder = cache_folder() / "features"
    every = np.arange(len(store))
    there = (folder / _name(frozen, store, every, view) for view in views)
    if ranks.least(all(path.exists() for path in there)):
        rows = every
    return rows, [v for v in views if not (folder / _name(frozen, store, rows, v)).exists()]


def _name(frozen: FrozenPart, store: Store, rows: Indices, view: View) -> str:
    whole = len(rows) == len(store)
    key = {
        "version": VERSION,
        "layers": frozen.digest,
        "arithmetic": [str(frozen.dtype), frozen.device.type],
        "data": [store.fingerprint, store.info["sha256"]["x.bin"]],
        "rows": "all" if whole else hashlib.sha256(rows.tobytes()).hexdigest(),
        "view": view.settings,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    return f"{store.path.name.partition('-no-grey')[0][:40]}-{view.name}-{digest}"


def _feature_store(
    frozen: FrozenPart, store: Store, rows: Indices, view: View, width: int, folder: Path
) -> Store:
    """Found, or computed, by all ranks together; the first of each machine writes."""
    name = _name(frozen, store, rows, view)
    writes = ranks.is_first_here()
    with _locked(folder, name) if writes else contextlib.nullcontext():
        missing = writes and not _is_sound(folder / name)
        ranks.meet(f"{name} is looked for")
        if ranks.any_of(missing):
            made = StoreWriter(folder, (width,), "float16", name) if missing else None
            with made or contextlib.nullcontext() as writer:
                if writer:
                    writer.require_space(len(rows))
                _extract(frozen, store, rows, view, writer)
                if writer:
                    _finish(writer, frozen, store, rows, view)
            ranks.meet(f"{name} is there")
        return Store.open(folder / name)


@contextlib.contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    """While the block runs no other program computes these features."""
    lock = FileLock(folder / f".{name}.lock")
    with writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("another program computes these features; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_sound(path: Path) -> bool:
    """Whether a feature Store is there; of a damaged one what is sound is kept for its writer."""
    if not path.exists():
        return False
    try:
        Store.open(path)
    except DataError as error:
        warn(f"{error.message} What is sound of it is kept, the rest computed again.")
        reopen_for_writing(path)
        return False
    return True


def _finish(
    writer: StoreWriter, frozen: FrozenPart, store: Store, rows: Indices, view: View
) -> None:
    info = {key: store.info[key] for key in ("source", "classes", "names", "bad")}
    info |= {
        "layout": "features",
        "left_out": [],
        "fingerprint": hashlib.sha256(writer.name.encode()).hexdigest(),
        "splits": store.info["splits"] if len(rows) == len(store) else {},
        "layers": frozen.digest,
        "images": store.fingerprint,
        "view": view.settings,
    }
    ids = store.ids
    writer.finish(writer.name, info, store.y[rows], (ids[row] for row in rows))


def _extract(
    frozen: FrozenPart, store: Store, rows: Indices, view: View, writer: StoreWriter | None
) -> None:
    """Computes what a writer lacks: chunk after chunk, each rank one of as many as there are."""
    count = writer.count if writer else len(rows)
    with progress(f"frozen layers, {view.name}", len(rows)) as advance:
        begin = ranks.least(count)
        advance(begin)
        for start in range(begin, len(rows), CHUNK * ranks.size()):
            mine = [start + CHUNK * place for place in ranks.part(ranks.size())]
            found = [_chunk(frozen, store, rows, view, one) for one in mine if one < len(rows)]
            for place, chunk in enumerate(ranks.concatenated(found, torch.float16).split(CHUNK)):
                if writer and start + CHUNK * place >= count:
                    writer.append(chunk.numpy())
                advance(len(chunk))


def _chunk(frozen: FrozenPart, store: Store, rows: Indices, view: View, start: int) -> Tensor:
    """The features of the examples from `start` on, (CHUNK, D) float16 at most."""
    x = torch.from_numpy(np.asarray(store.x[rows[start : start + CHUNK]]))
    seeds = (view.settings.get("seed", 0), start)
    x = x.to(frozen.device)
    features = (
        frozen.memory.features(frozen, view, x, seeds)
        if frozen.memory
        else frozen.by_pieces(view.transform, x, seeds)
    )
    largest = float(features.abs().max())
    if not largest <= torch.finfo(torch.float16).max:  # a NaN is not, either
        raise ModelError(
            f"the frozen layers give a feature of {largest:g} for one of the images "
            f"{start} to {start + len(x) - 1}; float16 ends at 65,504.",
            "The weights do not suit these inputs: check --mean and --std, or use --no-cache.",
        )
    return features.half().cpu()


def feature_batches(
    features: FeatureStores,
    indices: Indices,
    *,
    batch_size: int,
    device: torch.device,
    views: Sequence[int] = (0,),
    shuffle: bool = False,
    balanced: bool = False,
    window: int = 0,
    seed: int = 0,
    sharding: Sharding = WHOLE,
) -> Batches:
    """Batches (B, D) float32 of the features of `indices`, examples of the Store of images.

    Of several `views` each epoch takes one for every example, in turn.
    """
    return Batches(
        [features.stores[view] for view in views],
        features.place(indices),
        batch_size=batch_size,
        transform=lambda x, generator: x.float(),
        device=device,
        shuffle=shuffle,
        balanced=balanced,
        window=window,
        seed=seed,
        sharding=sharding,
    )
