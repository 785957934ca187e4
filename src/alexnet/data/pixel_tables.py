"""Tables whose rows are the pictures themselves: MNIST as Kaggle has it (label, pixel0, ...),
FER2013 (emotion, pixels, Usage) -> parts by split. They are held in memory while they are packed.
"""

import itertools
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.handed import Part
from alexnet.data.levels import split_word
from alexnet.data.names import shortly
from alexnet.data.reading import Reading
from alexnet.data.tables import LABELS, SPLIT_COLUMNS, Table, words_of
from alexnet.errors import DataError, did_you_mean
from alexnet.words import shown

PIXEL = re.compile(r"(pixel|px|p|x)?[ _-]*\d+|\d+x\d+(x\d+)?", re.IGNORECASE)
USAGE = {"training": "train", "publictest": "val", "privatetest": "test"}  # of Kaggle's contests
SMALLEST = 8  # pixels a side


@dataclass(frozen=True)
class Columns:
    """Where in a row a picture and its label stand."""

    pixels: Sequence[int]  # the column of each; one alone holds all, with blanks between
    shape: tuple[int, ...]  # (S, S), or (S, S, 3)
    label: int  # -1: none
    split: int  # likewise
    headed: bool


def pixel_columns(table: Table, reading: Reading) -> Columns | None:
    """Where the pictures of a table stand; None where its rows are none.

    Raises:
        DataError: they are, and it is not clear which column is the label.
    """
    start = [[words_of(one).strip() for one in row] for _, row in itertools.islice(table.rows(), 2)]
    if not start:
        return None
    first, row = start[0], start[-1]
    named = table.headed or not all(map(_is_number, first))
    header = first if named else [str(place + 1) for place in range(len(first))]
    texts = [place for place, value in enumerate(row) if _shape(len(value.split()))]
    if len(start) > 1 and len(texts) == 1:
        pixels, shape = texts, _shape(len(row[texts[0]].split()))
    elif named:
        pixels = [place for place, name in enumerate(header) if PIXEL.fullmatch(name)]
        shape = _shape(len(pixels))
    else:
        pixels, shape = list(range(len(header))), _shape(len(header) - 1)
    if not shape:
        return None
    if not named and len(pixels) > 1:
        label = _named(table, header, reading.label_column) if reading.label_column else -1
        if label < 0:
            raise DataError(
                f"{table.name} holds pictures as numbers, {len(header):,} in a row without names: "
                "which of them is the label?",
                f"Say it: --label-column 1, or --label-column {len(header)}",
            )
        return Columns([one for one in pixels if one != label], shape, label, -1, headed=False)
    rest = [place for place in range(len(header)) if place not in set(pixels)]
    split = _split_column(table, header, rest, reading)
    return Columns(pixels, shape, _label_column(table, header, rest, split, reading), split, named)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?", text) is not None


def _shape(count: int) -> tuple[int, ...]:
    """The shape of a square picture of so many numbers, grey or in colours; or nothing."""
    for channels in ((), (3,)):
        side = math.isqrt(count // math.prod(channels))
        if side >= SMALLEST and side * side * math.prod(channels) == count:
            return (side, side, *channels)
    return ()


def _named(table: Table, header: Sequence[str], name: str) -> int:
    if name not in header:
        raise DataError(f"{table.name} has no column {name!r}.", did_you_mean(name, header))
    return header.index(name)


def _split_column(
    table: Table, header: Sequence[str], rest: Sequence[int], reading: Reading
) -> int:
    if reading.split_column:
        return _named(table, header, reading.split_column)
    known = (*SPLIT_COLUMNS, "usage")
    return next((place for place in rest if header[place].casefold() in known), -1)


def _label_column(
    table: Table, header: Sequence[str], rest: Sequence[int], split: int, reading: Reading
) -> int:
    if reading.label_column:
        return _named(table, header, reading.label_column)
    others = [place for place in rest if place != split]
    likely = [place for place in others if header[place].casefold() in LABELS] or others
    if len(likely) > 1:
        raise DataError(
            f"{table.name} holds pictures as numbers, and {shortly(header[one] for one in likely)} "
            "beside them: which is the label?",
            "Name it: --label-column NAME",
        )
    return likely[0] if likely else -1


def told_pixels(table: Table, columns: Columns) -> list[str]:
    """What was made of a table, in words."""
    header = next(iter(table.rows()))[1]
    label = words_of(header[columns.label]).strip() if columns.headed else str(columns.label + 1)
    size = "x".join(map(str, columns.shape[:2]))
    colours = ", red, green and blue of each pixel one after the other" if columns.shape[2:] else ""
    return [f"{table.name}: pictures of {size} pixels{colours}; their labels in {shown(label)!r}"]


def pictures_of(table: Table, columns: Columns, usual: str = "all") -> dict[str, Part]:
    """The pictures of a table, uint8 of `Columns.shape`, with their labels, by split.

    Args:
        usual: the split where no column says another.

    Raises:
        DataError: a row that cannot be used; says which.
    """
    pixels: dict[str, list[NDArray[np.uint8]]] = defaultdict(list)
    labels: dict[str, list[str]] = defaultdict(list)
    width = 0
    for number, (place, values) in enumerate(table.rows()):
        width = width or len(values)
        if (columns.headed and not number) or not any(map(words_of, values)):
            continue
        at = table.at(place)
        if len(values) != width:
            raise DataError(f"{at} has {len(values):,} columns, the first row {width:,}.", MEND)
        label = words_of(values[columns.label]).strip()
        if not label:
            raise DataError(f"{at} has no label.", "Fill it in, or take the row out.")
        split = _split_of(at, words_of(values[columns.split])) if columns.split >= 0 else usual
        pixels[split].append(_picture(at, values, columns))
        labels[split].append(label)
    if not pixels:
        raise DataError(f"{table.name} has no rows.", "Expected a row for each picture.")
    return {split: Part(some.__getitem__, labels[split]) for split, some in pixels.items()}


MEND = "Every row has the same columns. Fetch or write it again."


def _split_of(at: str, text: str) -> str:
    split = USAGE.get(text.casefold()) or split_word(text)[0]
    if not split:
        raise DataError(f"{at} is in the split {shown(text)!r}, expected train, val or test.", MEND)
    return split


def _picture(at: str, values: Sequence[Any], columns: Columns) -> NDArray[np.uint8]:
    first, last = columns.pixels[0], columns.pixels[-1]
    numbers = values[first : last + 1]
    if len(numbers) != len(columns.pixels):  # other columns between them
        numbers = [values[place] for place in columns.pixels]
    try:
        found = (
            _parsed(" ".join(numbers)) if isinstance(numbers[0], str)
            else np.array(numbers, np.float64)
        )  # fmt: skip
    except (TypeError, ValueError, DeprecationWarning):
        found = np.array([math.nan])
    expected = math.prod(columns.shape)
    if (
        len(found) != expected
        or not (found == found.round()).all()
        or not (found.min() >= 0 and found.max() <= 255)
    ):
        raise DataError(
            f"{at} is no picture of {expected:,} whole numbers from 0 to 255.",
            "Of numbers from 0 to 1, write 255 times as much, rounded.",
        )
    return found.astype(np.uint8).reshape(columns.shape)


def _parsed(text: str) -> NDArray[Any]:
    """Numbers with blanks between; twenty times as fast as one by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # text that is no number; a ValueError some day
        try:
            return np.fromstring(text, np.int64, sep=" ")
        except (ValueError, DeprecationWarning):
            return np.fromstring(text, np.float64, sep=" ")
