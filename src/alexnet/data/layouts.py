"""Recognises how a source arranges its images, and lists them with their labels: a Source.

Nothing is moved or extracted. docs/data.md has the rules.

    class folders     train/CLASS/..., val/CLASS/..., test/CLASS/..., or CLASS/... alone
    Tiny ImageNet     the official tree: wnids.txt, words.txt, val/val_annotations.txt
    CIFAR-10 binary   records of 1 + 3,072 bytes and batches.meta.txt
    arrays            CIFAR-100, CIFAR's pickles, idx, .npz, Parquet with pictures (arrays.py)
    tables, names     labels in a table beside the images, or in their names (tables, filenames)
    digits            scikit-learn's 1,797 handwritten digits

All but the last in a folder, a zip or a tar archive.
"""

import heapq
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from alexnet.data.arrays import arrays_in, zips_of_classes
from alexnet.data.filenames import named_source
from alexnet.data.images import INSTALL_HEIC, readable_extensions
from alexnet.data.kinds import PICTURES, advice, described, ending, kind_of
from alexnet.data.levels import (
    Folder,
    alike,
    alone,
    at_level,
    find_splits,
    folder_of,
    holds_classes,
    into_images,
    is_unlabelled,
    refuse_repeated,
    starred,
    through,
    unknown_names,
    unwrapped,
    without_companions,
)
from alexnet.data.listing import SPLITS, Example, Examples, Paths
from alexnet.data.names import shortly, spelling, told_outputs
from alexnet.data.official import CIFAR_NAMES, cifar_source
from alexnet.data.reading import Reading
from alexnet.data.sources import Source
from alexnet.data.tables import contents_of, labels_beside, tables_in
from alexnet.data.trees import LAYOUTS_HINT, Inside, Tree
from alexnet.errors import DataError
from alexnet.marks import output_kind

# a folder alone is a split only under one of these names; else it is a wrapper
LONE_SPLITS = frozenset("train training val valid validation test testing".split())

UNSAID = Reading()
ByClass = dict[str, Sequence[str]]  # sorted paths of images, by class


def read_tree(tree: Tree, levels: int = 0, reading: Reading = UNSAID) -> Source:
    """The labelled images of a folder or an archive, whatever its layout.

    Args:
        levels: the folders so many levels down are the classes; 0 to find out.
        reading: what else is said of how labels are found.

    Raises:
        DataError: no layout is recognised, there are two readings, or labels and images do not
            fit.
    """
    top = folder_of(tree)
    if not tree.files():
        if tree.outputs:
            raise DataError(
                f"{tree.where} holds nothing but {told_outputs(tree.outputs)}.",
                "Give the folder of the images, or one of these itself.",
            )
        raise DataError(f"{tree.where} is empty.", LAYOUTS_HINT)
    kind = output_kind(top.files)
    if kind and not top.count:
        raise DataError(
            f"{tree.where} is {kind} that alexnet wrote, and no source of images.",
            "Give the folder of the images.",
        )
    beside = [] if levels else without_companions(top)
    top = top if levels else _without_wrappers(top, beside)
    if reading.label_pattern:
        base = f"{top.path}/" if top.above else ""
        return named_source(Inside(tree, base), top.below(base, images=True), reading.label_pattern)
    if found := arrays_in(tree, top, reading) or zips_of_classes(tree, top):
        found.left_out.extend(beside)
        return found
    if reading.path_column or reading.label_column or reading.split_column or reading.images:
        if reading.images or (found := tables_in(tree, top, reading)) is None:
            raise DataError(
                f"{tree.where} is no table.", "Give the table itself, and its images by --images."
            )
        return found
    inner = top if levels else into_images(top)
    if inner is not top:
        others = [*top.files, *(f"{one.name}/" for one in top.inner if one is not inner)]
        beside.append(f"what lies beside {inner.name}/: {shortly(others)}")
    try:
        source = _Reader(tree, inner, beside).read(levels)
    except DataError:
        found = None if levels else tables_in(tree, top, reading)
        if found is None:
            raise
        return found
    if levels:
        return source
    if len(source.classes) < 2 and (found := tables_in(tree, top, reading)):
        return found  # train/ with images, and their labels beside it
    source.left_out.extend(labels_beside(tree, top, reading, source.classes))
    return source


