"""From a name or a path to a Store, packed once and found again in milliseconds; and from a Store
to its splits."""

import contextlib
import hashlib
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.atomic import write_json
from alexnet.console import progress, say
from alexnet.data.fetch import DOWNLOADS, downloaded
from alexnet.data.images import BadImage, Pixels, enlarged, is_greyscale, open_image, square_pixels
from alexnet.data.layouts import read_tree
from alexnet.data.official import digits_source
from alexnet.data.sources import SPLITS, Example, Source
from alexnet.data.store import Store, StoreWriter, keyed_seed
from alexnet.data.subset import tiny_image10
from alexnet.data.trees import LAYOUTS_HINT, levels_of, open_tree, source_state
from alexnet.errors import DataError, did_you_mean
from alexnet.runtime import cache_folder

CHUNK_IMAGES, CHUNK_BYTES = 128, 2**23  # what one decoding task holds at most
WORKERS = 2  # decoding threads; more do not help, since half of the work holds Python's lock

Indices = NDArray[np.int64]


def open_data(
    data: str | Path, *, image_size: int, greyscale: str = "convert", bad_images: str = "error"
) -> Store:
    """The Store of a data set, packed into the cache on first use.

    Args:
        data: "digits", "cifar10", "tiny-imagenet", "tiny-image10", or the path of a folder, a zip
            or tar archive, or a Store. DATA/* says that the folders of DATA are the classes,
            DATA/*/* that the folders one level further down are.
        image_size: side in px of the stored squares; sources whose images all are smaller squares
            are stored as they are.
        greyscale: "convert" to RGB, or "drop" images that are stored as greyscale.
        bad_images: "error" lists unreadable images and stops; "skip" lists them and leaves them
            out.

    Raises:
        DataError: no such data, an unknown layout, unreadable images.
        DiskError: no space for the Store.
    """
    name = str(data)
    make_source: Callable[[], Source]
    if name == "digits":
        make_source, signature, ours = digits_source, "digits", ""
    elif name == "tiny-image10":
        where = find_data("tiny-imagenet")
        make_source = partial(tiny_image10_of, where)
        state, ours = source_state(where)
        signature = f"tiny-image10 {state}"
    else:
        where = find_data(name)
        if (where / "store.json").exists():
            return accepted(Store.open(where), bad_images)
        make_source = partial(read_source, where)
        signature, ours = source_state(where)

    key = hashlib.sha256(f"{signature} {greyscale}".encode()).hexdigest()[:32]
    index = cache_folder() / "index" / f"{key}.json"
    known = read_index(index)
    for size in (str(image_size), str(known.get("native") or "")):
        if size in known.get("stores", {}) and int(size) <= image_size:
            path = cache_folder() / "stores" / known["stores"][size]
            if path.exists():
                found = Store.open(path)
                if ours and ours not in found.info["left_out"]:  # it came after the packing
                    say(f"left out: {ours}")
                return accepted(found, bad_images)
    store = pack(make_source(), name, image_size=image_size, greyscale=greyscale)
    size = str(store.x.shape[-1])
    native = int(size) if store.info["native"] else None
    write_json(
        index,
        {
            "source": name,
            "native": native or known.get("native"),
            "stores": known.get("stores", {}) | {size: store.path.name},
        },
    )
    return accepted(store, bad_images)


def find_data(name: str) -> Path:
    """The path that a data set's name or path stands for.

    Raises:
        DataError: nothing is there; says how to get it.
    """
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # names that no file can have
        where, levels = levels_of(Path(name or "?").expanduser())
        if where.exists():
            return where.resolve().joinpath(*["*"] * levels)
    if name in DOWNLOADS:
        archive = downloaded(name)
        if archive is None:
            raise DataError(
                f"{name} is not on this machine.",
                f"Fetch it with `alexnet data fetch {name}`, or give the path of your copy instead "
                "of the name.",
            )
        return archive
    if "/" not in name and "\\" not in name:
        raise DataError(
            f"there is no data set and no path {name!r}.",
            did_you_mean(name, ["digits", "tiny-image10", *DOWNLOADS]) + f" {LAYOUTS_HINT}",
        )
    raise DataError(
        f"there is nothing at {name}.",
        "Check the path; relative paths start at the current folder.",
    )


def tiny_image10_of(where: Path) -> Source:
    """Tiny Image10 from Tiny ImageNet's folder or archive."""
    return tiny_image10(read_source(where))


def read_source(where: Path) -> Source:
    """The labelled images of a folder, or of a zip or tar archive. What there is to say about the
    reading is said."""
    source = read_tree(open_tree(where, cache_folder()), levels_of(where)[1])
    for note in source.notes:
        say(note)
    return source


def read_index(path: Path) -> dict[str, Any]:
    """What is known of a source from its last packing; nothing, if that cannot be read."""
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return index
    except (OSError, ValueError):
        return {}


