"""Classifier: what every trained classifier can do, whether it is a run or an exported file. The
names are scikit-learn's. Imports no torch."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.console import progress
from alexnet.data.images import BadImage, Pixels
from alexnet.errors import DataError

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]
Probabilities = NDArray[np.float32]
BATCH = 64
STDIN = Path("-")


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one file."""

    file: Path
    p: Probabilities | None  # (K,) probabilities; None if the file cannot be used
    pixels: Pixels | None = None  # (3, S, S) uint8, its centre square; S the image size or less
    reason: str = ""  # why it cannot be used


class Classifier(ABC):
    """Classifies images with a trained network, its classes and its preprocessing."""

    classes: list[str]  # identifiers, K, in the order of the columns of `predict_proba`
    names: list[str]  # readable
    image_size: int  # px: what `square` shrinks larger images to

    @property
    @abstractmethod
    def metrics(self) -> dict[str, Any]:
        """The figures of the run's metrics.json (`alexnet.evaluate`).

        Raises:
            RunError: there are none.
        """

    @abstractmethod
    def square(self, image: bytes | Image.Image | Pixels) -> Pixels:
        """The centre square of an image, (3, S, S) uint8.

        Raises:
            BadImage: it cannot be used.
        """

    @abstractmethod
    def probabilities(self, squares: Sequence[Pixels]) -> Probabilities:
        """(N, K) of the centre squares of N images, at most BATCH of them."""

    @property
    def classes_(self) -> NDArray[np.str_]:
        """(K,) readable class names, in the order of `predict_proba`'s columns."""
        return np.array(self.names)

    def predict_proba(self, images: Picture | Sequence[Picture]) -> Probabilities:
        """Class probabilities, (N, K) float32; each row sums to 1.

        Args:
            images: one image or a sequence of them: paths, the bytes of image files, Pillow images,
                or uint8 arrays of shape (H, W, 3) RGB or (H, W) grey, 0 to 255. Any size; scaled
                and cropped as in the evaluation of the run.

        Raises:
            DataError: an image cannot be read; says which, and why.
        """
        squares = [self._square_of(image, place) for place, image in enumerate(_as_list(images))]
        found = [
            self.probabilities(squares[start : start + BATCH])
            for start in range(0, len(squares), BATCH)
        ]
        return np.concatenate([np.zeros((0, len(self.classes)), np.float32), *found])

    def predict_files(self, files: Sequence[Path]) -> Iterator[Prediction]:
        """One Prediction per file, in order; STDIN stands for the image that standard input holds.
        A file that cannot be used is one with a reason, and does not stop the others. Memory stays
        flat, progress is shown."""
        with progress("classifying", len(files)) as advance:
            for start in range(0, len(files), BATCH):
                batch = files[start : start + BATCH]
                loaded: list[Pixels | DataError] = []
                for file in batch:
                    try:
                        loaded.append(
                            self._square_of(sys.stdin.buffer.read(), 0, "standard input")
                            if file == STDIN
                            else self._square_of(file, 0)
                        )
                    except DataError as error:
                        loaded.append(error)
                squares = [one for one in loaded if not isinstance(one, DataError)]
                rows = iter(self.probabilities(squares) if squares else ())
                for file, one in zip(batch, loaded, strict=True):
                    if isinstance(one, DataError):
                        yield Prediction(file, None, reason=one.message)
                    else:
                        yield Prediction(file, next(rows), one)
                advance(len(batch))

    def predict(self, images: Picture | Sequence[Picture]) -> NDArray[np.str_]:
        """(N,) the most probable class name of each image; `images` as for `predict_proba`."""
        best: NDArray[np.str_] = self.classes_[self.predict_proba(images).argmax(1)]
        return best

    def score(self, images: Sequence[Picture], labels: Iterable[str]) -> float:
        """Share of `images` whose predicted name is the one in `labels`, 0 to 1."""
        return float((self.predict(images) == np.array(list(labels))).mean())

    def _square_of(self, image: Picture, place: int, name: str = "") -> Pixels:
        name = name or (str(image) if isinstance(image, (str, Path)) else f"image {place}")
        try:
            if isinstance(image, (str, Path)):
                image = Path(image).expanduser().read_bytes()
            elif isinstance(image, np.ndarray):
                _check_array(image)
            return self.square(image)
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


def _as_list(images: Picture | Sequence[Picture]) -> list[Picture]:
    if isinstance(images, (str, Path, bytes, Image.Image)):
        return [images]
    if isinstance(images, np.ndarray) and (
        images.ndim == 2 or (images.ndim == 3 and images.shape[-1] == 3)
    ):
        return [images]
    return list(images)


def _check_array(image: NDArray[Any]) -> None:
    if image.dtype != np.uint8 or not (
        image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3)
    ):
        raise BadImage(
            f"an array of {image.dtype}, shape {image.shape}; expected uint8, (H, W, 3) RGB or (H, "
            "W) grey"
        )