def _without_wrappers(top: Folder, beside: list[str]) -> Folder:
    """The folder that holds everything: an archive often has one, and perhaps a file beside it."""
    while len(top.folders) == 1:
        [only] = top.inner
        is_class = not only.folders and not any(map(_is_cifar, only.files))
        if (
            is_class
            or only.name.lower() in LONE_SPLITS
            or (top.images and not through(only).holding)
        ):
            break
        if top.files:
            beside.append(f"files beside {only.name}/: {shortly(top.files)}")
        top = only
    return top


def _is_cifar(name: str) -> bool:
    return name.startswith(CIFAR_NAMES)


class _Reader:
    """Reads the class folders and annotation files in `top`, a folder of a tree."""

    def __init__(self, tree: Tree, top: Folder, beside: list[str]) -> None:
        self.tree, self.top = tree, top
        self.base = f"{top.path}/" if top.above else ""
        self.where = tree.where
        self.left_out = list(beside)
        self.notes: list[str] = []
        self.unlabelled = 0
        self.called: dict[str, str] = {}  # split: the name of its folder

    def read(self, levels: int) -> Source:
        top = self.top
        records = [name for name in top.files if _is_cifar(name)]
        if any(name.endswith(".bin") for name in records):
            source = cifar_source(self.where, top.files, self._record)
            source.left_out.extend(self.left_out + self._left_out_around())
            return source
        if levels:
            classes = at_level(top, levels)
            labelled = {
                "all": {
                    name: _together([self._images(one) for one in classes[name]])
                    for name in classes
                }
            }
            if not classes:
                self._refuse(f"{self.where} has no folders with images {levels} levels down.")
        elif not top.count:
            self._refuse(f"{self.where} holds no images in any known layout.")
        elif not top.folders:
            self._refuse(
                f"{self.where} holds images but no class folders, so their classes are unknown.",
                "Put the images of each class into a folder of its own, named like the class.",
            )
        else:
            splits = find_splits(top, self.where)
            labelled = self._splits(splits) if splits else {"all": self._classes(top, "all")}
        return self._source(labelled)

    def _refuse(self, message: str, hint: str = LAYOUTS_HINT) -> NoReturn:
        """DataError, with what is there instead."""
        files = self.top.below(self.base)
        foreign = [path for path in files if ending(path) not in readable_extensions()]
        if foreign:
            message += f" There are files of other kinds: {described(foreign)}."
        words = advice(foreign)
        raise DataError(
            message, words if hint.lower() in words.lower() else f"{words} {hint}".strip()
        )

    def _record(self, name: str) -> bytes:
        """A file directly in the folder."""
        try:
            return self.tree.read(self.base + name)
        except OSError as error:
            raise DataError(
                f"{self.where}: {name} cannot be read ({error}).",
                "Fetch it again: alexnet data fetch cifar10",
            ) from error

    def _images(self, folder: Folder) -> Sequence[str]:
        return folder.below(self.base, images=True)

    def _splits(self, folders: dict[str, Folder]) -> dict[str, ByClass]:
        """Split: class: images. Tiny ImageNet's official val is its only labelled split outside
        train, so it is the test."""
        labelled: dict[str, ByClass] = {}
        for split in [one for one in SPLITS if one in folders]:
            folder = folders[split]
            self.called[split] = folder.name
            known = set(labelled.get("train", {}))
            inside = unwrapped(folder)
            if "val_annotations.txt" in folder.files:
                train = folders.get("train")
                labelled[split] = self._annotated(folder, set(train.folders if train else ()))
            elif holds_classes(folder) or known & set(inside.folders):
                labelled[split] = self._classes(inside, split, known if labelled else None)
            elif not folder.count and labelled:
                self.left_out.append(f"{folder.name}/, which holds no images")
            elif split == "test" and folder.count:
                self.unlabelled += folder.count
                self.left_out.append(f"{folder.count} images without labels in {folder.name}/")
            else:
                self._refuse_unlabelled(folder)
        if "train" in labelled:
            others = {name for split in labelled if split != "train" for name in labelled[split]}
            train = unwrapped(folders["train"])
            refuse_repeated(train, self.where, bool(others & set(labelled["train"])))
        is_tiny = "wnids.txt" in self.top.files or any(
            "val_annotations.txt" in one.files for one in self.top.walk() if one is not self.top
        )
        if is_tiny and "val" in labelled and "test" not in labelled:
            labelled["test"] = labelled.pop("val")
            self.called["test"] = self.called["val"]
        names = {folder.name for folder in folders.values()}
        if beside := [one.name for one in self.top.inner if one.name not in names]:
            self.left_out.append(f"folders beside the splits: {', '.join(beside)}")
        if not labelled:
            raise DataError(f"{self.where} holds no labelled images.", LAYOUTS_HINT)
        return labelled

    def _refuse_unlabelled(self, folder: Folder) -> NoReturn:
        tables = [name for name in (*self.top.files, *folder.files) if kind_of(name) == "tables"]
        raise DataError(
            f"{self.where / folder.path} holds {folder.count} images but no class folders and no "
            "val_annotations.txt, so their classes are unknown; trainers that take such a folder "
            "for one class stay at chance.",
            f"{advice(tables)} Sort the images into class folders, or put the official "
            f"val_annotations.txt beside them. If {folder.name} is a class, give the folder with a "
            f"star: {starred(self.top, self.where)}.".strip(),
        )

    def _classes(self, folder: Folder, split: str, known: set[str] | None = None) -> ByClass:
        """Images by class. `known` are the classes of train, or nothing where there is no train;
        None for the first split, which must be whole."""
        first = known is None
        if split != "train" and first:  # the train split has others to confirm it
            refuse_repeated(folder, self.where)
        here = folder.path[len(self.base) :]
        by_form = {unicodedata.normalize("NFC", name): name for name in known or ()}
        found: ByClass = {}
        empty = []
        for one in folder.inner:
            form = unicodedata.normalize("NFC", one.name)
            meant = known is None or one.name in known
            name = one.name if meant else by_form.get(form, one.name)
            if known and name not in known and is_unlabelled(name):
                self.unlabelled += one.count
                if one.count:
                    self.left_out.append(f"{one.count} images without labels in {here}/{name}/")
            elif not one.count:
                empty.append(one)
            else:
                images = self._images(one)
                found[name] = _together([found[name], images]) if name in found else images
                if name != one.name:
                    mine, other = spelling(one.name, name)
                    self.notes.append(f"{here}: the folder {mine} is the class {other}")
        if split == "all":
            self._tell_inner(folder)
        if empty and first:
            foreign = [path for one in empty for path in one.below("")]
            words = [one.name for one in empty[:10]]
            if foreign:
                words[-1] += f" (but {described(foreign)})"
            raise DataError(
                f"{self.where / folder.path} has class folders without images: {', '.join(words)}.",
                f"{advice(foreign)} Put images into them, or take them away. Known image files: "
                f"{' '.join(sorted(readable_extensions()))}".strip(),
            )
        if empty:
            self.left_out.append(
                f"class folders of {here}/ without images: {shortly(one.name for one in empty)}"
            )
        return found

    def _tell_inner(self, folder: Folder) -> None:
        """Says that classes have folders inside, where all have; DataError where one has so many
        that it is no class."""
        inner = {one.name: [two.name for two in through(one).holding] for one in folder.holding}
        plain = [name for name, names in inner.items() if len(names) < 2]
        for one in folder.holding:
            if plain and len(inner[one.name]) > 2 * len(inner) > 2 and not one.images:
                others = shortly(name for name in inner if name != one.name)
                raise DataError(
                    f"{self.where / folder.path} can be read in two ways: {one.name} holds no "
                    f"images itself, but {len(inner[one.name])} folders that do "
                    f"({shortly(inner[one.name])}), which are the classes; or {one.name} and "
                    f"{others} are.",
                    f"For the first, give {alone(one, self.where)}. For the second, give "
                    f"{starred(folder, self.where)}.",
                )
        if inner and not plain:
            [one, *_] = folder.holding
            levels = 2 + through(one).path.count("/") - one.path.count("/")
            every = {name for names in inner.values() for name in names}
            self.notes.append(
                f"the classes are {shortly(inner)}; in each lie folders ({shortly(every)}), which "
                f"as classes of their own are {starred(folder, self.where, levels)}"
            )

    def _annotated(self, folder: Folder, known: set[str]) -> ByClass:
        """val_annotations.txt: file name, tab, wnid, tab, box. Images lie in images/ or beside it.
        `known` are the classes of train, if there is one."""
        images = {path.rpartition("/")[2]: path for path in self._images(folder)}
        annotations = f"{folder.name}/val_annotations.txt"
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
                f"{self.where}: {len(images)} images of {folder.name}/ have no line in "
                f"{annotations}, such as {some}.",
                "Restore the official file.",
            )
        return {wnid: sorted(paths) for wnid, paths in found.items()}

    def _text(self, path: str) -> str:
        try:
            return self.tree.read(self.base + path).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{self.where}: {path} cannot be read ({error}).", "Restore the official file."
            ) from error

    def _source(self, labelled: dict[str, ByClass]) -> Source:
        reference = "train" if "train" in labelled else next(iter(labelled))
        classes = sorted(labelled[reference])
        for split, found in labelled.items():
            unknown = sorted(set(found) - set(classes))
            if unknown and "train" in labelled:
                raise DataError(
                    f"{self.where}: {self.called[split]} has classes that {self.called['train']} "
                    f"does not have: {unknown_names(unknown, classes)}.",
                    "Class folders must have the same names in every split.",
                )
            classes = sorted({*classes, *unknown})
        order = {name: label for label, name in enumerate(classes)}
        examples = Examples(
            Example(split, order[name], path)
            for split in SPLITS
            for name in sorted(labelled.get(split, {}))
            for path in labelled[split][name]
        )
        if not examples:
            raise DataError(f"{self.where} holds no labelled images.", LAYOUTS_HINT)
        self._note_alike(classes)
        strays = self.top.count - len(examples) - self.unlabelled
        if strays > 0:
            self.left_out.append(f"{strays} images outside the class folders")
        used = readable_extensions() | {".txt"}  # words.txt, wnids.txt, Tiny ImageNet's box lists
        others = [path for path in self.top.below(self.base) if ending(path) not in used]
        if heic := [path for path in others if kind_of(path) == "HEIC"]:
            self.left_out.append(f"{len(heic)} HEIC images, such as {heic[0]}: {INSTALL_HEIC}")
            others = [path for path in others if kind_of(path) != "HEIC"]
        if pictures := [path for path in others if kind_of(path) in PICTURES]:
            self.left_out.append(
                f"{len(pictures)} files of kinds that are not read ({described(pictures)}), such "
                f"as {pictures[0]}"
            )
            others = [path for path in others if kind_of(path) not in PICTURES]
        if others:
            self.left_out.append(f"{len(others)} files that are not images, such as {others[0]}")
        return Source(
            "tiny-imagenet" if "wnids.txt" in self.top.files else "class-folders",
            classes,
            self._names(classes),
            examples,
            partial(contents_of, self.tree, examples, self.base),
            self.left_out + self._left_out_around(),
            self.notes + self.tree.notes,
        )

    def _left_out_around(self) -> list[str]:
        """What the tree passed over."""
        ours = told_outputs(self.tree.outputs)
        return [ours, *self.tree.left_out] if ours else self.tree.left_out

    def _note_alike(self, classes: list[str]) -> None:
        """Classes that differ in case, space or Unicode form only are rarely meant."""
        seen: dict[str, str] = {}
        for name in classes:
            other = seen.setdefault(alike(name), name)
            if other != name:
                one, two = spelling(other, name)
                self.notes.append(f"the classes {one} and {two} differ in so little: are they one?")

    def _names(self, classes: list[str]) -> list[str]:
        """Readable names: from words.txt the first synonym of a wnid; where two are the same, the
        wnid tells them apart."""
        words: dict[str, str] = {}
        if "words.txt" in self.top.files:
            for line in self._text("words.txt").splitlines():
                wnid, _, synonyms = line.partition("\t")
                words[wnid.strip()] = synonyms.split(",")[0].strip()
        return distinct([words.get(name) or name for name in classes], classes)


def _together(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    """Sorted paths as one sequence, sorted."""
    return parts[0] if len(parts) == 1 else Paths(heapq.merge(*parts))


def distinct(names: list[str], classes: list[str]) -> list[str]:
    """The names, with the class identifier behind those that occur twice."""
    counts = Counter(names)
    return [
        f"{name} ({identifier})" if counts[name] > 1 else name
        for name, identifier in zip(names, classes, strict=True)
    ]
