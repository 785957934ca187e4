"""Data that a Python program hands over: a DataFrame, arrays with labels, pairs, a torch Dataset,
rows of Hugging Face -> Source. Imports neither torch nor any of these packages.

Each becomes rows of a table, one for an image, and passes what `tables` asks of every table.
"""

import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from alexnet.data.changes import changed
from alexnet.data.groups import grouped
from alexnet.data.images import BadImage, Pixels
from alexnet.data.levels import split_word
from alexnet.data.objects import as_numpy, content_of, name_of
from alexnet.data.reading import Reading, addressed
from alexnet.data.sources import Data, Source
from alexnet.data.tables import (
    LABELS,
    PATHS,
    Row,
    Table,
    folder_of_paths,
    is_missing,
    table_source,
    words_of,
)
from alexnet.data.trees import LooseFiles
from alexnet.errors import DataError
from alexnet.values import checked_arguments

PICTURE_KEYS = [*PATHS, "x", "pixel_values"]
LABEL_KEYS = [*LABELS, "fine_label"]
HANDED = "what was handed over"
PIECE = 256  # images that are looked at together
EXPECTED = (
    "Give a path, a DataFrame, (images, labels), an iterable of (image, label), a torch Dataset, "
    'rows of Hugging Face, or {"train": ..., "test": ...} of these.'
)


class SupportsRows(Protocol):
    """A torch Dataset, a Dataset of Hugging Face, a DataFrame."""

    def __getitem__(self, place: Any, /) -> Any: ...


Given = str | os.PathLike[str] | Source | Mapping[str, Any] | Iterable[Any] | SupportsRows


@dataclass(frozen=True)
class Part:
    """Pictures with labels, one at a time."""

    picture: Callable[[int], Any]  # anything of `objects.Picture`, or Hugging Face's dictionary
    labels: Sequence[Any]
    names: Sequence[str] | None = None  # what the labels, then whole numbers, are called
    groups: Sequence[Any] | None = None
    signature: str = ""  # of the pictures, where it costs less than looking at them


class Handed:
    """Pictures of a program, as the files of a tree."""

    def __init__(self, pictures: Mapping[str, tuple[Part, int]]) -> None:
        self.where, self.pictures = Path(HANDED), pictures
        self.outputs: dict[str, str] = {}
        self.left_out: list[str] = []
        self.notes: list[str] = []

    def files(self) -> list[str]:
        return sorted(self.pictures)

    def has(self, path: str) -> bool:
        return path in self.pictures

    def folders(self) -> set[str]:
        return set()

    def read(self, path: str) -> Any:
        """Its bytes, or its pixels. OSError where it is no picture."""
        part, place = self.pictures[path]
        return content(part.picture(place))

    def open(self, path: str) -> Any:
        return io.BytesIO(self.read(path))


def content(image: Any) -> bytes | Pixels:
    """The bytes or the pixels of a picture; OSError where it is none."""
    if isinstance(image, Mapping):  # Hugging Face's
        image = image.get("bytes") or image.get("path")
    try:
        with content_of(image) as found:
            if isinstance(found, Image.Image):
                return _of_pillow(found)
            return found if isinstance(found, bytes | np.ndarray) else found.read()
    except BadImage as error:
        raise OSError(error.message) from error


def _of_pillow(image: Image.Image) -> bytes | Pixels:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGB", "L"):
        return np.asarray(upright)
    file = io.BytesIO()
    try:
        upright.save(file, "PNG")
    except OSError:  # CMYK and the like
        file = io.BytesIO()
        upright.save(file, "TIFF")
    return file.getvalue()


