"""From a name or a path to a Store, packed once and found again in milliseconds."""

import hashlib
import os
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alexnet import marks
from alexnet.atomic import read_object, write_json
from alexnet.cache import cache_folder
from alexnet.console import progress, say, warn
from alexnet.data.changes import changed, state_of
from alexnet.data.finding import find_data, kind_of_data, listed, looked_at, read_source
from alexnet.data.groups import BURST, COPIES, burst_codes, codes_of, taken
from alexnet.data.images import (
    INSTALL_HEIC,
    BadImage,
    Pixels,
    Raster,
    declared_white,
    decoded,
    enlarged,
    heic_is_there,
    is_deep,
    is_greyscale,
    open_image,
    quiet,
)
from alexnet.data.listing import SPLITS, Example, Examples
from alexnet.data.official import digits_source
from alexnet.data.reading import parted
from alexnet.data.shortcuts import kind_of, told_by_files
from alexnet.data.sources import Data, Source, sha256_of
from alexnet.data.store import Indices, Store, StoreWriter
from alexnet.data.subset import tiny_image10
from alexnet.data.trees import source_state
from alexnet.errors import DataError

# what one decoding task takes at most: images, bytes of their files, and about so many bytes of
# pixels, which are still in the processor's cache when they are written
CHUNK_IMAGES, CHUNK_BYTES, CHUNK_PIXELS = 128, 2**23, 2**21
AHEAD_BYTES = 2**26  # of files that are read and not decoded yet, at most
LONG = 3.0  # longer side by shorter side; of more, the centre square shows less than a third
WORKERS = 2  # decoding threads; more do not help, since half of the work holds Python's lock


def open_data(
    data: Data,
    *,
    image_size: int,
    greyscale: str = "convert",
    bad_images: str = "error",
    white: int | None = None,
    accept: Callable[[list[str]], object] | None = None,
) -> Store:
    """The Store of a data set, packed into the cache on first use.

    Args:
        data: "digits", "cifar10", "tiny-imagenet", "tiny-image10", or the path of a folder, a zip
            or tar archive, a table, or a Store. DATA/* says that the folders of DATA are the
            classes, DATA/*/* that the folders one level further down are; `handed.labelled`
            says how labels are found elsewhere, and makes a Source of what a program holds.
        image_size: side in px of the stored squares; sources whose images all are smaller squares
            are stored as they are.
        greyscale: "convert" to RGB, or "drop" images that are stored as greyscale.
        bad_images: "error" lists unreadable images and stops; "skip" lists them and leaves them
            out.
        white: the value of pixels of more than 8 bits that becomes white, as a run knows it
            (`Preprocessing.range`); None to find one for the whole data set.
        accept: looks at the classes, and may raise, before anything is packed.

    Raises:
        DataError: no such data, an unknown layout, unreadable images.
        DiskError: no space for the Store.
    """
    address, (name, reading) = str(data), parted(str(data))
    make_source: Callable[[], Source]
    if isinstance(data, Source):
        source_itself = data
        make_source, signature, ours = (lambda: source_itself), data.signature, ""
    elif name == "digits":
        make_source = lambda: changed(digits_source(), reading.labels)  # noqa: E731
        signature, ours = f"digits{state_of(reading.labels)}", ""
    elif name == "tiny-image10":
        where = find_data("tiny-imagenet")
        make_source = partial(tiny_image10_of, where, reading.labels)
        state, ours = source_state(where)
        signature = f"tiny-image10 {state}{state_of(reading.labels)}"
    else:
        where = find_data(address)
        if kind_of_data(name, where) == "a Store":
            return accepted(Store.open(where), bad_images)
        signature, ours, make_source = looked_at(where)

    def index_of(words: str) -> Path:
        digest = hashlib.sha256(f"{signature} {greyscale}{words}".encode()).hexdigest()[:32]
        return cache_folder() / "index" / f"{digest}.json"

    wanted = "" if white is None else f" white {white}"
    for index in dict.fromkeys((index_of(""), index_of(wanted))):
        found = find_packed(index, image_size, white)
        if found is not None:
            if ours and ours not in found.info["left_out"]:  # it came after the packing
                say(f"left out: {ours}")
            return accepted(found, bad_images)
    source = make_source()
    if accept:
        accept(source.classes)
    say_why_again(read_index(index_of(wanted)) or read_index(index_of("")), image_size)
    store = pack(source, name, image_size=image_size, greyscale=greyscale, white=white)
    size = str(store.x.shape[-1])
    native = int(size) if store.info["native"] else None
    # what has no pixels of more than 8 bits is the same for every white
    index = index_of(wanted if "range" in store.info else "")
    known = read_index(index)
    write_json(
        index,
        {
            "source": name,
            "native": native or known.get("native"),
            "stores": known.get("stores", {}) | {size: store.path.name},
        },
    )
    return accepted(store, bad_images)


