"""Recognises how a source arranges its images, and lists them with their labels: a Source.

Nothing is moved or extracted.

    class folders     train/CLASS/..., val/CLASS/..., test/CLASS/..., or CLASS/... alone, in a
                      folder or a zip
    Tiny ImageNet     the official tree: wnids.txt, words.txt, val/val_annotations.txt
    CIFAR-10 binary   records of 1 + 3,072 bytes and batches.meta.txt, in a folder or a tar archive
    digits            scikit-learn's 1,797 handwritten digits
"""

import lzma
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from alexnet.data.images import EXTENSIONS, INSTALL_HEIC, Pixels, readable_extensions
from alexnet.data.trees import LARGEST_FILE, LAYOUTS_HINT, Tree
from alexnet.errors import DataError

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
SPLITS = ("train", "val", "test", "all")  # the order in which sources list their examples
CIFAR_NAMES = ("data_batch_", "test_batch")


class Example(NamedTuple):
    """One image of a source."""

    split: str  # train, val, test, or all where the source has no splits
    label: int  # index into the classes
    id: str  # its path inside the source


@dataclass(frozen=True)
class Source:
    """All labelled images of a data set, in order, before any is decoded."""

    layout: str
    classes: list[str]
    names: list[str]  # readable, all different
    examples: list[Example]
    contents: Callable[[], Iterator[bytes | Pixels | OSError]]  # in the order of `examples`
    left_out: list[str] = field(default_factory=list)  # what was seen and not used, in words


def children(paths: set[str], folder: str) -> list[str]:
    """Names directly below `folder` ("" is the top), sorted."""
    prefix = f"{folder}/" if folder else ""
    return sorted({path[len(prefix) :].split("/")[0] for path in paths if path.startswith(prefix)})


def read_tree(tree: Tree) -> Source:
    """The labelled images of a folder or zip, whatever its layout.

    Raises:
        DataError: no layout is recognised, or labels and images do not fit.
    """
    files, folders = tree.files(), tree.folders()
    if not files:
        raise DataError(f"{tree.where} is empty.", LAYOUTS_HINT)
    top = ""
    while True:  # an archive often holds one folder that holds everything
        inner = children(folders, top)
        direct = [name for name in children(set(files), top) if name not in inner]
        base = f"{top}/" if top else ""
        if (
            len(inner) != 1
            or direct
            or inner[0].lower() in SPLIT_NAMES
            or not (
                children(folders, base + inner[0])
                or any(path.startswith(CIFAR_NAMES, len(base + inner[0]) + 1) for path in files)
            )
        ):
            break
        top = base + inner[0]
    return _Reader(tree, base).read()


