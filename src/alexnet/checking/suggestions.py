"""`suggest`: which pictures without a label to label next: such as the run is unsure of, unlike
each other, and unlike those it was trained on.

The rule: training images and pictures are clustered together, into as many clusters as there are
training images and pictures asked for. Of the clusters without a training image those count first
whose pictures the run is least sure of, taken together; of each the picture nearest to its middle.
It is TypiClust (Hacohen, Dekel and Weinshall, "Active learning on a budget", 2022) with doubts
instead of sizes, and was chosen among others by measurement, on other draws than those of
docs/next.md.

Shapes: N pictures, M training images, D numbers of a descriptor (`AlexNet.descriptor`), K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.atomic import output_folder, write_csv
from alexnet.classification.classifier import BATCH
from alexnet.classification.predict import image_files
from alexnet.classification.run_classifier import RunClassifier, load_run
from alexnet.console import progress, say, warn
from alexnet.data.duplicates import search
from alexnet.data.images import BadImage, Pixels
from alexnet.data.trees import mark_output
from alexnet.errors import DataError, InputError, RunError
from alexnet.reporting.sheets import Labelled, Sheets
from alexnet.runs.own_data import own_data
from alexnet.runtime import as_found
from alexnet.scoring.metrics import Floats, Labels
from alexnet.values import Count, Precision, checked_arguments
from alexnet.words import cell, shown

TABLE = "suggestions.csv"
MOST = 5_000  # pictures, the least sure ones, that are clustered
CLUSTERS = 500  # at most
SMALL = 32  # px at which duplicates are looked for


@dataclass(frozen=True)
class Suggestion:
    """A picture that is worth a label."""

    file: Path
    classes: list[str]  # identifiers of the two most probable classes
    names: list[str]  # readable ones
    p: list[float]  # how probable they are
    stands_for: int  # pictures like it, itself among them

    @property
    def why(self) -> str:
        """In words."""
        first, second = (
            f"{shown(name)} {p:.0%}" for name, p in zip(self.names, self.p, strict=True)
        )
        like = f", stands for {self.stands_for:,} alike" if self.stands_for > 1 else ""
        return f"{first} or {second}{like}"


@dataclass(frozen=True)
class Looked:
    """What a run makes of N pictures."""

    files: list[Path]
    p: Floats  # (N, K)
    descriptors: Floats  # (N, D), each of length 1
    small: NDArray[np.uint8]  # (N, 3, SMALL, SMALL)

    def part(self, places: Labels) -> "Looked":
        """Some of them."""
        files = [self.files[place] for place in places]
        return Looked(files, self.p[places], self.descriptors[places], self.small[places])


@checked_arguments
@as_found()
def suggest(
    run: str | Path,
    images: Sequence[str | Path],
    *,
    count: Count = 20,
    out: str | Path = "",
    device: str = "auto",
    precision: Precision = "auto",
) -> list[Suggestion]:
    """Which pictures without a label to label next: such as the run is unsure of, unlike each other
    and unlike those it was trained on. What it was trained on, what is there twice and what is
    blank is not suggested.

    Args:
        run: a finished run directory.
        images: image files and folders; a folder stands for all in it.
        count: how many.
        out: a folder for a contact sheet and a table of them, suggestions.csv; empty for none.
        device: as the recipe's field.
        precision: likewise.

    Returns:
        The pictures, those first that say most; fewer where there are no more.

    Raises:
        RunError: not a finished run. DataError: no image, or none that can be used.
        InputError: `count` is below 1.
    """
    if count < 1:
        raise InputError(f"count is {count}, expected at least 1.")
    folder = output_folder(out) if out else None
    classifier = load_run(run, device=device, precision=precision)
    looked = look(classifier, image_files([str(one) for one in images]))
    looked = looked.part(worth_a_label(looked.small, training_images(classifier)))
    doubts = doubt(looked.p)
    looked = looked.part(np.sort((-doubts).argsort(kind="stable")[:MOST]))
    found = [
        suggestion(classifier, looked.files[place], looked.p[place], alike)
        for place, alike in chosen(
            doubt(looked.p), looked.descriptors, remembered(classifier, looked), count
        )
    ]
    if len(found) < count:
        warn(f"there are no more than {len(found):,} that are new and unlike each other")
    if folder:
        write(found, folder, classifier)
    return found


def look(classifier: RunClassifier, files: Sequence[Path]) -> Looked:
    """What a run makes of the files that can be used; of the others it is said why not."""
    used: list[Path] = []
    found: list[tuple[Floats, Floats]] = []
    small: list[Pixels] = []
    with progress("looking at pictures", len(files)) as advance:
        for start in range(0, len(files), BATCH):
            squares = []
            for file in files[start : start + BATCH]:
                try:
                    squares.append(classifier.square(file.read_bytes()))
                except (OSError, BadImage) as error:
                    reason = error.message if isinstance(error, BadImage) else error.strerror
                    warn(f"not used: {shown(str(file))}: {reason}")
                else:
                    used.append(file)
            if squares:
                found.append(classifier.described(squares))
                small += map(shrunk, squares)
            advance(len(files[start : start + BATCH]))
    if not used:
        raise DataError("none of the pictures can be used.", "The reasons are above.")
    p, descriptors = (np.concatenate(part) for part in zip(*found, strict=True))
    return Looked(used, p, descriptors, np.stack(small))


def shrunk(pixels: Pixels) -> Pixels:
    """(3, SMALL, SMALL) of (3, S, S)."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BOX)).transpose(2, 0, 1)


