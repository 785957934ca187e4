"""What there is to say of one image and the network that classified it: Grad-CAM, occlusion, the
nearest training images."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from alexnet.console import say, warn
from alexnet.data.images import Pixels
from alexnet.errors import InputError
from alexnet.network.checkpoint import Trained
from alexnet.network.frozen import FrozenPart, evaluation_view, feature_stores
from alexnet.network.inference import evaluation_transforms
from alexnet.network.saliency import grad_cam, nearest_neighbours, occlusion, overlay, pictures
from alexnet.runs.directory import RunDirectory
from alexnet.runs.own_data import own_data
from alexnet.runtime import choose_precision
from alexnet.scoring.metrics import Floats

MOST_TRAINING_IMAGES = 20_000  # among which neighbours are looked for
SHOWN = 240  # px of a picture in a notebook, at least


@dataclass(frozen=True)
class Neighbour:
    """A training image near to another."""

    pixels: Pixels  # (3, S, S) as stored
    name: str  # of its class
    distance: float  # cosine, 0 to 2


@dataclass(frozen=True)
class Explanation:
    """What there is to say of one image. A notebook shows what the network saw, and beside it where
    it looked."""

    title: str
    picture: Pixels  # (H, W, 3), what the network saw
    label: int  # the class that the maps are of
    p: Floats  # (K,) probabilities, averaged over the views of the run
    cam: Floats  # (h, w) from 0 to 1: Grad-CAM
    drop: Floats  # (h, w), of the probability of the class while a place is hidden
    stride: int  # px of the picture for a cell of `drop`
    neighbours: list[Neighbour]

    def _repr_png_(self) -> bytes:
        factor = max(1, -(-SHOWN // len(self.picture)))
        large = self.picture.repeat(factor, 0).repeat(factor, 1)
        file = io.BytesIO()
        Image.fromarray(np.concatenate([large, overlay(large, self.cam)], 1)).save(file, "PNG")
        return file.getvalue()


class Gallery:
    """The features of the training images of a run, ready to be searched."""

    def __init__(self, trained: Trained, run: RunDirectory, precision: str = "auto") -> None:
        """Computes the features, or finds them in the cache. `precision` is that of this pass: it
        has many images, and neighbours need no more.

        Raises:
            DataError: the data of the run is not there any more, or has changed.
        """
        how, settings = trained.preprocessing, run.settings
        own = own_data(settings, how)
        self.names, self.store, rows = trained.names, own.store, own.splits.train
        among = f"{len(rows):,} training images"
        if len(rows) > MOST_TRAINING_IMAGES:
            among = f"{MOST_TRAINING_IMAGES:,} of {among}, drawn at random"
            drawn = np.random.default_rng(settings.recipe.seed).permutation(len(rows))
            rows = rows[drawn[:MOST_TRAINING_IMAGES]]
        self.rows = np.sort(rows)
        say(f"neighbours are looked for among {among}")
        device = next(trained.model.parameters()).device
        dtype, _ = choose_precision(precision, device)
        self.network = FrozenPart(trained.model.split("all-but-last")[0], device, dtype)
        # the view that a run with everything frozen but its last layer has in the cache already
        view = evaluation_view(how)
        self.transform = view.transform
        found = feature_stores(self.network, self.store, self.rows, [view], how.crop)
        [features] = found.stores
        part = len(features) > len(self.rows)
        self.x = features.x[found.place(self.rows)] if part else features.x  # (N, D) float16

    def nearest(self, pixels: Pixels, count: int) -> list[Neighbour]:
        """The training images nearest to one of (3, S, S) uint8, the nearest first."""
        x = torch.from_numpy(pixels)[None].to(self.network.device)
        query = self.network.by_pieces(self.transform, x, (0,)).cpu().numpy()
        distances, near = nearest_neighbours(query, self.x, count)
        rows = self.rows[near[0]]
        return [
            Neighbour(np.asarray(self.store.x[row]), self.names[self.store.y[row]], float(distance))
            for row, distance in zip(rows, distances[0], strict=True)
        ]


def open_gallery(trained: Trained, run: RunDirectory, precision: str = "auto") -> Gallery | None:
    """The training images of a run; None, and a line that says why, if they are not there."""
    try:
        return Gallery(trained, run, precision)
    except InputError as error:
        warn(f"no neighbours: {error.message}")
        return None


def explain_image(
    trained: Trained,
    title: str,
    p: Floats,
    pixels: Pixels,
    label: int | None = None,
    gallery: Gallery | None = None,
    neighbours: int = 5,
) -> Explanation:
    """Explains what a network, in float32, says of an image.

    Args:
        title: what the image is called.
        p: (K,) the probabilities of its classes.
        pixels: (3, S, S) uint8, its centre square.
        label: the class to explain; None for the most probable one.
        gallery: where to look for neighbours, if at all.
        neighbours: how many.
    """
    how, model = trained.preprocessing, trained.model
    label = int(p.argmax()) if label is None else label
    [centre, *_] = evaluation_transforms(how)
    device = next(model.parameters()).device
    x = centre(torch.from_numpy(pixels)[None].to(device), torch.Generator())
    patch = max(2, round(how.crop / 6))
    return Explanation(
        title,
        pictures(x, how)[0],
        label,
        p,
        grad_cam(model, x, torch.tensor([label]))[0].cpu().numpy(),
        occlusion(model, x[0], label, patch, patch // 2).cpu().numpy(),
        patch // 2,
        gallery.nearest(pixels, neighbours) if gallery else [],
    )