class Outline(NamedTuple):
    """What is known of data before anything is packed."""

    images: int  # to train on
    classes: list[str]
    apart: bool  # whether it has a validation split of its own


def outline(data: Data) -> Outline:
    """How many images there are to train on, of which classes; errors as in `open_data`."""
    name, reading = parted(str(data))
    if isinstance(data, Source):
        source = data
    elif name == "digits":
        source = changed(digits_source(), reading.labels)
    elif name == "tiny-image10":
        source = tiny_image10_of(find_data("tiny-imagenet"), reading.labels)
    else:
        where = find_data(str(data))
        if kind_of_data(name, where):
            store = Store.open(where)
            images = len(store.split("train")) or len(store.split("all"))
            return Outline(images, store.classes, "val" in store.info["splits"])
        source = listed(where)
    examples = source.examples
    images = len(examples.places_of("train")) or len(examples.places_of("all"))
    return Outline(images, source.classes, "val" in examples.splits)


def say_why_again(known: Mapping[str, Any], image_size: int) -> None:
    """Says why pictures that were packed before are decoded once more."""
    sizes = [size for size in known.get("stores", {}) if size != str(image_size)]
    if sizes:
        say(
            f"packed before at {' and '.join(sizes)} px; at {image_size} px the files are read "
            "again: a picture that is resized twice is not the one that prediction sees"
        )


def packed(fingerprint: str) -> Iterator[Store]:
    """The Stores in the cache of data with this fingerprint."""
    for path in sorted((cache_folder() / "stores").glob(f"*-{fingerprint[:12]}")):
        try:
            store = Store.open(path)
        except DataError as error:
            warn(error.message)
            continue
        if store.fingerprint == fingerprint:
            yield store


def find_packed(index: Path, image_size: int, white: int | None) -> Store | None:
    """The Store that an index knows of images of that size, or smaller and not enlarged yet, and
    of that white."""
    known = read_index(index)
    for size in (str(image_size), str(known.get("native") or "")):
        if size in known.get("stores", {}) and size.isdecimal() and int(size) <= image_size:
            path = cache_folder() / "stores" / known["stores"][size]
            if os.path.exists(path):  # also of what no path can be called
                store = Store.open(path)
                missing = heic_is_there() and any(
                    INSTALL_HEIC in one for one in store.info["left_out"]
                )
                if not missing and (white is None or store.info.get("range", white) == white):
                    return store
    return None


def tiny_image10_of(where: Path, labels: str = "") -> Source:
    """Tiny Image10 from Tiny ImageNet's folder or archive, with a table of changes."""
    return changed(tiny_image10(read_source(where)), labels)


def read_index(path: Path) -> dict[str, Any]:
    """What is known of a source from its last packing; nothing, if that cannot be read."""
    try:
        index = read_object(path)
    except (OSError, ValueError):
        return {}
    stores = index.get("stores", {})
    sound = isinstance(stores, dict) and all(isinstance(one, str) for one in stores.values())
    return index if sound else {}


def accepted(store: Store, bad_images: str) -> Store:
    """The Store, after what it leaves out was reported.

    Raises:
        DataError: there are some, and `bad_images` is "error".
    """
    for text in store.info["left_out"]:
        warn(f"left out: {text}")
    bad = store.info["bad"]
    if bad:
        lines = [f"  {one['id']} ({one['class']}): {one['reason']}" for one in bad[:20]]
        if len(bad) > 20:
            lines.append(f"  ... and {len(bad) - 20} more; all are in {store.path / marks.STORE}")
        count = f"{len(bad)} of {len(store) + len(bad):,} images cannot be used:"
        listing = "\n".join([count, *lines])
        if bad_images == "error":
            raise DataError(
                listing, "Repair or remove them, or go on without them: --bad-images skip"
            )
        warn(listing + "\nThey are left out (--bad-images skip).")
    return store