@checked_arguments
def labelled(
    data: Given,
    *,
    images: str | Path = "",
    path_column: str = "",
    label_column: str = "",
    split_column: str = "",
    label_pattern: str = "",
    group: str | Sequence[Any] = "",
    labels: str | Path = "",
) -> Any:
    """Data whose labels its folders do not say: what every function that takes `data` takes
    instead. `alexnet train labels.csv --label-column breed` is
    `alexnet.train(alexnet.labelled("labels.csv", label_column="breed"))`.

    Args:
        data: a table (.csv, .tsv, .jsonl, .parquet), or a folder or archive of images; or what a
            program holds: a DataFrame, (images, labels) or (images, labels, groups), an iterable of
            (image, label), a torch Dataset, rows of Hugging Face, or {"train": ..., "test": ...} of
            these.
        images: the folder or archive in which the paths in a table begin; by default that of the
            table, of a DataFrame the current one, and where whole paths lead out of that the one
            they have in common.
        path_column, label_column: which columns hold the path (or the picture) and the label of an
            image; guessed where they are not given, and said.
        split_column: which column says train, val or test.
        label_pattern: a regular expression that finds the label in the path of an image, in its
            group `label`, or its only one.
        group: a column, or a regular expression as above: images of one group (an animal, a
            patient, a film) stand on one side of every split. "burst": pictures that one camera
            took within seconds. "copies": equal and nearly equal images. Of what a program holds
            also the group of each image.
        labels: a table of changes, as `alexnet teach RUN --mend` writes it: which images are of
            another class than that, and which are left out.

    Raises:
        DataError: it is no data, or some of it cannot be used; says what and where.
    """
    word = group if isinstance(group, str) else ""
    reading = Reading(
        images=str(images), path_column=path_column, label_column=label_column,
        split_column=split_column, label_pattern=label_pattern, group=word, labels=str(labels),
    )  # fmt: skip
    if not isinstance(data, str | os.PathLike):
        source = source_of(data, reading, None if isinstance(group, str) else group)
        return changed(source, str(labels))
    if not isinstance(group, str):
        raise DataError(
            "a group for each image goes with what a program holds, not with a path.",
            "Name a column of the table, or give a pattern.",
        )
    return addressed(os.fspath(data), reading)


def given(data: Given) -> Data:
    """Data as every function takes it: an address stays, what a program holds becomes a Source."""
    if isinstance(data, str | os.PathLike | Source):
        return os.fspath(data) if isinstance(data, os.PathLike) else data
    return source_of(data, Reading())


def source_of(data: Any, reading: Reading, groups: Sequence[Any] | None = None) -> Source:
    """The labelled images of something that a program holds.

    Raises:
        DataError: it is none of these, or a row of it cannot be used.
    """
    if reading.label_pattern:
        raise DataError(
            "a pattern finds labels in the names of files, and this is held by a program.",
            "Leave out label_pattern.",
        )
    if hasattr(data, "columns") and hasattr(data, "itertuples"):
        return _frame(data, reading)
    parts = {}
    if isinstance(data, Mapping):
        for name, one in data.items():
            split, rest = split_word(str(name))
            if not split or rest:
                raise DataError(f"{name!r} is no split; expected train, val or test.", EXPECTED)
            parts[split] = _part(one, None)
    else:
        parts["all"] = _part(data, groups)
    return joined(parts, reading)


def joined(
    parts: Mapping[str, Part], reading: Reading, layout: str = "python", where: str = HANDED
) -> Source:
    """Parts as one source, each under its split. `where` is what messages call it."""
    pictures: dict[str, tuple[Part, int]] = {}
    rows: list[list[Any]] = []
    seen = hashlib.sha256()
    for split, part in parts.items():
        width = len(str(len(part.labels)))
        for place, label in enumerate(part.labels):
            name = f"{place:0{width}}" if split == "all" else f"{split}-{place:0{width}}"
            pictures[name] = part, place
            group = "" if part.groups is None else words_of(part.groups[place])
            rows.append([name, _label(label, part.names, place), split, group])
            seen.update(f"{rows[-1]}\n".encode("utf-8", "surrogateescape"))
        seen.update(part.signature.encode())

    def table() -> Iterator[Row]:
        yield 0, ["path", "label", "split", "group"]
        yield from enumerate(rows)

    says = "all" not in parts
    how = Reading(
        path_column="path", label_column="label", split_column="split" if says else "",
        group="group" if any(part.groups is not None for part in parts.values()) else "",
    )  # fmt: skip
    handed = Table(where, table, "place", headed=True)
    source = table_source({"all": handed}, Handed(pictures), how, {})
    known = all(part.signature for part in parts.values())
    signature = f"handed {seen.hexdigest() if known else secrets.token_hex(16)}"
    source = replace(source, layout=layout, name=where, signature=signature)
    return grouped(source, reading.group)


def _label(label: Any, names: Sequence[str] | None, place: int) -> str:
    if hasattr(label, "item"):  # of NumPy, of torch
        try:
            label = label.item()
        except (ValueError, RuntimeError) as error:
            raise DataError(
                f"label {place:,} is an array; expected one label for an image.",
                "Of one-hot labels: labels.argmax(1)",
            ) from error
    if isinstance(label, bytes):  # as HDF5 keeps text
        label = label.decode("utf-8", "surrogateescape")
    if not (isinstance(label, str | int | float | date) or is_missing(label)):
        raise DataError(
            f"label {place:,} is of type {type(label).__name__}; expected the name of a class, or "
            "a whole number.",
            "An example is an image and its label, in this order.",
        )
    if names is None or not isinstance(label, int):
        if isinstance(label, float) and label == label and not label.is_integer():
            raise DataError(
                f"label {place:,} is {label!r}; expected names or whole numbers.",
                "This classifies: make classes of numbers.",
            )
        return words_of(label)
    if not 0 <= label < len(names):
        raise DataError(
            f"label {place:,} is {label}, and there are {len(names)} names of classes.",
            "Check the labels: they count from 0.",
        )
    return str(names[label])


