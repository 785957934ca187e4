"""Classifier: a trained run, put to use. The names are scikit-learn's."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from alexnet.atomic import replacing
from alexnet.checkpoint import Trained, load_model
from alexnet.console import progress
from alexnet.errors import DataError, RunError
from alexnet.evaluation import average_views, evaluation_transforms, forward
from alexnet.images import EXTENSIONS, BadImage, Pixels, load_image
from alexnet.metrics import softmax
from alexnet.runtime import choose_device, choose_precision

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]
BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one file."""

    file: Path
    p: NDArray[np.float32] | None  # (K,) probabilities; None if the file cannot be used
    pixels: Pixels | None = None  # (3, S, S) uint8, what the network saw before its crop
    reason: str = ""  # why it cannot be used


class Classifier:
    """Classifies images with the network, the classes and the preprocessing of a run."""

    def __init__(
        self,
        trained: Trained,
        *,
        device: str = "auto",
        precision: str = "auto",
        run: Path | None = None,
    ) -> None:
        self.trained = trained
        self.device = choose_device(device)
        self.dtype, _ = choose_precision(precision, self.device)
        self.model = trained.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.run = run
        self.generator = torch.Generator()  # transforms want one; in evaluation nothing is random

    @property
    def classes_(self) -> NDArray[np.str_]:
        """(K,) readable class names, in the order of `predict_proba`'s columns."""
        return np.array(self.trained.names)

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of the run's metrics.json (`evaluate.metrics`)."""
        path = (self.run or Path()) / "metrics.json"
        if self.run is None or not path.exists():
            raise RunError(
                f"there is no {path}.", "Only a finished run has figures: alexnet eval RUN"
            )
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return figures

    def predict_proba(self, images: Picture | Sequence[Picture]) -> NDArray[np.float32]:
        """Class probabilities, (N, K) float32; each row sums to 1.

        Args:
            images: one image or a sequence of them: paths, the bytes of image files, Pillow images,
                or uint8 arrays of shape (H, W, 3) RGB or (H, W) grey, 0 to 255. Any size; scaled
                and cropped as in the evaluation of the run.

        Raises:
            DataError: an image cannot be read; says which, and why.
        """
        pixels = [self._pixels(image, place) for place, image in enumerate(_as_list(images))]
        if not pixels:
            return np.zeros((0, len(self.trained.classes)), dtype=np.float32)
        logits = [
            self._logits(np.stack(pixels[start : start + BATCH]))
            for start in range(0, len(pixels), BATCH)
        ]
        return softmax(np.concatenate(logits)).astype(np.float32)

    def predict_files(self, files: Sequence[Path]) -> Iterator[Prediction]:
        """One Prediction per file, in order. A file that cannot be used is one with a reason, and
        does not stop the others. Memory stays flat, progress is shown."""
        with progress("classifying", len(files)) as advance:
            for start in range(0, len(files), BATCH):
                batch = files[start : start + BATCH]
                loaded: list[Pixels | DataError] = []
                for file in batch:
                    try:
                        loaded.append(self._pixels(file, 0))
                    except DataError as error:
                        loaded.append(error)
                pixels = [one for one in loaded if not isinstance(one, DataError)]
                rows = iter(softmax(self._logits(np.stack(pixels))) if pixels else ())
                for file, one in zip(batch, loaded, strict=True):
                    if isinstance(one, DataError):
                        yield Prediction(file, None, reason=one.message)
                    else:
                        yield Prediction(file, next(rows).astype(np.float32), one)
                advance(len(batch))

    def predict(self, images: Picture | Sequence[Picture]) -> NDArray[np.str_]:
        """(N,) the most probable class name of each image; `images` as for `predict_proba`."""
        best: NDArray[np.str_] = self.classes_[self.predict_proba(images).argmax(1)]
        return best

    def score(self, images: Sequence[Picture], labels: Iterable[str]) -> float:
        """Share of `images` whose predicted name is the one in `labels`, 0 to 1."""
        return float((self.predict(images) == np.array(list(labels))).mean())

    def square(self, image: bytes | Image.Image | Pixels) -> Pixels:
        """The centre square of an image, (3, S, S) uint8.

        Raises:
            BadImage: it cannot be used.
        """
        return load_image(image, self.trained.preprocessing.image_size)

    def probabilities(self, squares: Sequence[Pixels]) -> NDArray[np.float32]:
        """(N, K) of the centre squares of N images, at most BATCH of them."""
        return softmax(self._logits(np.stack(squares))).astype(np.float32)

    def _pixels(self, image: Picture, place: int) -> Pixels:
        name = str(image) if isinstance(image, (str, Path)) else f"image {place}"
        try:
            if isinstance(image, (str, Path)):
                image = Path(image).expanduser().read_bytes()
            elif isinstance(image, np.ndarray):
                _check_array(image)
            return load_image(image, self.trained.preprocessing.image_size)
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

    def _logits(self, pixels: Pixels) -> NDArray[np.float32]:  # (B, 3, S, S) -> (B, K)
        x = torch.from_numpy(pixels).to(self.device)
        views = [
            forward(self.model, transform(x, self.generator), self.dtype)
            for transform in evaluation_transforms(self.trained.preprocessing)
        ]
        return average_views(views).cpu().numpy()


def image_files(given: Sequence[str]) -> list[Path]:
    """The files that paths stand for: a folder stands for all images in it and below, in natural
    order (9 before 10); hidden ones are passed over.

    Raises:
        DataError: there is nothing at a path, or no image in a folder.
    """
    files: list[Path] = []
    for name in given:
        path = Path(name).expanduser()
        if not path.is_dir():
            files.append(path)  # whether it can be read is said of each file
            continue
        inside = [
            file
            for file in path.rglob("*")
            if file.suffix.lower() in EXTENSIONS
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not inside:
            raise DataError(
                f"there is no image in the folder {path}.",
                f"Known endings: {', '.join(sorted(EXTENSIONS))}.",
            )
        files += sorted(inside, key=_natural)
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


class Table:
    """A .csv file with one line per file: its path, why it cannot be used, and class, readable name
    and probability of its `top` most probable classes. Use as a context."""

    def __init__(self, path: Path, trained: Trained, top: int) -> None:
        self.path, self.trained, self.top = path, trained, min(top, len(trained.classes))
        ranks = range(1, self.top + 1)
        columns = [f"{what}_{rank}" for rank in ranks for what in ("class", "name", "p")]
        self.lines = [["image", "error", *columns]]

    def add(self, one: Prediction) -> None:
        """One more line."""
        line = [str(one.file), one.reason]
        p = one.p if one.p is not None else np.zeros(0, np.float32)
        for k in (-p).argsort()[: self.top]:
            line += [self.trained.classes[k], self.trained.names[k], f"{p[k]:.6f}"]
        self.lines.append(line + [""] * (len(self.lines[0]) - len(line)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with replacing(self.path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(self.lines)


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


def load(run: str | Path, *, device: str = "auto", precision: str = "auto") -> Classifier:
    """The classifier of a run directory (or of its best.safetensors).

    Args:
        run: what `train` returned.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "bf16" or "fp32".

    Raises:
        RunError: not a run directory, or not finished. WeightsError: its weights are damaged.
    """
    path = Path(run).expanduser()
    return Classifier(
        load_model(path),
        device=device,
        precision=precision,
        run=path if path.is_dir() else path.parent,
    )