class _OtherSize(Exception):
    """An image is not the square that all images before it were."""


class _OtherWhite(Exception):
    """An image needs another white than those before it; the argument is the one."""


@dataclass
class _Decoded:
    sha256: bytes
    pixels: Pixels | None = None
    greyscale: bool = False
    size: tuple[int, int] | None = None  # of a file: width and height as stored, px
    mode: str = ""
    format: str | None = None
    deep: bool = False  # pixels of more than 8 bits
    white: int = 0  # the one these need, and
    declared: int = 0  # the one their file says they have; 0 where neither is looked for
    used: int = 0  # the one they were scaled with
    content: bytes | Pixels = b""  # of deep ones, to decode again with another white
    taken: tuple[str, float] | None = None  # the camera, and when, where that is asked for
    reason: str = ""  # why it cannot be used


def pack(
    source: Source, name: str, *, image_size: int, greyscale: str, white: int | None = None
) -> Store:
    """Decodes every image of a source once, into a Store in the cache. Memory stays flat.

    Where pixels have more than 8 bits, one white holds for all: `white`, or the least that all of
    them need; if an image turns out to need a greater one, packing starts again with that.
    """
    first = next((one for one in source.contents() if not isinstance(one, OSError)), b"")
    side, native, fixed = image_size, False, white is not None
    try:
        image = open_image(first)
        # perhaps all images are squares of this size: then there is nothing to enlarge yet
        if min(image.size) <= image_size:
            side, native = min(image.size), True
        del image
    except BadImage:
        pass
    del first
    while True:
        packing = _Packing(source, name, side, native, greyscale, white, fixed)
        try:
            return packing.run()
        except _OtherSize:
            side, native = image_size, False
        except _OtherWhite as other:
            white = int(other.args[0])