def accepted(store: Store, bad_images: str) -> Store:
    """The Store, after what it leaves out was reported.

    Raises:
        DataError: there are some, and `bad_images` is "error".
    """
    for text in store.info["left_out"]:
        say(f"left out: {text}")
    bad = store.info["bad"]
    if bad:
        lines = [f"  {one['id']} ({one['class']}): {one['reason']}" for one in bad[:20]]
        if len(bad) > 20:
            lines.append(f"  ... and {len(bad) - 20} more; all are in {store.path / 'store.json'}")
        count = f"{len(bad)} of {len(store) + len(bad):,} images cannot be used:"
        listing = "\n".join([count, *lines])
        if bad_images == "error":
            raise DataError(
                listing, "Repair or remove them, or go on without them: --bad-images skip"
            )
        say(listing + "\nThey are left out (--bad-images skip).")
    return store


class _OtherSize(Exception):
    """An image is not the square that all images before it were."""


@dataclass
class _Decoded:
    sha256: bytes
    pixels: Pixels | None = None
    greyscale: bool = False
    reason: str = ""  # why it cannot be used


def pack(source: Source, name: str, *, image_size: int, greyscale: str) -> Store:
    """Decodes every image of a source once, into a Store in the cache. Memory stays flat."""
    first = next((one for one in source.contents() if not isinstance(one, OSError)), b"")
    try:
        native = min(open_image(first).size)
    except BadImage:
        native = image_size + 1
    if native <= image_size:
        # perhaps all images are squares of this size: then there is nothing to enlarge yet
        try:
            return _pack(source, name, side=native, native=True, greyscale=greyscale)
        except _OtherSize:
            pass
    return _pack(source, name, side=image_size, native=False, greyscale=greyscale)


def _pack(source: Source, name: str, *, side: int, native: bool, greyscale: str) -> Store:
    fingerprint = hashlib.sha256()
    bad: list[dict[str, str]] = []
    stored: list[Example] = []
    counts: Counter[str] = Counter()  # images per split, as stored
    labels: dict[str, set[int]] = defaultdict(set)  # classes per split, as stored
    grey = 0
    total = len(source.examples)
    slug = "".join(letter if letter.isalnum() else "-" for letter in Path(name).stem.lower())[:40]
    with (
        StoreWriter(cache_folder() / "stores", (3, side, side), "uint8") as writer,
        progress(f"packing {name} at {side} px, once", total) as advance,
    ):
        writer.require_space(total)
        for examples, decoded in _decoded_chunks(source, side, native):
            kept: list[tuple[Example, Pixels]] = []
            for example, one in zip(examples, decoded, strict=True):
                class_name = source.classes[example.label]
                told = f"{example.split}\0{class_name}\0{example.id}\0"
                fingerprint.update(told.encode("utf-8", "surrogateescape"))
                fingerprint.update(one.sha256)
                grey += one.greyscale
                if one.reason:
                    bad.append({"id": example.id, "class": class_name, "reason": one.reason})
                elif one.pixels is not None and not (one.greyscale and greyscale == "drop"):
                    kept.append((example, one.pixels))
                    counts[example.split] += 1
                    labels[example.split].add(example.label)
            if kept:
                writer.append(np.stack([pixels for _, pixels in kept]))
                stored += [example for example, _ in kept]
            advance(len(examples))
        _check_classes(source, labels, bad, greyscale)
        splits, start = {}, 0
        for split in SPLITS:
            if counts[split]:
                splits[split] = (start, start + counts[split])
                start += counts[split]
        info = {
            "layout": source.layout,
            "source": name,
            "fingerprint": fingerprint.hexdigest(),
            "classes": source.classes,
            "names": source.names,
            "splits": splits,
            "native": native,
            "greyscale": {"found": grey, "policy": greyscale},
            "left_out": source.left_out,
            "bad": bad,
        }
        policy = "-no-grey" if greyscale == "drop" else ""
        path = writer.finish(
            f"{slug}-{side}px{policy}-{fingerprint.hexdigest()[:12]}",
            info,
            np.array([example.label for example in stored]),
            [example.id for example in stored],
        )
    return Store.open(path)


def _check_classes(
    source: Source, labels: dict[str, set[int]], bad: list[dict[str, str]], greyscale: str
) -> None:
    """DataError if all images of a class that are to be trained on are unreadable or dropped."""
    kinds = {example.split for example in source.examples}
    first = next(split for split in ("train", "all", "test", "val") if split in kinds)
    listed = {example.label for example in source.examples if example.split == first}
    gone = sorted(listed - set(labels[first]))
    if gone:
        classes = {source.classes[label] for label in gone}
        reasons = "; ".join(
            f"{one['id']}: {one['reason']}" for one in bad if one["class"] in classes
        )[:500]
        raise DataError(
            "no usable image is left of: "
            f"{', '.join(source.classes[label] for label in gone[:10])}."
            + (f" ({reasons})" if reasons else ""),
            "Repair the images, or remove the class."
            + (" Or use --greyscale convert." if greyscale == "drop" else ""),
        )


