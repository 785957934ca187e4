"""Images that lie together in one file: CIFAR in both versions, MNIST's idx, .npz and .npy, Parquet
of the Hugging Face kind, tables of pixels; and a zip for each class, as Teachable Machine saves
samples -> Source.

The files are found by name in a folder or an archive, and held in memory while they are packed.
"""

import gzip
import io
import json
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data import plain_pickle
from alexnet.data.archives import ZipTree
from alexnet.data.handed import Part, arrays, joined
from alexnet.data.images import readable_extensions
from alexnet.data.kinds import ending
from alexnet.data.levels import SPLIT_WORDS, Folder, split_word
from alexnet.data.listing import Example, Examples
from alexnet.data.pixel_tables import pictures_of, pixel_columns, told_pixels
from alexnet.data.reading import Reading
from alexnet.data.sources import Source
from alexnet.data.tables import LABELS, Table, is_table, opened
from alexnet.data.trees import FolderTree, Tree
from alexnet.errors import DataError, needs_extra

PICTURE_WORDS = frozenset("x image images img imgs pixels data input inputs".split())
LABEL_WORDS = frozenset("y label labels target targets class classes".split())
NAME_WORDS = frozenset("names name categories".split())
CIFAR10_FILE = re.compile(r"(data_batch_\d+|test_batch)\Z")
CIFAR100 = ("train", "test")
SIDE = 3 * 32 * 32
AGAIN = "Fetch or copy it again."

Parts = dict[str, Part]  # by split


def arrays_in(tree: Tree, top: Folder, reading: Reading) -> Source | None:
    """The images of the arrays in a folder; None where there are none."""
    while not top.files and len(top.folders) == 1:  # an archive often has one
        [top] = top.inner
    if top.count:
        return None
    files = Files(tree, f"{top.path}/" if top.above else "", top)
    for layout, find in KINDS.items():
        if parts := find(files, reading):
            source = joined(parts, reading, layout, str(tree.where))
            source.left_out.extend(files.left_out)
            source.notes.extend(files.notes)
            return source
    return None


class Files:
    """The files in a folder of a tree."""

    def __init__(self, tree: Tree, base: str, top: Folder) -> None:
        self.tree, self.base, self.where = tree, base, tree.where
        self.names = sorted(top.files)
        self.deep = top.below(base)
        self.left_out: list[str] = []
        self.notes: list[str] = []

    def open(self, name: str) -> IO[bytes]:
        try:
            return self.tree.open(self.base + name)
        except Exception as error:  # of every kind, as an archive's reader raises
            raise self.unreadable(name, error) from error

    def read(self, name: str, of: Callable[[IO[bytes]], Any]) -> Any:
        """What is in a file. DataError where it cannot be read."""
        try:
            with self.open(name) as file:
                return of(file)
        except DataError:
            raise
        except Exception as error:
            raise self.unreadable(name, error) from error

    def unreadable(self, name: str, error: Exception) -> DataError:
        return DataError(f"{self.where}: {name} cannot be read ({str(error)[:200]}).", AGAIN)

    def wrong(self, name: str, what: str, hint: str = AGAIN) -> DataError:
        return DataError(f"{self.where}: {name} {what}.", hint)


def _whole(file: IO[bytes]) -> bytes:
    return file.read()


def _records(files: Files, name: str, pixels: NDArray[np.uint8], labels: Sequence[Any]) -> Part:
    """Rows of 3,072 bytes, a channel after the other, as 32x32 pixels."""
    squares = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    if len(squares) != len(labels):
        raise files.wrong(name, f"has {len(squares):,} images and {len(labels):,} labels")
    return Part(lambda place: np.ascontiguousarray(squares[place]), labels)


# -- CIFAR