class _Packing:
    """One go at packing a source."""

    def __init__(
        self,
        source: Source,
        name: str,
        side: int,
        native: bool,
        greyscale: str,
        white: int | None,
        fixed: bool,
    ) -> None:
        """`white` is None where no image is known to need one; `fixed` says that none is looked
        for."""
        self.source, self.name, self.side, self.native = source, name, side, native
        self.greyscale, self.white, self.fixed = greyscale, white, fixed
        self.at_once = max(1, min(CHUNK_IMAGES, CHUNK_PIXELS // (3 * side * side)))
        self.fingerprint = hashlib.sha256()
        self.bad: list[dict[str, str]] = []
        self.seen = 0  # examples
        self.kept = array("q")  # the places of those that are stored
        self.content = bytearray()  # the beginning of the checksum of each
        self.taken: list[tuple[str, float] | None] = []  # of each, where files say what is a burst
        self.counts: Counter[str] = Counter()  # images per split, as stored
        self.labels: dict[str, set[int]] = defaultdict(set)  # classes per split, as stored
        self.grey = self.deep = 0
        self.declared: dict[int, str] = {}  # white: the first image whose file says so
        self.sizes = array("I")  # width and height of each
        self.modes: Counter[str] = Counter()
        self.kinds: dict[tuple[object, ...], int] = {}  # of files, numbered
        self.kind = array("q")  # the number of that of each
        self.long: list[str] = []

    def run(self) -> Store:
        total = len(self.source.examples)
        shape = (3, self.side, self.side)
        with (
            quiet,
            StoreWriter(cache_folder() / "stores", shape, "uint8") as writer,
            progress(f"packing {self.name} at {self.side} px, once", total) as advance,
        ):
            writer.require_space(total)
            together = np.empty((self.at_once, *shape), np.uint8)  # the same memory again and again
            for examples, found in self._decoded_chunks():
                kept = [
                    one.pixels
                    for example, one in zip(examples, found, strict=True)
                    if self._note(example, one) and one.pixels is not None
                ]
                if kept:
                    writer.append(np.stack(kept, out=together[: len(kept)]))
                advance(len(examples))
            _check_classes(self.source, self.labels, self.bad, self.greyscale)
            self._check_white()
            stored = self._stored()
            groups = self._groups(stored, writer)
            fingerprint = self.fingerprint.hexdigest()
            slug = "".join(
                letter if letter.isalnum() else "-" for letter in Path(self.name).stem.lower()
            )
            policy = "-no-grey" if self.greyscale == "drop" else ""
            policy += f"-white{self.white}" if self.deep and self.white else ""
            path = writer.finish(
                f"{slug[:40]}-{self.side}px{policy}-{fingerprint[:12]}",
                self._info(fingerprint, stored),
                stored.labels,
                stored.ids,
                np.frombuffer(self.content, np.uint8).reshape(-1, 8),
                groups,
            )
        return Store.open(path)

    def _stored(self) -> Examples:
        every = self.source.examples
        return every if len(self.kept) == len(every) else every.take(self.kept)

    def _groups(self, stored: Examples, writer: StoreWriter) -> Indices | None:
        """Numbers of the groups of what is stored; None where there are none."""
        names = stored.groups
        if self.source.together == COPIES:
            from alexnet.data.duplicates import search  # SciPy

            self.fingerprint.update(b"copies")
            found = search(writer.written()).groups
            say(f"{len(found):,} groups of equal or nearly equal images stay together in splits")
            names = [""] * len(stored)
            for number, group in enumerate(found):
                for place in group:
                    names[place] = f"copies {number}"
        elif self.source.together == BURST:
            self.fingerprint.update(b"bursts")
            names = burst_codes(self.taken)
            say(
                f"{len({*names} - {''}):,} bursts stay together in splits; "
                f"{names.count(''):,} images do not say when they were taken"
            )
        return codes_of(names) if any(names) else None

    def _note(self, example: Example, one: _Decoded) -> bool:
        """Takes down what an image is; whether it is kept."""
        place, self.seen = self.seen, self.seen + 1
        class_name = self.source.classes[example.label]
        told = f"{example.split}\0{class_name}\0{example.id}\0"
        told += f"{example.group}\0" if example.group else ""
        told += f"drawn {example.drawn}\0" if example.drawn >= 0 else ""
        self.fingerprint.update(told.encode("utf-8", "surrogateescape"))
        self.fingerprint.update(one.sha256)
        self.grey += one.greyscale
        if one.reason:
            self.bad.append({"id": example.id, "class": class_name, "reason": one.reason})
        if one.pixels is None or (one.greyscale and self.greyscale == "drop"):
            return False
        if one.deep:
            self._note_white(example, one)
        if one.size:
            self.sizes.extend(one.size)
            self.modes[one.mode] += 1
            kind = kind_of(one.size, one.mode, one.format)
            self.kind.append(self.kinds.setdefault(kind, len(self.kinds)))
            if max(one.size) > LONG * min(one.size):
                self.long.append(example.id)
        self.kept.append(place)
        self.content += one.sha256[:8]
        if self.source.together == BURST:
            self.taken.append(one.taken)
        self.counts[example.split] += 1
        self.labels[example.split].add(example.label)
        return True

    def _note_white(self, example: Example, one: _Decoded) -> None:
        if one.white > (self.white or 0):
            if self.deep:  # those before were scaled with another one
                raise _OtherWhite(one.white)
            self.white = one.white
        if one.used != (self.white or 0):
            with decoded(open_image(one.content), self.side) as raster:
                one.pixels = self._square(raster, self.white or 0)
        one.content = b""
        self.deep += 1
        if one.declared:
            self.declared.setdefault(one.declared, example.id)

    def _check_white(self) -> None:
        """Says which white holds; DataError where files say different things of it."""
        if not self.deep or self.fixed:
            return
        white = self.white or 0
        others = {one: name for one, name in self.declared.items() if one != white}
        if others:
            lines = "; ".join(f"{name} is of 0 to {one:,}" for one, name in others.items())
            raise DataError(
                f"images of different ranges are mixed: {lines}, others reach {white:,}. With one "
                "white for all, some would be nearly black.",
                "Save all of them with 8 bits, or all with the same number of bits (10, 12, 14 or "
                "16).",
            )
        say(
            f"{self.deep:,} of {len(self.kept):,} images have more than 8 bits a channel: "
            f"{white:,} is white in all of them"
        )

    def _info(self, fingerprint: str, stored: Examples) -> dict[str, Any]:
        splits, start = {}, 0
        for split in SPLITS:
            if self.counts[split]:
                splits[split] = (start, start + self.counts[split])
                start += self.counts[split]
        info = {
            "layout": self.source.layout,
            "source": self.name,
            "fingerprint": fingerprint,
            "classes": self.source.classes,
            "names": self.source.names,
            "splits": splits,
            "native": self.native,
            "greyscale": {"found": self.grey, "policy": self.greyscale},
            "left_out": self.source.left_out,
            "bad": self.bad,
        }
        if changes := self.source.changes:
            drawn = {row: one.drawn for row, one in enumerate(stored) if one.drawn >= 0}
            info["changes"] = changes._asdict() | {"drawn": drawn}
        if self.deep:
            info["range"] = self.white
        if self.sizes:
            across = np.array(self.sizes).reshape(-1, 2).T
            spread = [[int(a.min()), int(np.median(a)), int(a.max())] for a in across]
            info["sizes"] = dict(zip(("width", "height"), spread, strict=True))
            info["modes"] = dict(self.modes.most_common())
            info["long"] = self.long
        if len(self.kind) == len(stored):
            info["by_file"] = told_by_files(np.array(self.kind), np.array(stored.labels))
        return info

    def _decoded_chunks(self) -> Iterator[tuple[list[Example], list[_Decoded]]]:
        """Reads in order here, decodes in threads, a few chunks ahead."""
        ahead: deque[tuple[list[Example], int, Future[list[_Decoded]]]] = deque()
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                for examples, contents, held in _chunks(self.source, self.at_once):
                    future = pool.submit(self._decode, contents)
                    del contents  # the thread lets go of each when it is decoded
                    ahead.append((examples, held, future))
                    while len(ahead) > 2 * WORKERS or sum(one[1] for one in ahead) > AHEAD_BYTES:
                        ready, _, future = ahead.popleft()
                        yield ready, future.result()
                for ready, _, future in ahead:
                    yield ready, future.result()
            finally:
                for _, _, future in ahead:
                    future.cancel()

    def _decode(self, contents: list[bytes | Pixels | OSError]) -> list[_Decoded]:
        found = []
        while contents:
            content = contents.pop(0)
            if isinstance(content, OSError):
                reason = f"cannot be read ({content.strerror or content})"
                found.append(_Decoded(b"", reason=reason))
                continue
            one = _Decoded(sha256_of(content))
            found.append(one)
            try:
                self._decode_one(content, one)
            except BadImage as error:
                one.reason = error.message
        return found

    def _decode_one(self, content: bytes | Pixels, one: _Decoded) -> None:
        image = open_image(content)
        if self.native and image.size != (self.side, self.side):
            raise _OtherSize
        one.greyscale = is_greyscale(image)
        if isinstance(content, bytes):
            one.size, one.mode, one.format = image.size, image.mode, image.format
            one.taken = taken(image) if self.source.together == BURST else None
        one.deep = is_deep(image)
        with decoded(image, self.side) as raster:
            if one.deep:
                one.content = content
                if not self.fixed:
                    one.white, one.declared = raster.needed_white(), declared_white(image)
                one.used = self.white or one.white
            one.pixels = self._square(raster, one.used)

    def _square(self, raster: Raster, white: int) -> Pixels:
        pixels = raster.square(self.side, white)
        return enlarged(pixels, self.side) if pixels.shape[-1] != self.side else pixels


def _check_classes(
    source: Source, labels: dict[str, set[int]], bad: list[dict[str, str]], greyscale: str
) -> None:
    """DataError if all images of a class that are to be trained on are unreadable or dropped."""
    examples = source.examples
    first = next(split for split in ("train", "all", "test", "val") if split in examples.splits)
    gone = sorted({*examples.labels[examples.places_of(first)].tolist()} - labels[first])
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


def _chunks(
    source: Source, most: int
) -> Iterator[tuple[list[Example], list[bytes | Pixels | OSError], int]]:
    """At most so many examples, their contents, and how many bytes those are."""
    examples: list[Example] = []
    contents: list[bytes | Pixels | OSError] = []
    held = 0
    for example, content in zip(source.examples, source.contents(), strict=True):
        examples.append(example)
        contents.append(content)
        held += 0 if isinstance(content, OSError) else len(content)
        if len(examples) == most or held > CHUNK_BYTES:
            yield examples, contents, held
            examples, contents, held = [], [], 0
    if examples:
        yield examples, contents, held
