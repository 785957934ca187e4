"""Which folders are splits, classes or mere wrappers: decided by what they hold, and by their names
only together with that. Where two readings are possible, both are shown."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from operator import attrgetter
from pathlib import Path
from typing import NoReturn

from alexnet.data.images import readable_extensions
from alexnet.data.kinds import ending, kind_of
from alexnet.data.listing import Paths, place_in
from alexnet.data.names import shortly, spelling
from alexnet.data.trees import Tree
from alexnet.errors import DataError

SPLIT_WORDS = {
    **dict.fromkeys(["train", "training", "trn"], "train"),
    **dict.fromkeys(["val", "valid", "validation", "validate", "dev", "eval", "evaluation"], "val"),
    **dict.fromkeys(["test", "testing", "tst"], "test"),
}
# beside the word of a split, these say nothing
FILLERS = frozenset(
    "set sets data dataset image images img imgs picture pictures photo photos split folder "
    "sample samples file files".split()
)
# folders of images that are no class, in a test split or beside the splits
UNLABELLED = frozenset(
    "unknown unlabeled unlabelled unsorted images image imgs img pictures photos data all files "
    "jpg jpeg jpegs png none dummy extra pred prediction predictions masks".split()
)

# folders that classes often have inside
PLAIN_FOLDERS = frozenset("images image imgs img pictures photos jpg jpeg png".split())
# folders beside these, of pictures that say where in another picture something is
COMPANIONS = frozenset(
    "annotation annotations mask masks trimap trimaps segmentation segmentations groundtruth "
    "gt".split()
)


class Folder:
    """A folder of a tree, with what it holds."""

    __slots__ = ("above", "count", "folders", "images", "name", "paths", "runs")

    def __init__(self, name: str, above: "Folder | None", paths: Sequence[str]) -> None:
        """`paths` are all of the tree, sorted."""
        self.name, self.above, self.paths = name, above, paths
        self.folders: dict[str, Folder] = {}
        self.runs: list[range] = []  # places of the files directly in it
        self.images = 0  # of these, the images
        self.count = 0  # images in it, at any depth

    @property
    def files(self) -> "FileNames":
        """The names of all files directly in it."""
        return FileNames(self)

    @property
    def path(self) -> str:
        """Its path from the top of the tree; "" for the top."""
        names: list[str] = []
        here: Folder | None = self
        while here is not None and here.above is not None:
            names.append(here.name)
            here = here.above
        return "/".join(reversed(names))

    @property
    def inner(self) -> list["Folder"]:
        """The folders directly in it, by name."""
        return [self.folders[name] for name in sorted(self.folders)]

    @property
    def holding(self) -> list["Folder"]:
        """Those of them that hold images, at any depth."""
        return [folder for folder in self.inner if folder.count]

    def walk(self) -> Iterator["Folder"]:
        """It and all folders below."""
        waiting = [self]
        while waiting:
            here = waiting.pop()
            yield here
            waiting += here.folders.values()

    def below(self, base: str, images: bool = False) -> Paths:
        """The paths of all files (or images) in it, at any depth, from below `base`; sorted."""
        readable = readable_extensions()
        runs = (run for folder in self.walk() for run in folder.runs)
        every = (
            self.paths[place] for run in sorted(runs, key=attrgetter("start")) for place in run
        )
        return Paths(path[len(base) :] for path in every if not images or ending(path) in readable)

    def take(self, place: int, image: bool) -> None:
        """Takes in the file of that place."""
        if self.runs and self.runs[-1].stop == place:
            self.runs[-1] = range(self.runs[-1].start, place + 1)
        else:
            self.runs.append(range(place, place + 1))
        self.images += image
        here: Folder | None = self if image else None
        while here is not None:
            here.count += 1
            here = here.above


class FileNames(Set[str]):
    """The names of the files directly in a folder, of which nothing is kept beside the paths."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.start = f"{folder.path}/" if folder.above else ""

    @classmethod
    def _from_iterable(cls, names: Iterable[str]) -> "set[str]":  # type: ignore[override]
        return {*names}  # of what set operations come to

    def __contains__(self, name: object) -> bool:
        place = place_in(self.folder.paths, f"{self.start}{name}")
        return any(place in run for run in self.folder.runs)

    def __iter__(self) -> Iterator[str]:
        for run in self.folder.runs:
            for place in run:
                yield self.folder.paths[place][len(self.start) :]

    def __len__(self) -> int:
        return sum(map(len, self.folder.runs))


def folder_of(tree: Tree) -> Folder:
    """The top folder of a tree. What this package wrote is left out, and folders that hold nothing
    else."""
    files = tree.files()
    top = Folder("", None, files)
    known = {"": top}

    def found(path: str) -> Folder:
        if path not in known:
            here = top
            for name in path.split("/"):
                if name not in here.folders:
                    here.folders[name] = Folder(name, here, files)
                here = here.folders[name]
            known[path] = here
        return known[path]

    for path in tree.folders():
        found(path)
    for path in files:
        found(path.rpartition("/")[0])
    readable, both = readable_extensions(), 0
    for place, path in enumerate(files):
        above, _, name = path.rpartition("/")
        if name in known[above].folders:
            both += 1
        else:
            known[above].take(place, ending(name) in readable)
    if both:
        tree.left_out.append(f"{both:,} files of the same name as a folder")
    for path in tree.outputs:
        here = found(path)
        while (
            here.above is not None
            and not here.count
            and not set(map(kind_of, here.files)) & {"arrays", "pickles"}
        ):
            del here.above.folders[here.name]
            here = here.above
    return top


