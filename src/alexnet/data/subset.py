"""Parts of a data set: some classes, some images of each, with splits of their own; and Tiny
Image10, exactly as a public program draws it from Tiny ImageNet."""

import io
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from alexnet.atomic import output_folder, sync, writing
from alexnet.console import progress
from alexnet.data.changes import changed
from alexnet.data.finding import find_data, read_source
from alexnet.data.handed import Given, given
from alexnet.data.images import Pixels
from alexnet.data.listing import SPLITS, Example, Examples
from alexnet.data.names import find_classes
from alexnet.data.official import digits_source
from alexnet.data.reading import parted
from alexnet.data.sources import Source
from alexnet.data.store import keyed_seed
from alexnet.errors import DataError, InputError
from alexnet.holding import one_at_a_time
from alexnet.values import Whole, checked_arguments

CLASSES, PER_CLASS = 10, (400, 50, 50)  # how many; training, validation, test images of each

# of these classes the files 0-49 are val and 50-99 test; of the other five it is the reverse
TINY_IMAGE10_FIRST_HALF_IS_VAL = frozenset({"n01443537", "n01698640", "n01768244", "n01774384"})
TINY_IMAGE10_IMAGES = 5000


@checked_arguments
def subset(
    data: Given,
    out: str | Path,
    *,
    classes: Sequence[str] | int = CLASSES,
    per_class: tuple[int, int, int] = PER_CLASS,
    random: bool = False,
    seed: Whole = 0,
    rule: Literal["none", "tiny-image10"] = "none",
) -> Path:
    """Copies some classes of a data set, and some images of each, into a new folder with train, val
    and test splits, all drawn from its training images; returns the folder.

    Args:
        data: as for `train`.
        out: a folder that is made.
        classes: how many, the first in sorted order; or their names.
        per_class: images of each class for train, val and test.
        random: draw the classes instead of taking the first.
        seed: of everything that is drawn.
        rule: "tiny-image10" for exactly the ten classes and splits of that data set, of Tiny
            ImageNet; "none" for the arguments above.

    Raises:
        DataError: no such data or classes, too few images of one, or a folder that holds files.
        InputError: arguments of which one would have no effect.
    """
    data, out = given(data), output_folder(out)
    if isinstance(data, Source):
        source = data
    else:
        name, reading = parted(str(data))
        source = (
            changed(digits_source(), reading.labels)
            if name == "digits"
            else read_source(find_data(str(data)))
        )
    if not isinstance(classes, int) and len(classes) == 1 and classes[0].isdecimal():
        known = {*source.classes, *source.names}
        classes = classes if classes[0] in known else int(classes[0])
    if random and not isinstance(classes, int):
        raise InputError(
            "--random draws classes, and --classes names them.",
            "Give their number, or leave --random out.",
        )
    if rule == "tiny-image10":
        if (classes, tuple(per_class), random, seed) != (CLASSES, PER_CLASS, False, 0):
            raise InputError(
                f"--rule {rule} says which classes and images are taken.",
                "Leave out --classes, --per-class, --random and --seed, or the rule.",
            )
        part = tiny_image10(source)
    else:
        part = select(
            source, classes=classes, per_class=per_class, random_classes=random, seed=seed
        )
    return write_folder(part, out)


def select(
    source: Source,
    *,
    classes: Sequence[str] | int,
    per_class: tuple[int, int, int],
    random_classes: bool = False,
    seed: int = 0,
) -> Source:
    """Some classes of a source, with so many training, validation and test images of each, all
    drawn (seeded) from its training images, or from all where it has no splits.

    Args:
        source: as `datasets.read_source` gives it.
        classes: class identifiers or readable names; or how many, the first in sorted order.
        per_class: images for train, val and test.
        random_classes: draw that many classes instead.
        seed: of both draws.

    Raises:
        DataError: unknown classes, or too few images of one.
    """
    chosen = _choose_classes(source, classes, random_classes, seed)
    pool = _by_class(source)
    where: dict[str, str] = {}
    for name in chosen:
        ids = pool[source.classes.index(name)]
        if len(ids) < sum(per_class):
            raise DataError(
                f"the class {name} has {len(ids)} images, {sum(per_class)} are asked for.",
                "Lower --per-class, or choose other classes.",
            )
        # drawn for each class by itself: another choice of classes does not change it
        key = keyed_seed(seed, *name.encode())
        drawn = iter(np.random.default_rng(key).permutation(len(ids)))
        for split, count in zip(("train", "val", "test"), per_class, strict=True):
            where |= {ids[next(drawn)]: split for _ in range(count)}
    return _parted(source, chosen, where, "a part")