class _Reader:
    """Reads the class folders and annotation files below `base` of a tree."""

    def __init__(self, tree: Tree, base: str) -> None:
        self.tree, self.base, self.where = tree, base, tree.where
        self.files = [path[len(base) :] for path in tree.files() if path.startswith(base)]
        self.folders = {path[len(base) :] for path in tree.folders() if path.startswith(base)}
        endings = {path: PurePosixPath(path).suffix.lower() for path in self.files}
        readable = readable_extensions()
        self.images = [path for path in self.files if endings[path] in readable]
        self.left_out: list[str] = []
        heic = [path for path in self.files if endings[path] in EXTENSIONS - readable]
        if heic:
            self.left_out.append(f"{len(heic)} HEIC images, such as {heic[0]}: {INSTALL_HEIC}")
        self.unlabelled = 0
        # "train/cat": its images, at any depth
        self.by_folder: dict[str, list[str]] = defaultdict(list)
        for path in self.images:
            parts = path.split("/")
            for depth in range(1, len(parts)):
                self.by_folder["/".join(parts[:depth])].append(path)

    def read(self) -> Source:
        inner = children(self.folders, "")
        splits = {name: SPLIT_NAMES[name.lower()] for name in inner if name.lower() in SPLIT_NAMES}
        records = [path for path in self.files if "/" not in path and path.startswith(CIFAR_NAMES)]
        if any(path.endswith(".bin") for path in records):
            return cifar_source(self.where, lambda: self._records())
        if any(not PurePosixPath(path).suffix for path in records):
            raise python_version_error(self.where)
        if splits:
            labelled = self._splits(splits)
        elif any(path in self.images for path in self.files if "/" not in path) and not inner:
            raise DataError(
                f"{self.where} holds images but no class folders, so their classes are unknown.",
                "Put the images of each class into a folder of its own, named like the class.",
            )
        elif inner:
            labelled = {"all": self._class_folders("")}
        else:
            raise DataError(f"{self.where} holds no images in any known layout.", LAYOUTS_HINT)
        return self._source(labelled)

    def _records(self) -> Iterator[tuple[str, bytes]]:
        for path in self.files:
            try:
                content = self.tree.read(self.base + path)
            except OSError as error:
                raise DataError(
                    f"{self.where}: {path} cannot be read ({error}).",
                    "Fetch it again: alexnet data fetch cifar10",
                ) from error
            yield path, content

    def _splits(self, folders: dict[str, str]) -> dict[str, dict[str, list[str]]]:
        """Split: class: images. Tiny ImageNet's official val is its only labelled split outside
        train, so it is the test."""
        tiny = "wnids.txt" in self.files or any(
            path.endswith("/val_annotations.txt") for path in self.files
        )
        labelled: dict[str, dict[str, list[str]]] = {}
        for folder, split in folders.items():
            if split in labelled:
                raise DataError(f"{self.where} has two folders for {split}.", "Rename one of them.")
            annotations = f"{folder}/val_annotations.txt"
            if annotations in self.files:
                labelled[split] = self._annotated(folder, annotations)
            elif children(self.folders, folder) in ([], ["images"]):
                count = len(self.by_folder[folder])
                if split != "test" or not count:
                    raise DataError(
                        f"{self.where / self.base / folder} holds {count} images but no class "
                        "folders and no val_annotations.txt, so their classes are unknown; "
                        "trainers that take such a folder for one class stay at chance.",
                        "Sort the images into class folders, or put the official "
                        "val_annotations.txt beside them.",
                    )
                self.unlabelled += count
                self.left_out.append(f"{count} images without labels in {folder}/")
            else:
                labelled[split] = self._class_folders(folder)
        if tiny and "val" in labelled and "test" not in labelled:
            labelled["test"] = labelled.pop("val")
        others = [name for name in children(self.folders, "") if name not in folders]
        if others:
            self.left_out.append(f"folders beside the splits: {', '.join(others)}")
        if not labelled:
            raise DataError(f"{self.where} holds no labelled images.", LAYOUTS_HINT)
        return labelled

    def _class_folders(self, folder: str) -> dict[str, list[str]]:
        base = f"{folder}/" if folder else ""
        found = {name: self.by_folder[base + name] for name in children(self.folders, folder)}
        empty = [name for name, images in found.items() if not images]
        if empty:
            raise DataError(
                f"{self.where / self.base / folder} has class folders without images: "
                f"{', '.join(empty[:10])}.",
                "Put images into them, or take them away. Known image files: "
                f"{' '.join(sorted(readable_extensions()))}"
                + "".join(f"; there are {text}" for text in self.left_out if "HEIC" in text),
            )
        return found

    def _annotated(self, folder: str, annotations: str) -> dict[str, list[str]]:
        """val_annotations.txt: file name, tab, wnid, tab, box. Images lie in images/ or beside
        it."""
        images = {PurePosixPath(path).name: path for path in self.by_folder[folder]}
        known = set(children(self.folders, "train"))
        found: dict[str, list[str]] = defaultdict(list)
        text = self._text(annotations)
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            where = f"{annotations} line {number}"
            name, _, rest = line.partition("\t")
            wnid = rest.split("\t")[0].strip()
            if not wnid:
                raise DataError(
                    f"{self.where}: {where} is {line[:80]!r}, expected FILE, tab, WNID.",
                    "Restore the official file.",
                )
            if known and wnid not in known:
                raise DataError(
                    f"{self.where}: {where} names the class {wnid!r}, which train/ does not have.",
                    "Restore the official file, or take the line out.",
                )
            if name not in images:
                raise DataError(
                    f"{self.where}: {where} names the image {name!r}, which is not there.",
                    "Restore the image.",
                )
            found[wnid].append(images.pop(name))
        if images:
            some = ", ".join(sorted(images)[:3])
            raise DataError(
                f"{self.where}: {len(images)} images of {folder}/ have no line in {annotations}, "
                f"such as {some}.",
                "Restore the official file.",
            )
        return found

    def _text(self, path: str) -> str:
        try:
            return self.tree.read(self.base + path).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{self.where}: {path} cannot be read ({error}).", "Restore the official file."
            ) from error

    def _source(self, labelled: dict[str, dict[str, list[str]]]) -> Source:
        reference = "train" if "train" in labelled else next(iter(labelled))
        classes = sorted(labelled[reference])
        for split, found in labelled.items():
            unknown = sorted(set(found) - set(classes))
            if unknown and "train" in labelled:
                raise DataError(
                    f"{self.where}: {split} has classes that train does not have: "
                    f"{', '.join(unknown[:10])}.",
                    "Class folders must have the same names in every split.",
                )
            classes = sorted({*classes, *unknown})
        if len(classes) < 2:
            raise DataError(
                f"{self.where} has one class only ({classes[0]}); a classifier needs at least two.",
                "Put the images of each class into a folder of its own, beside each other.",
            )
        order = {name: label for label, name in enumerate(classes)}
        examples = [
            Example(split, order[name], path)
            for split in SPLITS
            for name in sorted(labelled.get(split, {}))
            for path in sorted(labelled[split][name])
        ]
        strays = len(self.images) - len(examples) - self.unlabelled
        if strays > 0:
            self.left_out.append(f"{strays} images outside the class folders")
        used = EXTENSIONS | {".txt"}  # words.txt, wnids.txt, Tiny ImageNet's box lists
        others = [path for path in self.files if PurePosixPath(path).suffix.lower() not in used]
        if others:
            self.left_out.append(f"{len(others)} files that are not images, such as {others[0]}")
        layout = "tiny-imagenet" if "wnids.txt" in self.files else "class-folders"
        return Source(
            layout,
            classes,
            self._names(classes),
            examples,
            lambda: self._contents(examples),
            self.left_out,
        )

    def _names(self, classes: list[str]) -> list[str]:
        """Readable names: from words.txt the first synonym of a wnid; where two are the same, the
        wnid tells them apart."""
        words: dict[str, str] = {}
        if "words.txt" in self.files:
            for line in self._text("words.txt").splitlines():
                wnid, _, synonyms = line.partition("\t")
                words[wnid.strip()] = synonyms.split(",")[0].strip()
        return distinct([words.get(name) or name for name in classes], classes)

    def _contents(self, examples: list[Example]) -> Iterator[bytes | Pixels | OSError]:
        for example in examples:
            try:
                yield self.tree.read(self.base + example.id)
            except OSError as error:
                yield error