def _decoded_chunks(
    source: Source, side: int, native: bool
) -> Iterator[tuple[list[Example], list[_Decoded]]]:
    """Reads in order here, decodes in threads, a few chunks ahead."""
    ahead: deque[tuple[list[Example], Future[list[_Decoded]]]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for examples, contents in _chunks(source):
                ahead.append((examples, pool.submit(_decode, contents, side, native)))
                if len(ahead) > 2 * WORKERS:
                    ready, future = ahead.popleft()
                    yield ready, future.result()
            for ready, future in ahead:
                yield ready, future.result()
        finally:
            for _, future in ahead:
                future.cancel()


def _chunks(source: Source) -> Iterator[tuple[list[Example], list[bytes | Pixels | OSError]]]:
    examples: list[Example] = []
    contents: list[bytes | Pixels | OSError] = []
    held = 0
    for example, content in zip(source.examples, source.contents(), strict=True):
        examples.append(example)
        contents.append(content)
        held += 0 if isinstance(content, OSError) else len(content)
        if len(examples) == CHUNK_IMAGES or held > CHUNK_BYTES:
            yield examples, contents
            examples, contents, held = [], [], 0
    if examples:
        yield examples, contents


def _sha256(content: bytes | Pixels) -> bytes:
    return hashlib.sha256(content if isinstance(content, bytes) else content.tobytes()).digest()


def _decode(contents: list[bytes | Pixels | OSError], side: int, native: bool) -> list[_Decoded]:
    decoded = []
    for content in contents:
        if isinstance(content, OSError):
            decoded.append(_Decoded(b"", reason=f"cannot be read ({content.strerror or content})"))
            continue
        one = _Decoded(_sha256(content))
        decoded.append(one)
        try:
            image = open_image(content)
            if native and image.size != (side, side):
                raise _OtherSize
            one.greyscale = is_greyscale(image)
            one.pixels = square_pixels(image, side)
            if one.pixels.shape[-1] != side:
                one.pixels = enlarged(one.pixels, side)
        except BadImage as error:
            one.reason = error.message
    return decoded


@dataclass(frozen=True)
class Splits:
    """Indices into a Store. `note` says how they came about where that is not obvious."""

    train: Indices
    val: Indices
    test: Indices  # empty where the data has a validation split of its own and no test split
    note: str = ""


def make_splits(
    store: Store, *, val_size: float, test_size: float, fraction: float, seed: int
) -> Splits:
    """The splits of a Store: its own where it has them, else drawn from `seed`, the same share of
    every class.

    Raises:
        DataError: there is one class only, a class has too few images, or there is nothing to
            train on.
    """
    if len(store.classes) < 2:
        raise DataError(
            f"{store.info['source']} has one class only ({', '.join(store.classes)}); a classifier "
            "needs at least two.",
            "Put the images of each class into a folder of its own, beside each other.",
        )
    train, val, test = store.split("train"), store.split("val"), store.split("test")
    notes = []
    if len(store.split("all")):
        train, test = stratified(store, store.split("all"), test_size, keyed_seed(seed, 1), "test")
        notes.append(f"{test_size:.0%} of the images are set aside as the test split")
    if not len(train):
        raise DataError(
            f"{store.info['source']} has only the splits {', '.join(store.info['splits'])}; there "
            "is nothing to train on.",
            "Give data with train/CLASS/ or CLASS/ folders, or evaluate a run on it: alexnet eval "
            "RUN DATA",
        )
    if fraction < 1:
        _, train = stratified(store, train, fraction, keyed_seed(seed, 2), "training fraction")
    if not len(val):
        train, val = stratified(store, train, val_size, keyed_seed(seed, 3), "validation")
        notes.append(f"{val_size:.0%} of the training images for validation")
    if not len(test):
        notes.append(
            "no test split: the final figures are of the validation split, which also chose the "
            "epoch"
        )
    return Splits(train, val, test, "; ".join(notes))


def stratified(
    store: Store, indices: Indices, share: float, seed: int, what: str
) -> tuple[Indices, Indices]:
    """Splits `indices` into (rest, drawn): of each class `share`, rounded, at least one image, and
    at least one left.

    scikit-learn's stratified splitters round over all classes together and may leave a small class
    out of a split.
    """
    generator = np.random.default_rng(seed)
    labels = store.y[indices]
    drawn = np.zeros(len(indices), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise DataError(
                f"the class {store.classes[label]!r} has 1 image left for the {what} split; each "
                "split needs at least one.",
                "Add images of this class, or remove it. A class needs 3 images for train, val and "
                "test, more where --val-size or --test-size is large.",
            )
        count = min(max(1, round(share * len(members))), len(members) - 1)
        drawn[generator.permutation(members)[:count]] = True
    return indices[~drawn], indices[drawn]