def cifar_100_binary(files: Files, reading: Reading) -> Parts:
    """train.bin and test.bin: 1 + 1 + 3,072 bytes each, the second the fine label."""
    fine = reading.label_column not in ("coarse", "coarse_label", "coarse_labels")
    words = f"{'fine' if fine else 'coarse'}_label_names.txt"
    if words not in files.names or not {"train.bin", "test.bin"} & set(files.names):
        return {}
    names = files.read(words, _whole).decode("ascii", "replace").split()
    parts = {}
    for split in ("train", "test"):
        name = f"{split}.bin"
        if name in files.names:
            content = files.read(name, _whole)
            if not content or len(content) % (SIDE + 2):
                raise files.wrong(
                    name, f"has {len(content):,} bytes, expected a multiple of {SIDE + 2:,}"
                )
            rows = np.frombuffer(content, np.uint8).reshape(-1, SIDE + 2)
            part = _records(files, name, rows[:, 2:], rows[:, 1 if fine else 0].tolist())
            parts[split] = Part(part.picture, part.labels, names)
    return parts


def cifar_python(files: Files, reading: Reading) -> Parts:
    """data_batch_1 ... test_batch and batches.meta; or train, test and meta."""
    hundred = {"meta", *CIFAR100} <= set(files.names)
    names = [one for one in files.names if CIFAR10_FILE.match(one) or (hundred and one in CIFAR100)]
    if not names or (not hundred and "batches.meta" not in files.names):
        return {}
    coarse = reading.label_column in ("coarse", "coarse_label", "coarse_labels")
    kind = ("coarse_" if coarse else "fine_") if hundred else ""
    meta = "meta" if hundred else "batches.meta"
    words = _entry(files, meta, _pickle(files, meta), f"{kind}label_names")
    found: dict[str, list[tuple[Any, list[Any]]]] = defaultdict(list)
    for name in names:
        batch = _pickle(files, name)
        pixels = np.asarray(_entry(files, name, batch, "data"))
        labels = _entry(files, name, batch, f"{kind}labels")
        if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != SIDE:
            raise files.wrong(
                name, f"holds {pixels.dtype} of shape {pixels.shape}, expected uint8 (N, {SIDE:,})"
            )
        found["test" if name.startswith("test") else "train"].append((pixels, list(labels)))
    parts = {}
    for split, batches in found.items():
        whole = np.concatenate([pixels for pixels, _ in batches])
        part = _records(files, split, whole, [one for _, labels in batches for one in labels])
        parts[split] = Part(part.picture, part.labels, [str(one) for one in words])
    return parts


def _pickle(files: Files, name: str) -> Any:
    return files.read(name, lambda file: plain_pickle.load(file, f"{files.where}: {name}"))


def _entry(files: Files, name: str, found: Any, key: str) -> Any:
    if not isinstance(found, dict) or key not in found:
        raise files.wrong(name, f"has no {key!r}", "It is no file of CIFAR. " + AGAIN)
    return found[key]


# -- idx, .npy


def role_of(name: str) -> tuple[str, str]:
    """What an array holds by its name: "pictures", "labels", "names" or nothing; and of which
    split."""
    words = re.findall(r"[a-z]+", name.lower().replace("t10k", "test"))
    splits = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    for role, known in (
        ("names", NAME_WORDS),
        ("pictures", PICTURE_WORDS),
        ("labels", LABEL_WORDS),
    ):
        if known & set(words):
            return role, splits[0] if splits else "all"
    return "", ""


def _paired(files: Files, names: Sequence[str], read: Callable[[str], NDArray[Any]]) -> Parts:
    """Arrays of pictures with those of labels of the same split."""
    roles: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        role, split = role_of(name.rpartition("/")[2])
        if role:
            if split in roles[role]:
                raise files.wrong(
                    name, f"and {roles[role][split]} both are the {role} of {split}",
                    "Keep one data set in a folder.",
                )  # fmt: skip
            roles[role][split] = name
    parts = {}
    for split, name in roles["pictures"].items():
        if split not in roles["labels"]:
            raise files.wrong(name, "has no labels beside it", "Expected y_train for x_train, ...")
        pictures, labels = read(name), read(roles["labels"][split])
        labels = labels.reshape(len(labels)) if labels.shape[1:] == (1,) else labels
        called = [str(one) for one in read(roles["names"]["all"])] if roles["names"] else None
        numbers = called if labels.dtype.kind in "iu" else None
        part = arrays(pictures, labels)
        parts[split] = Part(part.picture, part.labels, numbers)
    if len(parts) > 1 and "all" in parts:
        raise files.wrong(roles["pictures"]["all"], "has no split, beside others that have one")
    return parts