# -- what there is


def _part(data: Any, groups: Sequence[Any] | None) -> Part:
    if hasattr(data, "dataset") and hasattr(data, "batch_size"):
        raise DataError(
            f"a {type(data).__name__} gives batches; expected single images.",
            "Hand over what it takes them from: loader.dataset",
        )
    if isinstance(data, tuple) and len(data) in (2, 3):
        return arrays(data[0], data[1], data[2] if len(data) == 3 else groups)
    if hasattr(data, "features") and hasattr(data, "column_names"):
        return _hugging_face(data)
    if isinstance(data, str | bytes | np.generic) or not (
        hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    ):
        raise DataError(f"a {type(data).__name__} is no data.", EXPECTED)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return _rows(data, groups)
    # it can be gone through once only, and packing may have to do so twice
    return _rows([_kept(one) for one in data], groups)


def _kept(row: Any) -> Any:
    return (content_or_error(row[0]), row[1]) if _is_pair(row) else row


def _is_pair(row: Any) -> bool:
    return isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 2


def content_or_error(image: Any) -> Any:
    """As `content`; what is no picture stays as it is, and is refused where all are."""
    try:
        return content(image)
    except OSError:
        return image


def arrays(images: Any, labels: Any, groups: Sequence[Any] | None = None) -> Part:
    """(images, labels), perhaps with groups."""
    found = as_numpy(labels) if hasattr(labels, "detach") else labels
    try:
        listed = list(found.tolist() if hasattr(found, "tolist") else found)
        len(images), len(() if groups is None else groups)
    except TypeError as error:  # numbers, or arrays of no dimension, which have a length that fails
        told = f"a {type(images).__name__} and a {type(labels).__name__}"
        raise DataError(f"{told} are no images with their labels.", EXPECTED) from error
    for what, one in (("labels", images), ("groups", groups)):
        count = len(listed) if one is None else len(one)
        if count != len(listed):
            numbers = (count, len(listed)) if what == "labels" else (len(listed), count)
            raise DataError(
                f"there are {numbers[0]:,} images and {numbers[1]:,} {what}.",
                "Give one for each image.",
            )
    if listed and isinstance(listed[0], list):
        raise DataError(
            f"labels have the shape {np.shape(found)}; expected one label for an image.",
            "Of a column: labels.ravel()"
            if np.shape(found)[1:] == (1,)
            else "Of one-hot labels: labels.argmax(1)",
        )
    if hasattr(images, "shape"):
        images = as_numpy(images)
        if images.dtype.kind in "iuc" and images.dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"images are {images.dtype}; expected uint8, uint16, bool, or floating-point "
                "numbers from 0 to 1.",
                "Of 0 to 255: images.astype('uint8')",
            )
        if images.ndim < 3 and images.dtype.kind in "biuf":
            raise DataError(
                f"images have the shape {images.shape}; expected (N, H, W), (N, H, W, C) or "
                "(N, C, H, W).",
                "Of flattened squares: images.reshape(len(images), side, side)",
            )
    return Part(images.__getitem__, listed, groups=groups, signature=_signature(images))


def _signature(images: Any) -> str:
    """Of an array its checksum, of paths what the disk says of them, else nothing.

    Raises:
        DataError: numbers that are no brightness.
    """
    seen = hashlib.sha256()
    if isinstance(images, np.ndarray) and images.dtype.kind in "biuf":
        for start in range(0, len(images), PIECE):
            piece = np.ascontiguousarray(images[start : start + PIECE])
            if piece.dtype.kind == "f":
                _check_range(piece, start)
            seen.update(piece.data)
        return f"{images.dtype} {images.shape} {seen.hexdigest()}"
    if all(isinstance(one, str | os.PathLike) for one in images):
        for one in images:
            try:
                state = os.stat(os.path.expanduser(one))  # noqa: PTH111
                told = f"{os.path.abspath(one)}\0{(state.st_size, state.st_mtime_ns)}\n"  # noqa: PTH100
            except (OSError, ValueError):
                told = f"{one}\0absent\n"
            seen.update(told.encode("utf-8", "surrogateescape"))
        return f"paths {seen.hexdigest()}"
    return ""