def tiny_image10(source: Source) -> Source:
    """Tiny Image10: the first ten classes in sorted order; of the 500 training images of each the
    files 100 to 499 are train, and of 0 to 49 and 50 to 99 one half is val, the other test.

    Raises:
        DataError: the source is not Tiny ImageNet, or misses some of these images.
    """
    chosen = sorted(source.classes)[:10]
    where: dict[str, str] = {}
    pool = _by_class(source)
    for name in chosen:
        for image in pool[source.classes.index(name)]:
            found = re.fullmatch(rf"{re.escape(name)}_(\d+)", PurePosixPath(image).stem)
            if not found:
                continue
            number = int(found[1])
            first_half = number < 50
            val_is_first = name in TINY_IMAGE10_FIRST_HALF_IS_VAL
            held_out = "val" if first_half == val_is_first else "test"
            where[image] = "train" if number >= 100 else held_out
    if len(chosen) < 10 or len(where) != TINY_IMAGE10_IMAGES:
        raise DataError(
            f"Tiny Image10 is drawn from ten classes of 500 training images of Tiny ImageNet; "
            f"found {len(where):,} such images of {len(chosen)} classes.",
            "Give the official folder or zip of Tiny ImageNet.",
        )
    return _parted(source, chosen, where, "Tiny Image10")


def _choose_classes(
    source: Source, classes: Sequence[str] | int, random_classes: bool, seed: int
) -> list[str]:
    known = sorted(source.classes)
    if isinstance(classes, int):
        if not 1 <= classes <= len(known):
            raise DataError(
                f"{classes} classes are asked for; there are {len(known)}.", "Change --classes."
            )
        if not random_classes:
            return known[:classes]
        drawn = np.random.default_rng(keyed_seed(seed)).permutation(len(known))[:classes]
        return sorted(known[place] for place in drawn)
    labels = find_classes(classes, source.classes, source.names)
    return sorted({source.classes[label] for label in labels})


def _by_class(source: Source) -> dict[int, list[str]]:
    """The ids of the images to draw from, by label."""
    kinds = source.examples.splits
    pool: dict[int, list[str]] = defaultdict(list)
    for example in source.examples:
        if example.split == ("train" if "train" in kinds else "all"):
            pool[example.label].append(example.id)
    return pool


def _parted(source: Source, chosen: list[str], where: dict[str, str], what: str) -> Source:
    """The examples of `where` (id: split), in the order of the splits."""
    labels = {source.classes.index(name): place for place, name in enumerate(chosen)}
    kept = [
        (place, Example(where[example.id], labels[example.label], example.id))
        for place, example in enumerate(source.examples)
        if example.id in where and example.split in ("train", "all")
    ]
    kept.sort(key=lambda one: SPLITS.index(one[1].split))  # stable

    def contents() -> Iterator[bytes | Pixels | OSError]:
        # a source is read in its own order, so once for each split: nothing is held in memory
        for split in SPLITS:
            wanted = {place for place, example in kept if example.split == split}
            if wanted:
                for place, content in enumerate(source.contents()):
                    if place in wanted:
                        yield content

    names = [source.names[source.classes.index(name)] for name in chosen]
    return replace(
        source,
        layout=f"{what} of {source.layout}",
        classes=chosen,
        names=names,
        examples=Examples(example for _, example in kept),
        contents=contents,
        left_out=[],
    )


def write_folder(source: Source, out: Path) -> Path:
    """Writes a source as class folders, out/train/CLASS/... with words.txt for readable names. The
    files are copied as they are; pixels without a file become PNG.

    Raises:
        DataError: `out` exists, or an image cannot be read. DiskError: no space. RunError: another
            program writes it.
    """
    with one_at_a_time(out, f"{out} is being written"):
        if out.exists():
            raise DataError(f"{out} exists already.", "Choose another place, or delete it.")
        aside = out.with_name(f".{out.name}.alexnet-unfinished")
        shutil.rmtree(aside, ignore_errors=True)  # a killed program's
        try:
            with writing(out):
                aside.mkdir(parents=True)
                _write_files(source, aside, out.name)
                os.rename(aside, out)
                sync(out.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return out


def _write_files(source: Source, aside: Path, name: str) -> None:
    """Writes the images and words.txt of a folder that is to be called `name`."""
    with progress(f"writing {name}", len(source.examples)) as advance:
        for example, content in zip(source.examples, source.contents(), strict=True):
            if isinstance(content, OSError):
                raise DataError(f"{example.id} cannot be read ({content}).", "Check the source.")
            folder = aside / example.split / source.classes[example.label]
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / PurePosixPath(example.id).name
            if not isinstance(content, bytes):
                memory = io.BytesIO()
                Image.fromarray(content).save(memory, "PNG")
                content, file = memory.getvalue(), file.with_name(f"{file.name}.png")
            while file.exists():  # two folders of the source held files of one name
                file = file.with_name(f"_{file.name}")
            file.write_bytes(content)
            advance(1)
    words = "".join(
        f"{one}\t{name}\n" for one, name in zip(source.classes, source.names, strict=True)
    )
    (aside / "words.txt").write_text(words, encoding="utf-8")