def idx(files: Files, reading: Reading) -> Parts:
    """MNIST's files, perhaps compressed."""
    names = [one for one in files.names if re.search(r"idx\d-ubyte(\.gz)?\Z", one)]
    return _paired(files, names, lambda name: files.read(name, lambda file: _idx(file, name)))


def _idx(file: IO[bytes], name: str) -> NDArray[np.uint8]:
    """Raises ValueError: it is none."""
    stream = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file
    start = stream.read(4)
    if len(start) < 4 or start[:3] != b"\0\0\x08" or not 1 <= start[3] <= 4:
        raise ValueError("it does not begin as an idx file of bytes")
    shape = struct.unpack(f">{start[3]}I", stream.read(4 * start[3]))
    count = int(np.prod(shape, dtype=object))
    if count > 2**33:
        raise ValueError(f"it says that its shape is {shape}")
    content = stream.read(count + 1)
    if len(content) != count:
        raise ValueError(f"it has {len(content):,} bytes of numbers, its shape {shape} {count:,}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def numpy_files(files: Files, reading: Reading) -> Parts:
    """Arrays of NumPy; an .npz is an archive of them."""
    names = [one for one in files.names if one.endswith(".npy")]
    return _paired(files, names, lambda name: files.read(name, _npy))


def _npy(file: IO[bytes]) -> NDArray[Any]:
    found: NDArray[Any] = np.lib.format.read_array(io.BytesIO(file.read()), allow_pickle=False)
    return found


# -- Parquet with pictures in it


def parquet_pictures(files: Files, reading: Reading) -> Parts:
    """Hugging Face's: a column of {bytes, path}, a column of labels whose names the schema knows;
    data/train-00000-of-00002.parquet."""
    names = [one for one in files.deep if ending(one) == ".parquet"]
    if not names:
        return {}
    by_split: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_split[_split_of(name)].append(name)
    parts = {}
    for split, some in by_split.items():
        pictures: list[Any] = []
        labels: list[Any] = []
        called: list[str] | None = None
        for name in some:
            found = files.read(name, lambda file, name=name: parquet(file, name, reading))  # type: ignore[misc]
            if found is None:
                return {}
            pictures += found[0]
            labels += found[1]
            called = found[2]
        parts[split] = Part(pictures.__getitem__, labels, called)
    return parts


def _split_of(path: str) -> str:
    for part in reversed(path.lower().split("/")):
        words = re.findall(r"[a-z]+", part.removesuffix(".parquet"))
        splits = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
        if splits:
            return splits[0]
    return "all"


def parquet(
    file: IO[bytes], name: str, reading: Reading
) -> tuple[list[Any], list[Any], list[str] | None] | None:
    """Pictures, labels, and what these are called; None where no column holds pictures."""
    with needs_extra(f"reading {name}", "parquet"):
        import pyarrow
        from pyarrow import parquet as reader
    with reader.ParquetFile(io.BytesIO(file.read())) as table:
        schema = table.schema_arrow
        pictures = [
            one.name
            for one in schema
            if pyarrow.types.is_struct(one.type) and one.type.get_field_index("bytes") >= 0
        ]
        if not pictures:
            return None
        known = [reading.label_column] if reading.label_column else [*LABELS, "fine_label"]
        label = next((one for one in known if one in schema.names), None)
        if label is None:
            raise DataError(
                f"{name} has no column {' or '.join(known[:3])}; it has {', '.join(schema.names)}.",
                "Name the column of the labels: --label-column NAME",
            )
        rows = table.read([pictures[0], label])
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about.get("info", {}).get("features", {})
        return (
            rows.column(pictures[0]).to_pylist(),
            rows.column(label).to_pylist(),
            features.get(label, {}).get("names"),
        )


# -- tables of pixels


def pixel_tables(files: Files, reading: Reading) -> Parts:
    """Tables whose rows are pictures, called as the splits: train.csv, mnist_test.csv. What has no
    labels is left out."""
    found: Parts = {}
    for name in filter(is_table, files.names):
        table = opened(name, name, partial(files.open, name))
        columns = pixel_columns(table, reading)
        if columns is None:
            continue
        if columns.label < 0:
            files.left_out.append(f"{name}, whose pictures have no labels")
            continue
        split = split_word(name.rpartition(".")[0])[0] or "all"
        for own, part in pictures_of(table, columns, split).items():
            if own in found or (found and "all" in (own, *found)):
                raise files.wrong(
                    name, f"has pictures of {own}, and so has another table",
                    "Keep one data set in a folder, its tables called train and test.",
                )  # fmt: skip
            found[own] = part
        files.notes += told_pixels(table, columns)
    return found


def holds_pixels(where: Path, reading: Reading) -> bool:
    """Whether the rows of a table on disk are pictures; its beginning is looked at."""
    return not reading.images and pixel_columns(_on_disk(where), reading) is not None


def _on_disk(where: Path) -> Table:
    return opened(where.name, str(where), lambda: open(where, "rb"))


KINDS: dict[str, Callable[[Files, Reading], Parts]] = {
    "cifar-100": cifar_100_binary,
    "cifar-python": cifar_python,
    "idx": idx,
    "numpy": numpy_files,
    "parquet": parquet_pictures,
    "pixel-table": pixel_tables,
}


def table_of_pictures(where: Path, reading: Reading) -> Source | None:
    """The images in a table on disk, Parquet with pictures in it or one of pixels; None where it is
    another table."""
    if ending(where.name) == ".parquet":
        try:
            with open(where, "rb") as file:
                found = parquet(file, where.name, reading)
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"{where} cannot be read as Parquet ({str(error)[:200]}).", "Write it again."
            ) from error
        if found:
            pictures, labels, called = found
            part = Part(pictures.__getitem__, labels, called)
            return joined({"all": part}, reading, "parquet", str(where))
    table = _on_disk(where)
    columns = None if reading.images else pixel_columns(table, reading)
    if columns is None:
        return None
    if columns.label < 0:
        raise DataError(
            f"{where} has pictures without labels.", "Give the table that has a column of labels."
        )
    source = joined(pictures_of(table, columns), reading, "pixel-table", str(where))
    source.notes.extend(told_pixels(table, columns))
    return source