def _check_range(piece: np.ndarray[Any, Any], start: int) -> None:
    """DataError unless numbers are from 0 to 1."""
    flat = piece.reshape(len(piece), -1)
    wrong = ~((flat >= -1e-5) & (flat <= 1 + 1e-5)).all(1)  # a NaN is neither
    if wrong.any():
        place = int(wrong.argmax())
        low, high = float(flat[place].min()), float(flat[place].max())
        raise DataError(
            f"image {start + place:,} holds numbers from {low:g} to {high:g}, expected 0 to 1 for "
            f"{piece.dtype}.",
            "Of 0 to 255: images.astype('uint8')."
            if high > 1
            else "Replace what is no number, or undo the normalisation.",
        )


def _rows(data: Any, groups: Sequence[Any] | None) -> Part:
    """Pairs, or dictionaries, by their places; a torch Dataset may know its labels."""
    names = [str(one) for one in data.classes] if hasattr(data, "classes") else None
    targets = getattr(data, "targets", None)
    count = len(data)
    if targets is not None and len(targets) == count:
        return Part(lambda place: data[place][0], list(targets), names, groups)
    pairs = [_pair(data[place], place) for place in range(count)]
    pictures = [picture for picture, _ in pairs]
    labels = [label for _, label in pairs]
    if isinstance(data, list):
        return Part(pictures.__getitem__, labels, names, groups, _signature(pictures))
    # what makes its pictures anew each time need not be held
    del pictures, pairs
    return Part(lambda place: _pair(data[place], place)[0], labels, names, groups)


def _pair(row: Any, place: int) -> tuple[Any, Any]:
    if isinstance(row, Mapping):
        keys = [
            next((key for key in known if key in row), None) for known in (PICTURE_KEYS, LABEL_KEYS)
        ]
        if None not in keys:
            return row[keys[0]], row[keys[1]]
    elif _is_pair(row):
        return row[0], row[1]
    told = (
        f"a dictionary of {', '.join(map(str, row))}"
        if isinstance(row, Mapping)
        else name_of(f"a {type(row).__name__}", place)
    )
    alone = hasattr(row, "shape") or hasattr(row, "convert")  # an array, or one of Pillow's
    hint = "Hand their labels over with the images: (images, labels)." if alone else EXPECTED
    raise DataError(f"item {place:,} is {told}; expected (image, label).", hint)


def _hugging_face(data: Any) -> Part:
    """A Dataset of Hugging Face: labels are read without decoding a picture."""
    columns = list(data.column_names)
    kinds = {name: type(kind).__name__ for name, kind in data.features.items()}
    picture = next(
        (one for one in columns if kinds.get(one) == "Image"),
        next((one for one in PICTURE_KEYS if one in columns), None),
    )
    label = next(
        (one for one in columns if kinds.get(one) == "ClassLabel"),
        next((one for one in LABEL_KEYS if one in columns), None),
    )
    if picture is None or label is None:
        raise DataError(
            f"the columns {', '.join(columns)} are no picture and its label.",
            'Rename them: data.rename_columns({"PICTURE": "image", "LABEL": "label"})',
        )
    names = getattr(data.features[label], "names", None)
    return Part(lambda place: data[place][picture], list(data[label]), names)


def _frame(data: Any, reading: Reading) -> Source:
    """The images of a DataFrame, which holds their paths, or the pictures themselves."""
    columns = [str(one) for one in data.columns]
    for place, name in enumerate(columns):
        first = data.iloc[0, place] if len(data) else None
        if isinstance(first, Mapping | bytes | Image.Image | np.ndarray):
            known = [reading.label_column] if reading.label_column else LABEL_KEYS
            label = next((one for one in known if one in columns), None)
            if label is None:
                raise DataError(
                    f"the DataFrame does not show which column holds the label of {name!r}; it "
                    f"has {', '.join(columns)}.",
                    "Name it: alexnet.labelled(frame, label_column=...)",
                )
            groups = data[reading.group].tolist() if reading.group in columns else None
            return joined({"all": Part(data[name].tolist().__getitem__, data[label].tolist(),
                                        groups=groups)}, replace(reading, group=""))  # fmt: skip

    def rows() -> Iterator[Row]:
        yield 0, columns
        yield from enumerate(data.itertuples(index=False, name=None))

    table = Table("the DataFrame", rows, "row", headed=True)
    here = Path(reading.images or ".").expanduser().resolve()
    root = here if reading.images else folder_of_paths(table, reading, here)
    tree = LooseFiles(root)
    source = table_source({"all": table}, tree, reading, {})
    state = hashlib.sha256(repr([*source.examples]).encode("utf-8", "surrogateescape")).hexdigest()
    signature = f"{root} {state} {tree.seen.hexdigest()}"
    named = replace(source, name="the DataFrame", signature=signature)
    return grouped(named, reading.group)