def without_companions(top: Folder) -> list[str]:
    """Takes masks and the like, which lie in a folder beside images/, out of a folder; what they
    were, in words."""
    found: dict[str, list[int]] = defaultdict(list)
    for here in [one for one in top.walk() if PLAIN_FOLDERS & {*map(_plain, one.folders)}]:
        if not any(_plain(one.name) in PLAIN_FOLDERS for one in here.holding):
            continue
        for one in [one for one in here.holding if _plain(one.name) in COMPANIONS]:
            found[one.name].append(one.count)
            del here.folders[one.name]
            above: Folder | None = here
            while above is not None:
                above.count -= one.count
                above = above.above
    return [
        f"{sum(counts):,} images in {name}/ beside others, which are no images to be classified"
        for name, counts in found.items()
    ]


def _plain(name: str) -> str:
    """The letters of a name, in lower case."""
    return re.sub(r"[\W\d_]+", "", name.lower())


def into_images(folder: Folder) -> Folder:
    """The folder images/ of class folders, where it alone holds images; else the same."""
    if len(folder.holding) == 1 and len(folder.inner) > 1 and not folder.images:
        [only] = folder.holding
        if _plain(only.name) in PLAIN_FOLDERS and len(only.holding) > 1 and not only.images:
            return only
    return folder


def split_word(name: str) -> tuple[str, tuple[str, ...]]:
    """The split that a folder's name speaks of, and the words beside it that say something: both
    empty for other names."""
    camel = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[^\W\d_]+", camel.lower())
    if len(words) == 1 and words[0] not in SPLIT_WORDS:  # trainset, testdata
        parts = re.fullmatch(rf"({'|'.join(SPLIT_WORDS)})({'|'.join(FILLERS)})", words[0])
        words = list(parts.groups()) if parts else words
    splits = [word for word in words if word in SPLIT_WORDS]
    if len(splits) != 1:
        return "", ()
    return SPLIT_WORDS[splits[0]], tuple(w for w in words if w not in FILLERS | {splits[0]})


def is_unlabelled(name: str) -> bool:
    """Whether a name is one of those that folders of images without labels have."""
    return _plain(name) in UNLABELLED or split_word(name)[0] != ""


def holds_classes(folder: Folder) -> bool:
    """Whether a folder looks like a split from inside: class folders hold its images."""
    if "val_annotations.txt" in folder.files:
        return True
    inner = [one for one in unwrapped(folder).inner if not is_unlabelled(one.name)]
    return bool(inner) and folder.count >= 2 * folder.images


def through(folder: Folder) -> Folder:
    """The first folder below, or itself, that holds images, or several folders that do."""
    while len(folder.holding) == 1 and not folder.images:
        [folder] = folder.holding
    return folder


def unwrapped(folder: Folder) -> Folder:
    """The folder that holds everything of a split: seg_train/seg_train, test/test/."""
    while len(folder.holding) == 1 and not folder.images:
        [only] = folder.holding
        same = only.name == folder.name or split_word(only.name)[0] == split_word(folder.name)[0]
        if not same or not only.holding or not split_word(folder.name)[0]:
            break
        folder = only
    return folder


def find_splits(top: Folder, where: Path) -> dict[str, Folder]:
    """The folders directly in `top` that are splits, by split; none where they are classes.

    Raises:
        DataError: two folders for a split, or both readings are possible.
    """
    spoken = {one.name: split_word(one.name) for one in top.inner}
    remainders = defaultdict(set)
    for split, rest in spoken.values():
        if split:
            remainders[rest].add(split)
    # seg_train is a split beside seg_test, but not alone
    single = {rest for rest, found in remainders.items() if rest and len(found) < 2}
    named = [one for one in top.inner if spoken[one.name][0] and spoken[one.name][1] not in single]
    real = [one for one in named if holds_classes(one)]
    others = [one for one in top.holding if one not in named and not is_unlabelled(one.name)]
    splits: dict[str, list[Folder]] = defaultdict(list)
    for one in named:
        splits[spoken[one.name][0]].append(one)
    if not real:
        # a class may be called train; but two splits without class folders are no two classes
        if len(splits) == 1 and others and not any(kind_is_table(name) for name in top.files):
            return {}
    elif len({spoken[one.name][0] for one in real}) == 1 and (
        any(one.images for one in others) or len(others) > 1
    ):
        _refuse_mixed(top, where, real[0], others)
    chosen: dict[str, Folder] = {}
    for split, folders in splits.items():
        best = [one for one in folders if one in real] or folders
        if len(best) > 1:
            raise DataError(
                f"{where} has two folders for {split}: {', '.join(one.name for one in best)}.",
                f"Rename one of them, or give one folder alone, such as {alone(best[0], where)}.",
            )
        chosen[split] = best[0]
    return chosen


