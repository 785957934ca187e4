"""What of a run is worth looking at: pictures for its report, as data URIs.

Rows are places in the Store of the run; N evaluated images, K classes.
"""

import base64
import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from alexnet.data.images import BadImage, Pixels, open_image, square_pixels
from alexnet.data.originals import original
from alexnet.data.store import Batches, Store, keyed_generator
from alexnet.errors import DataError
from alexnet.network.checkpoint import Trained
from alexnet.network.frozen import FrozenPart
from alexnet.network.inference import EVALUATION_BATCH, evaluation_transforms, predict_logits
from alexnet.network.saliency import (
    excitement,
    exciting_images,
    first_layer_filters,
    grad_cam,
    nearest_neighbours,
    overlay,
    pictures,
)
from alexnet.runs.directory import Predictions, RunDirectory, Settings
from alexnet.runs.own_data import OwnData, own_data
from alexnet.runtime import choose_device, choose_precision
from alexnet.scoring.metrics import Floats, Labels, softmax

SAMPLES, MISTAKES, CONFUSIONS, UNITS, QUERIES = 24, 12, 12, 6, 6
PLAIN_SIDE, CAM_SIDE = 128, 192  # px of a picture at most
TINY_SIDE = 40  # px, below which PNG may be smaller than JPEG
# Images looked at, at most: for units, and for neighbours. Where a network sees many pixels they
# are fewer, so that a CPU is done in a few seconds.
UNIT_IMAGES, NEIGHBOUR_IMAGES, PIXELS = 2_000, 5_000, 45_000_000


def illustrate(run: str | Path, store: Store | None = None) -> Path:
    """Writes the pictures of a run's report into its directory, and returns the path.

    samples: evaluated images, the labels spread over the classes. mistakes: those whose label is
    least probable; confident: those whose guess is most probable; both with Grad-CAM of the guess.
    confusions: the pairs of classes most often confused. filters: of the first layer. units: the
    images that excite units of the last convolution most. neighbours: the training images nearest
    to evaluated ones. All are drawn from the run's seed.

    Args:
        run: a finished run directory.
        store: the data of the run, where it is open already.

    Raises:
        RunError: the run is not finished. DataError: its data is not there any more, or has
            changed.
    """
    directory = RunDirectory(run)
    trained, found, settings = directory.load(), directory.predictions(), directory.settings
    own = own_data(settings, trained.preprocessing, store)
    show = Showcase(trained, own, found, settings)
    mistakes, confident = show.mistakes()
    pictured = show.with_cams([*mistakes, *confident])
    return directory.write_illustrations(
        {
            "samples": [show.told(place) for place in show.spread[:SAMPLES]],
            "mistakes": pictured[: len(mistakes)],
            "confident": pictured[len(mistakes) :],
            "confusions": show.confusions(),
            "filters": data_uri(first_layer_filters(trained.model), 10_000, "PNG"),
            "units": show.units(),
            "neighbours": show.neighbours(),
        }
    )