# -- a zip for each class


def zips_of_classes(tree: Tree, top: Folder) -> Source | None:
    """A folder of zips, each of the images of one class, which it is called after; None where there
    are none. Teachable Machine saves samples so: "Class 1-samples.zip"."""
    names = sorted(one for one in top.files if ending(one) == ".zip")
    if not isinstance(tree, FolderTree) or top.count or len(names) < 2:
        return None
    found: list[tuple[str, ZipTree, str]] = []
    for name in names:
        inner = ZipTree(tree.where / top.path / name)
        label = re.sub(r"[-_ ]samples( \(\d+\))?\Z", "", name[:-4])
        found += [
            (label, inner, path) for path in inner.files() if ending(path) in readable_extensions()
        ]
    classes = sorted({label for label, _, _ in found})
    if len(classes) < len(names):
        return None  # some hold no images: these are no classes
    examples, inside = Examples(), []
    for label, inner, path in sorted(found, key=lambda one: (one[0], one[1].where.name, one[2])):
        examples.append(Example("all", classes.index(label), f"{inner.where.name}/{path}"))
        inside.append((inner, path))

    def contents() -> Any:
        for inner, path in inside:
            try:
                yield inner.read(path)
            except OSError as error:
                yield error

    return Source("zips", classes, classes, examples, contents)
