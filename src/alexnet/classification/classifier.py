"""Classifier: what every trained classifier can do, whether it is a run or an exported file. The
names are scikit-learn's. Imports no torch."""

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.console import progress
from alexnet.data.images import BadImage, Pixels
from alexnet.data.names import find_class
from alexnet.data.objects import Picture, as_list, content_of, name_of
from alexnet.errors import DataError, RunError
from alexnet.recipes import Recipe
from alexnet.scoring.conformal import USUAL, Calibration, Thresholds
from alexnet.values import checked_arguments
from alexnet.words import shown

if TYPE_CHECKING:  # with torch
    from alexnet.classification.explanation import Explanation
    from alexnet.fitting.loop import Epoch
    from alexnet.network.model import AlexNet

Probabilities = NDArray[np.float32]
BATCH = 64
TOLD = 5  # classes of a set that are named
STDIN = Path("-")
NUMBER = re.compile(r"-?[0-9]{1,18}\Z")


@dataclass(frozen=True)
class PredictionSet:
    """What a classifier says of an image where it may say that it does not know."""

    classes: list[str]  # identifiers, the most probable first: one, several or none
    names: list[str]  # readable ones in the same order
    p: Probabilities  # (K,) of all classes, as of `predict_proba`
    unlike: bool  # unlike anything it was trained on

    @property
    def sure(self) -> bool:
        """Whether it is one class, of an image like those it was trained on."""
        return len(self.classes) == 1 and not self.unlike

    def __str__(self) -> str:
        more = len(self.names) - TOLD
        names = [*map(shown, self.names[:TOLD]), *([f"{more} more"] if more > 0 else [])]
        told = " or ".join(names) or "none of these"
        return f"{told}; unlike anything seen" if self.unlike else told


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one file."""

    file: Path
    p: Probabilities | None  # (K,) probabilities; None if the file cannot be used
    pixels: Pixels | None = None  # (3, S, S) uint8, its centre square; S the image size or less
    reason: str = ""  # why it cannot be used
    found: PredictionSet | None = None  # what it says where it may say that it does not know


def standard_input() -> bytes:
    """All that it holds; DataError if it is closed."""
    if sys.stdin is None:
        raise DataError(
            "standard input is closed.", "Give a file, or: alexnet predict RUN - < FILE"
        )
    return sys.stdin.buffer.read()


class Classifier(ABC):
    """Classifies images with a trained network, its classes and its preprocessing."""

    classes: list[str]  # K identifiers: folder names or WordNet ids; the columns of `predict_proba`
    names: list[str]  # readable ones in the same order
    image_size: int  # px: what `square` shrinks larger images to
    white: int = 0  # `Preprocessing.range`

    @property
    @abstractmethod
    def metrics(self) -> dict[str, Any]:
        """The figures of the run's metrics.json (`alexnet.evaluate`).

        Raises:
            RunError: there are none.
        """

    @abstractmethod
    def square(self, image: bytes | IO[bytes] | Image.Image | Pixels) -> Pixels:
        """The centre square of an image, (3, S, S) uint8.

        Raises:
            BadImage: it cannot be used.
        """

    @abstractmethod
    def probabilities(self, squares: Sequence[Pixels]) -> Probabilities:
        """(N, K) of the centre squares of N images, at most BATCH of them.

        Raises:
            WeightsError: they are no numbers.
        """

    @property
    def calibrated(self) -> bool:
        """Whether `calibration` is there and has not to be made first."""
        return False

    @property
    @abstractmethod
    def calibration(self) -> Calibration:
        """With what it says that it does not know; a run of an older release makes it from its
        data, once.

        Raises:
            RunError: there is none, and it cannot be made.
        """

    @abstractmethod
    def examined(self, squares: Sequence[Pixels]) -> tuple[Probabilities, Probabilities]:
        """`probabilities`, and how far each image is from those it was trained on, (N,). Errors as
        of that, and as of `calibration`."""

    @property
    def history(self) -> "list[Epoch]":
        """What each epoch of the training came to.

        Raises:
            RunError: an exported file does not know, or the run's file is damaged.
        """
        raise self._only_a_run("the epochs of its training")

    @property
    def recipe(self) -> Recipe:
        """What the run was asked for: `alexnet.train(data, model.recipe)` trains it again.

        Raises:
            RunError: an exported file does not know.
        """
        raise self._only_a_run("its recipe")

    @property
    def network(self) -> "AlexNet":
        """The network, a torch.nn.Module in evaluation mode: its `features`, `avgpool` and
        `classifier`.

        Raises:
            RunError: an exported file has none that torch can use.
        """
        raise self._only_a_run("a network for torch")

    def features(self, images: Picture | Sequence[Picture]) -> Probabilities:
        """What the network makes of images below its last layer, (N, D) float32; `images` as for
        `predict_proba`.

        Raises:
            RunError: an exported file gives probabilities only. DataError: an image cannot be read.
        """
        raise self._only_a_run("features")

    def explain(
        self, images: Picture | Sequence[Picture], *, class_name: str = "", neighbours: int = 5
    ) -> "list[Explanation]":
        """Where the network looks, how much each place matters, and which training images are
        nearest; a notebook shows each as a picture.

        Args:
            images: as for `predict_proba`.
            class_name: the class to explain, instead of the most probable one of each image.
            neighbours: how many training images; they need the data of the run. 0 for none.

        Raises:
            RunError: an exported file cannot be looked into. DataError: no such class, or an image
            that cannot be read.
        """
        raise self._only_a_run("explanations")

    def _only_a_run(self, what: str) -> RunError:
        return RunError(
            f"an exported file does not hold {what}.", "Load the run directory that it is from."
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from alexnet.classification.notebook import figures_table  # which only that needs

        return figures_table(self.metrics, len(self.classes))

    @property
    def classes_(self) -> NDArray[np.str_]:
        """(K,) the identifiers of `classes` as an array."""
        return np.array(self.classes)

    def predict_proba(self, images: Picture | Sequence[Picture]) -> Probabilities:
        """Class probabilities, (N, K) float32; each row sums to 1.

        Args:
            images: one image or a sequence of them: paths, the bytes of image files, open files,
                Pillow images, NumPy arrays or torch tensors. Arrays are (H, W) grey, (H, W, 3) RGB
                or (H, W, 4) RGBA, or have their channels first; uint8, uint16, bool, or floating
                point from 0 to 1; (N, H, W, C) is a batch. Any size; scaled and cropped as in the
                evaluation of the run.

        Raises:
            DataError: an image cannot be read; says which, and why.
        """
        squares = self._squares(images)
        found = [
            self.probabilities(squares[start : start + BATCH])
            for start in range(0, len(squares), BATCH)
        ]
        return np.concatenate([np.zeros((0, len(self.classes)), np.float32), *found])

    @checked_arguments
    def predict_set(
        self, images: Picture | Sequence[Picture], *, abstain: float = USUAL
    ) -> list[PredictionSet]:
        """One class of each image, several, or none: of images like the data at most the share
        `abstain` gets a set without the true class (split conformal prediction, docs/unsure.md).
        And whether an image is unlike anything seen, which is said of at most that share of them.

        Args:
            images: as for `predict_proba`.
            abstain: from 0 to 1, neither included.

        Raises:
            InputError: another rate, or too few validation images for it; says how many it takes.
            RunError: there is no calibration, and the data to make it is gone.
            DataError: an image cannot be read.
        """
        limits = self.calibration.thresholds(abstain)
        squares = self._squares(images)
        return [
            one
            for start in range(0, len(squares), BATCH)
            for one in self._sets(squares[start : start + BATCH], limits)
        ]

    def _sets(self, squares: Sequence[Pixels], limits: Thresholds) -> Iterator[PredictionSet]:
        for p, distance in zip(*self.examined(squares), strict=True):
            held = limits.sets(p)
            labels = [k for k in np.argsort(-p, kind="stable") if held[k]]
            classes, names = ([known[k] for k in labels] for known in (self.classes, self.names))
            yield PredictionSet(classes, names, p, bool(limits.unlike(distance)))

    @checked_arguments
    def predict_files(
        self, files: Sequence[str | Path], *, abstain: float = 0
    ) -> Iterator[Prediction]:
        """One Prediction per file, in order; STDIN stands for the image that standard input holds.
        A file that cannot be used is one with a reason, and does not stop the others. Memory stays
        flat, progress is shown. With `abstain` each has its PredictionSet; errors are then those
        of `predict_set`."""
        limits = self.calibration.thresholds(abstain) if abstain else None
        with progress("classifying", len(files)) as advance:
            for start in range(0, len(files), BATCH):
                batch = [Path(file) for file in files[start : start + BATCH]]
                loaded: list[Pixels | DataError] = []
                for file in batch:
                    try:
                        loaded.append(
                            self._square_of(standard_input(), 0, "standard input")
                            if file == STDIN
                            else self._square_of(file, 0)
                        )
                    except DataError as error:
                        loaded.append(error)
                squares = [one for one in loaded if not isinstance(one, DataError)]
                sets = self._sets(squares, limits) if limits and squares else iter(())
                rows = iter(self.probabilities(squares) if squares and not limits else ())
                for file, one in zip(batch, loaded, strict=True):
                    if isinstance(one, DataError):
                        yield Prediction(file, None, reason=one.message)
                    elif limits:
                        found = next(sets)
                        yield Prediction(file, found.p, one, found=found)
                    else:
                        yield Prediction(file, next(rows), one)
                advance(len(batch))

    @checked_arguments
    def predict(
        self, images: Picture | Sequence[Picture], *, names: bool = False
    ) -> NDArray[np.str_]:
        """(N,) the identifier of the most probable class of each image, with `names` its readable
        name; `images` as for `predict_proba`."""
        known = np.array(self.names) if names else self.classes_
        best: NDArray[np.str_] = known[self.predict_proba(images).argmax(1)]
        return best

    def score(self, images: Picture | Sequence[Picture], labels: Iterable[Any]) -> float:
        """Share of `images` whose most probable class is the one in `labels`, 0 to 1.

        Args:
            images: as for `predict_proba`.
            labels: identifiers or readable names, one for each image; where the classes are called
                by numbers, whole numbers too.

        Raises:
            DataError: no images, not as many labels as images, or a label that is no class.
        """
        pictures = as_list(images)
        single = isinstance(labels, str) or not hasattr(labels, "__iter__")
        given = [labels] if single else list(labels)
        if not pictures or len(pictures) != len(given):
            raise DataError(
                f"there are {len(pictures):,} images and {len(given):,} labels.",
                "Give one label for each image, and one image at least.",
            )
        expected = self._labels(given)
        return float((self.predict_proba(pictures).argmax(1) == expected).mean())

    def _labels(self, given: Sequence[Any]) -> NDArray[np.int64]:
        """(N,) places in `classes` of N classes, however they are called."""
        # numpy's and torch's numbers become Python's
        plain = [one.item() if getattr(one, "ndim", 1) == 0 else one for one in given]
        known: dict[str | int, int] = {}
        for place, one in enumerate(plain):
            if isinstance(one, bool) or not isinstance(one, str | int):
                raise DataError(
                    f"label {place} is {one!r}, expected the name of a class.",
                    "Give an identifier or a readable name for each image.",
                )
            if one not in known:
                try:
                    known[one] = self._label(one)
                except DataError as error:
                    raise DataError(f"label {place}: {error.message}", error.hint) from error
        return np.array([known[one] for one in plain])

    def _label(self, one: str | int) -> int:
        if isinstance(one, str):
            return find_class(one, self.classes, self.names)
        if str(one) in self.classes:
            return self.classes.index(str(one))
        alike = [
            k for k, name in enumerate(self.classes) if NUMBER.match(name) and int(name) == one
        ]
        if len(alike) != 1:  # 07 is called 7 too, unless 007 is
            raise DataError(
                f"there is no class {one}.",
                f"A number is the name of a class, not its place: classes[{one}] is what stands at "
                "a place.",
            )
        return alike[0]

    def _squares(self, images: Picture | Sequence[Picture]) -> list[Pixels]:
        return [self._square_of(image, place) for place, image in enumerate(as_list(images))]

    def _square_of(self, image: Picture, place: int, name: str = "") -> Pixels:
        name = name or name_of(image, place)
        try:
            with content_of(image, self.white) as content:
                return self.square(content)
        except FileNotFoundError as error:
            raise DataError(f"there is no file {name}.", "Check the path.") from error
        except OSError as error:
            raise DataError(
                f"{name} cannot be read: {error.strerror or error}.",
                "Give the path of an image file.",
            ) from error
        except BadImage as error:
            raise DataError(
                f"{name} cannot be used: {error.message}.", "Give an image file of a known format."
            ) from error