def distinct(names: list[str], classes: list[str]) -> list[str]:
    """The names, with the class identifier behind those that occur twice."""
    return [
        f"{name} ({identifier})" if names.count(name) > 1 else name
        for name, identifier in zip(names, classes, strict=True)
    ]


CIFAR_RECORD = 1 + 3 * 32 * 32


def cifar_source(where: Path, files: Callable[[], Iterator[tuple[str, bytes]]]) -> Source:
    """CIFAR-10's binary version. `files` yields (name, content) of a folder's or an archive's
    files."""
    classes: list[str] = []
    counts: dict[str, int] = {}
    labels: dict[str, list[int]] = {}
    for path, content in files():
        name = PurePosixPath(path).name
        if name == "batches.meta.txt":
            classes = content.decode("ascii", "replace").split()
        elif name.endswith("_batch.bin") or name.startswith("data_batch_"):
            if not content or len(content) % CIFAR_RECORD:
                raise DataError(
                    f"{where}: {name} has {len(content):,} bytes, expected a multiple of "
                    f"{CIFAR_RECORD:,}.",
                    "It is cut short: alexnet data fetch cifar10",
                )
            counts[name] = len(content) // CIFAR_RECORD
            labels[name] = np.frombuffer(content, np.uint8)[::CIFAR_RECORD].tolist()
    if len(classes) != 10:
        raise DataError(
            f"{where} has no batches.meta.txt with ten class names, so it is not CIFAR-10's binary "
            "version, the only tar archive that is read.",
            "For CIFAR-10: alexnet data fetch cifar10. Other archives: unpack them, or use a .zip.",
        )
    order = sorted(counts, key=lambda name: (name == "test_batch.bin", name))
    examples = []
    for name in order:
        for number, label in enumerate(labels[name]):
            if label >= len(classes):
                raise DataError(
                    f"{where}: record {number} of {name} has label {label}, expected 0 to 9.",
                    "Fetch it again.",
                )
            split = "test" if name == "test_batch.bin" else "train"
            examples.append(Example(split, label, f"{name}#{number}"))

    def contents() -> Iterator[bytes | Pixels | OSError]:
        held = {}
        waiting = list(order)
        for path, content in files():  # an archive need not have them in order
            name = PurePosixPath(path).name
            if name in counts:
                held[name] = content
            while waiting and waiting[0] in held:
                records = np.frombuffer(held.pop(waiting.pop(0)), np.uint8).reshape(
                    -1, CIFAR_RECORD
                )
                for record in records:
                    yield record[1:].reshape(3, 32, 32).transpose(1, 2, 0)

    return Source("cifar-10", classes, classes, examples, contents)


def python_version_error(where: Path) -> DataError:
    """CIFAR-10 comes as a pickle, too."""
    return DataError(
        f"{where} holds CIFAR-10's python version, which is a pickle and can run code when opened.",
        "Use the binary version: alexnet data fetch cifar10",
    )


def tar_files(where: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the regular files of a tar archive that may belong to CIFAR-10."""
    try:
        with tarfile.open(where) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.name == "data_batch_1":
                    raise python_version_error(where)
                if name.suffix in (".bin", ".txt") and member.size <= LARGEST_FILE:
                    file = archive.extractfile(member)
                    if file is not None:  # None: a folder or a device
                        yield member.name, file.read()
            while archive.fileobj and archive.fileobj.read(2**20):
                pass  # to the end, where gzip keeps its checksum
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{where} cannot be read as a tar archive ({error}).",
            "It may be cut short: fetch it again.",
        ) from error


def digits_source() -> Source:
    """scikit-learn's copy of the UCI handwritten digits: 1,797 images of 8x8 px, 16 grey levels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)  # (1797, 8, 8)
    classes = [str(name) for name in digits.target_names]
    order = np.argsort(digits.target, kind="stable")
    examples = [Example("all", int(digits.target[place]), f"digits#{place}") for place in order]
    return Source("digits", classes, classes, examples, lambda: iter(pixels[order]))
