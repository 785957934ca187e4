"""What training images look like on the whole: their mean, pixel by pixel, and how their colours
vary."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alexnet.console import progress
from alexnet.data.store import Store
from alexnet.network.description import Preprocessing
from alexnet.network.inference import evaluation_views
from alexnet.scoring.metrics import Labels

SAMPLE = 10_000  # images at most; the mean of a pixel is then within 1 of 255


@dataclass(frozen=True)
class Pixels:
    """Of windows of C px, pixels from 0 to 255, float64."""

    mean_image: Tensor  # (3, C, C)
    covariance: Tensor  # (3, 3), of red, green and blue


def training_pixels(store: Store, rows: Labels, how: Preprocessing) -> Pixels:
    """Looks at the centre windows of the images `rows` of a Store, or of so many of them as are
    enough, at equal distances. The sums are of whole numbers and exact, so that the same images
    give the same bits whatever the number of threads."""
    taken = rows[:: math.ceil(len(rows) / SAMPLE)]
    plain = replace(how, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3, views=1)
    [batches] = evaluation_views(store, taken, plain, torch.device("cpu"))
    total = torch.zeros(3, how.crop, how.crop, dtype=torch.float64)
    products = torch.zeros(3, 3, dtype=torch.float64)
    with progress("looking at colours", len(batches)) as advance:
        for x, _ in batches.epoch():
            total += x.sum(0, dtype=torch.float64)
            for image in x:
                colours = image.flatten(1).double()
                products += colours @ colours.T
            advance(1)
    count = len(taken) * how.crop**2
    mean = total.sum((1, 2)) / count
    return Pixels(total / len(taken), products / count - mean[:, None] * mean)


def colour_axes(covariance: Tensor) -> tuple[float, ...]:
    """The principal axes of colours, each as long as the standard deviation along it, pixels from 0
    to 1: nine numbers, a row for each of red, green and blue, a column for each axis, the longest
    first.

    The 2012 paper multiplies its eigenvectors by "eigenvalues"; its code by their square roots,
    which alone do not depend on the unit of the pixels.
    """
    values, vectors = torch.linalg.eigh(covariance / 255**2)
    longest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    axes = vectors * longest.sign() * values.clamp(min=0).sqrt()  # its sign is anyone's guess
    return tuple(axes.flip(1).flatten().tolist())