class Showcase:
    """Chooses and draws the pictures of a run. Places are among the evaluated images."""

    def __init__(
        self, trained: Trained, own: OwnData, found: Predictions, settings: Settings
    ) -> None:
        """`found` are the predictions of images of the run's `own` data."""
        self.device = choose_device("auto")
        self.dtype, _ = choose_precision("auto", self.device)
        self.model, self.how = trained.model.to(self.device), trained.preprocessing
        self.names, self.found, self.data = trained.names, found, settings.data
        self.store = store = own.store
        rows = {one: row for row, one in enumerate(store.ids)}
        missing = [one for one in found.ids if one not in rows]
        if missing or found.classes != store.classes:
            raise DataError(
                f"the predictions of the run are not of its data ({len(missing):,} images are not "
                "in it).",
                "Restore the data or the predictions of the run, or train again.",
            )
        self.rows = np.array([rows[one] for one in found.ids])
        self.p = softmax(found.logits)  # (N, K)
        self.guesses = found.guesses
        self.generator = np.random.default_rng(settings.recipe.seed)
        self.spread = spread(found.labels, self.generator)
        most = max(1, PIXELS // self.how.crop**2)
        self.looked_at = self._draw(self.rows, min(UNIT_IMAGES, most // 2))
        self.training = self._draw(own.splits.train, min(NEIGHBOUR_IMAGES, most))

    def told(self, place: int) -> dict[str, Any]:
        """An evaluated image, what it is, and what it was taken for."""
        guess = int(self.guesses[place])
        return {
            "id": self.found.ids[place],
            "image": self.plain(self.rows[place]),
            "label": self.names[self.found.labels[place]],
            "guess": self.names[guess],
            "p": digits(self.p[place, guess]),
        }

    def mistakes(self) -> tuple[list[int], list[int]]:
        """Places of the hardest mistakes (the label is least probable), and of other mistakes that
        the network was surest of."""
        labels = self.found.labels
        wrong = np.flatnonzero(self.guesses != labels)
        hardest = wrong[self.p[wrong, labels[wrong]].argsort(kind="stable")][:MISTAKES]
        others = np.setdiff1d(wrong, hardest)
        surest = others[(-self.p[others].max(1)).argsort(kind="stable")][:MISTAKES]
        return hardest.tolist(), surest.tolist()

    def with_cams(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Evaluated images as `told`, with Grad-CAM of the guess and the label's probability."""
        if not places:
            return []
        rows = self.rows[list(places)]
        [centre, *_] = evaluation_transforms(self.how)
        x = centre(self._pixels(rows), keyed_generator(0))
        cams = grad_cam(self.model, x, torch.from_numpy(self.guesses[list(places)]))
        seen = [self.closely(*one) for one in zip(rows, pictures(x, self.how), strict=True)]
        return [
            self.told(place)
            | {
                "image": data_uri(picture, CAM_SIDE),
                "cam": data_uri(overlay(picture, cam), CAM_SIDE),
                "p_label": digits(self.p[place, self.found.labels[place]]),
            }
            for place, picture, cam in zip(places, seen, cams.cpu().numpy(), strict=True)
        ]

    def closely(self, row: int, seen: Pixels) -> Pixels:
        """What the network saw of an image, (H, W, 3), at the resolution of its file; or where that
        is not there any more, at that of the Store."""
        how, path = self.how, original(self.data, self.store.ids[row])
        with contextlib.suppress(OSError, BadImage):  # there in one moment, and gone in the next
            if path is not None and not how.border:
                side = round(CAM_SIDE * how.image_size / how.crop)
                square = square_pixels(open_image(path.read_bytes()), side, how.range)
                side = round(square.shape[-1] * how.crop / how.image_size)
                start = (square.shape[-1] - side) // 2
                return square[:, start : start + side, start : start + side].transpose(1, 2, 0)
        side = round(how.crop * self.store.x.shape[-1] / how.image_size)
        return resized(seen, max(1, min(CAM_SIDE, how.crop, side)))

    def confusions(self) -> list[dict[str, Any]]:
        """The pairs of classes most often confused, with images the network was surest of."""
        pairs = list(zip(self.found.labels.tolist(), self.guesses.tolist(), strict=True))
        counts = Counter(pair for pair in pairs if pair[0] != pair[1])
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:CONFUSIONS]
        told = []
        for (label, guess), count in ranked:
            places = np.flatnonzero((self.found.labels == label) & (self.guesses == guess))
            surest = places[(-self.p[places, guess]).argsort(kind="stable")][:4]
            told.append(
                {
                    "label": self.names[label],
                    "guess": self.names[guess],
                    "count": count,
                    "images": [self.plain(self.rows[place]) for place in surest],
                }
            )
        return told

    def units(self) -> list[dict[str, Any]]:
        """Units of the last convolution that vary most, with the images that excite them most."""
        maxima = self._through(excitement(self.model), self.looked_at, "what excites units")
        layer = f"conv{len(self.model.architecture.convs)}"
        return [
            {
                "layer": layer,
                "unit": unit,
                "images": [self.plain(self.looked_at[place]) for place in places],
            }
            for unit, places in exciting_images(maxima, UNITS).items()
        ]

    def neighbours(self) -> list[dict[str, Any]]:
        """Evaluated images, each with the training images nearest to it."""
        places = self.spread[:QUERIES]
        rows = np.concatenate([self.rows[places], self.training])
        body = self.model.split("all-but-last")[0]
        features = self._through(body, rows, "looking for neighbours")
        gallery = features[len(places) :]
        distances, near = nearest_neighbours(features[: len(places)], gallery, 5)
        told = []
        for place, far, found in zip(places, distances, near, strict=True):
            one = self.told(place)
            del one["p"]
            one["neighbours"] = [
                {
                    "id": self.store.ids[row],
                    "image": self.plain(row),
                    "label": self.names[self.store.y[row]],
                    "distance": digits(distance),
                }
                for row, distance in zip(self.training[found], far, strict=True)
            ]
            told.append(one)
        return told

    def plain(self, row: int) -> str:
        """A stored image."""
        return data_uri(np.asarray(self.store.x[row]).transpose(1, 2, 0), PLAIN_SIDE)

    def _pixels(self, rows: Labels) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.store.x[rows])).to(self.device)

    def _through(self, body: nn.Sequential, rows: Labels, what: str) -> Floats:
        """What a part of the network makes of images, (n, D)."""
        [centre, *_] = evaluation_transforms(self.how)
        fast = FrozenPart(body, self.device, self.dtype).after(centre)
        batches = Batches(
            self.store, rows, batch_size=EVALUATION_BATCH, transform=fast, device=self.device
        )
        return predict_logits(nn.Identity(), [batches], self.dtype, what)[0].numpy()

    def _draw(self, rows: Labels, count: int) -> Labels:
        return rows[np.sort(self.generator.permutation(len(rows))[:count])]


def spread(labels: Labels, generator: np.random.Generator) -> list[int]:
    """All places in random order, but first one of each class, then another of each, and so on."""
    order = generator.permutation(len(labels))
    seen: Counter[int] = Counter()
    turns: list[tuple[int, int, int]] = []
    for place in order.tolist():
        turns.append((seen[labels[place]], len(turns), place))
        seen[labels[place]] += 1
    return [place for _, _, place in sorted(turns)]


def digits(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def resized(picture: Pixels, side: int) -> Pixels:
    """(H, W, 3) made smaller."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def data_uri(picture: NDArray[np.uint8], most: int, kind: str = "") -> str:
    """An image (H, W, 3) as a data URI: no side longer than `most`, never enlarged. JPEG, or PNG
    where the image is tiny and PNG smaller, or `kind`."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((most, most), Image.Resampling.LANCZOS)
    kinds = [kind] if kind else ["JPEG", "PNG"] if max(image.size) < TINY_SIDE else ["JPEG"]
    encoded = []
    for one in kinds:
        file = io.BytesIO()
        image.save(file, one, quality=82, optimize=True)
        encoded.append((len(file.getvalue()), one, file.getvalue()))
    _, best, content = min(encoded)
    return f"data:image/{best.lower()};base64,{base64.b64encode(content).decode('ascii')}"