def kind_is_table(name: str) -> bool:
    """Whether a file is the table that goes with a split, such as train.csv."""
    return ending(name) in (".csv", ".tsv") and bool(split_word(name.rpartition(".")[0])[0])


def _refuse_mixed(top: Folder, where: Path, split: Folder, others: list[Folder]) -> NoReturn:
    inner = shortly(one.name for one in unwrapped(split).holding)
    beside = shortly(one.name for one in others)
    raise DataError(
        f"{where / top.path} can be read in two ways: {split.name}/ as a split with the classes "
        f"{inner}, and {beside} beside it left out; or {split.name}, {beside} as the classes.",
        f"For the first, give {alone(split, where)}. For the second, give {starred(top, where)}.",
    )


def alone(folder: Folder, where: Path) -> str:
    """How to give a folder alone as DATA."""
    return f"{where / folder.path}" if where.is_dir() else f"{folder.path}/, unpacked,"


def starred(folder: Folder, where: Path, levels: int = 1) -> str:
    """How to say that the classes are the folders so many levels below one: see
    `trees.levels_of`."""
    if where.is_dir():
        return f"'{where / folder.path}{'/*' * levels}'"
    return f"'{where}{'/*' * (levels + len(folder.path.split('/')) * bool(folder.path))}'"


def refuse_repeated(folder: Folder, where: Path, confirmed: bool = False) -> None:
    """DataError where the folders in `folder` cannot be told from splits, folds, wrappers or a
    second copy. `confirmed`: another split has the same class folders."""
    hollow = [one for one in folder.holding if not one.images]
    inner = {one.name: _names_inside(one) for one in hollow}
    counts = Counter(name for names in inner.values() for name in names)
    repeated = {name for name, count in counts.items() if count > 1}
    if repeated and 2 * len(repeated) >= len(counts) and not confirmed:
        _refuse_parts(folder, where, hollow, repeated)
    beside = {one.name for one in folder.holding}
    for one in hollow:
        names, copied = inner[one.name], inner[one.name] & beside
        copy = names and 2 * len(copied) >= len(names) and len(copied) > (one.name in names)
        splits = {split_word(name)[0] for name in names} - {""}
        if len(beside) > 1 and (copy or len(splits) > 1):
            raise DataError(
                f"{where / folder.path} can be read in two ways: {one.name} holds no images "
                f"itself, but folders called {shortly(names)}: a second copy or another data set, "
                "or one class more.",
                f"Take {one.name}/ out of there, or give {alone(one, where)} alone. For a class "
                f"called {one.name}, give {starred(folder, where)}.",
            )


def _names_inside(folder: Folder) -> set[str]:
    return {one.name for one in through(folder).holding} - PLAIN_FOLDERS


def _refuse_parts(
    folder: Folder, where: Path, hollow: list[Folder], repeated: set[str]
) -> NoReturn:
    outer, inner, one = shortly(one.name for one in hollow), shortly(repeated), hollow[0]
    message = (
        f"{where / folder.path} can be read in two ways: {outer} hold no images themselves, and in "
        f"each of them lie {inner}: "
    )
    if any(split_word(name)[0] for name in repeated):
        first = min(repeated, key=lambda name: (split_word(name)[0] != "train", name))
        raise DataError(
            message + "several data sets with their splits, or classes with splits inside.",
            f"For one data set, give {alone(one, where)}. For the classes {outer}, put the splits "
            f"above the classes ({first}/{one.name}/...), or give {starred(folder, where)} to read "
            "all images without splits.",
        )
    levels = 2 + through(one).path.count("/") - one.path.count("/")
    raise DataError(
        message + f"the classes are {outer}, or {inner} in several parts (folds, sources).",
        f"For the classes {outer}, give {starred(folder, where)}; for the classes {inner} of all "
        f"parts together, {starred(folder, where, levels)}; for one part, such as {one.name}, "
        f"{alone(one, where)}.",
    )


def at_level(top: Folder, levels: int) -> dict[str, list[Folder]]:
    """The folders `levels` below `top` that hold images, by name."""
    here = [top]
    for _ in range(levels):
        here = [inner for one in here for inner in one.holding]
    found = defaultdict(list)
    for one in here:
        found[one.name].append(one)
    return dict(found)


def alike(name: str) -> str:
    """What two names have in common that differ in case, space or Unicode form only."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def unknown_names(unknown: Iterable[str], known: Iterable[str]) -> str:
    """Names that are not among the known ones, each with the known one that it was meant to be,
    so that one sees how they differ."""
    by_form = {alike(name): name for name in known}
    words = []
    for name in list(unknown)[:10]:
        if alike(name) in by_form:
            mine, other = spelling(name, by_form[alike(name)])
            words.append(f"{mine} (not {other})")
        else:
            words.append(name)
    return ", ".join(words)