def training_images(classifier: RunClassifier) -> NDArray[np.uint8]:
    """All images of the run's data, (M, 3, SMALL, SMALL); none, and a line that says why, where
    they are not there any more."""
    try:
        own = own_data(classifier.run.settings, classifier.trained.preprocessing)
    except InputError as error:
        warn(f"not compared with the images of the run: {error.message}")
        return np.zeros((0, 3, SMALL, SMALL), np.uint8)
    return np.stack([shrunk(np.asarray(own.store.x[row])) for row in range(len(own.store))])


def remembered(classifier: RunClassifier, looked: Looked) -> Floats:
    """(M, D) descriptors of training images; none, and a line that says why, where the run was not
    calibrated and its data is gone."""
    try:
        return classifier.calibration.memory.astype(np.float32)
    except RunError as error:
        warn(f"not compared with what the run has learned from: {error.message}")
        return looked.descriptors[:0]


def worth_a_label(small: NDArray[np.uint8], known: NDArray[np.uint8]) -> Labels:
    """(n,) the places of those of N pictures that are not among the known ones, nor blank; of such
    as are there more than once the first.

    Raises:
        DataError: there are none.
    """
    found = search(np.concatenate([known, small]))
    out = set(found.blank)
    for group in found.groups:
        out.update(group if group[0] < len(known) else group[1:])
    kept = [place for place in range(len(small)) if place + len(known) not in out]
    if len(kept) < len(small):
        say(
            f"{len(small) - len(kept):,} of {len(small):,} pictures are left out: the run has "
            "them, they are there twice, or blank"
        )
    if not kept:
        raise DataError(
            "there is no new picture among these.", "Give pictures that the run does not have."
        )
    return np.array(kept)


def doubt(p: Floats) -> NDArray[np.float64]:
    """(N,) from 0 to 1: how near the second class of (N, K) probabilities comes to the first."""
    best = np.sort(p.astype(np.float64), axis=1)[:, -2:]
    return 1 - (best[:, 1] - best[:, 0])


def chosen(
    doubts: NDArray[np.float64], x: Floats, known: Floats, count: int
) -> list[tuple[int, int]]:
    """The places of pictures to label, the most telling first, and how many each stands for.

    Args:
        doubts: (N,) from 0 to 1.
        x: (N, D) what tells the pictures apart, each of length 1.
        known: (M, D) the same of training images.
        count: how many are wanted.
    """
    from sklearn.cluster import KMeans  # a second

    k = min(len(known) + count, len(known) + len(x), max(CLUSTERS, count))
    both = np.concatenate([known, x])
    means = KMeans(k, n_init=1, random_state=0).fit(both)
    has_known = np.bincount(means.labels_[: len(known)], minlength=k) > 0
    cluster = means.labels_[len(known) :]
    doubted = np.bincount(cluster, doubts, k)
    far = np.square(x - means.cluster_centers_[cluster]).sum(1)
    found: list[tuple[int, int]] = []
    for one in np.lexsort((-doubted, has_known)).tolist():
        members = np.flatnonzero(cluster == one)
        if len(members) and len(found) < count:
            found.append((int(members[far[members].argmin()]), len(members)))
    return found


def suggestion(classifier: RunClassifier, file: Path, p: Floats, alike: int) -> Suggestion:
    """What there is to say of a picture with these probabilities (K,)."""
    best = np.argsort(-p, kind="stable")[:2].tolist()
    classes, names = ([known[k] for k in best] for known in (classifier.classes, classifier.names))
    return Suggestion(file, classes, names, [float(p[k]) for k in best], alike)


def write(found: Sequence[Suggestion], folder: Path, classifier: RunClassifier) -> None:
    """A contact sheet of suggestions, and the table."""
    mark_output(folder, "alexnet suggest", TABLE)
    with Sheets(folder) as sheets:
        for one in found:
            pixels = classifier.square(one.file.read_bytes())
            sheets.add(Labelled(Image.fromarray(pixels.transpose(1, 2, 0)), one.why))
    heading = "image class name p second_class second_name second_p stands_for why".split()
    rows = [
        [
            str(one.file.absolute()),
            *(value for k in (0, 1) for value in (one.classes[k], one.names[k], f"{one.p[k]:.4f}")),
            str(one.stands_for),
            one.why,
        ]
        for one in found
    ]
    write_csv(folder / TABLE, [heading, *([cell(value) for value in row] for row in rows)])
    say(f"{len(sheets.pages)} contact sheet{'s' * (len(sheets.pages) > 1)} in {folder}")
