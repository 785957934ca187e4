"""What training images look like on the whole: their mean, pixel by pixel, and how their colours
vary."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet.console import progress
from alexnet.data.store import Store
from alexnet.network.description import Preprocessing
from alexnet.network.inference import evaluation_views
from alexnet.scoring.metrics import Labels

# added to the variance along each axis, so that what hardly varies is not blown up (Jordan, 2024)
WHITENED_AT_LEAST = 5e-4
SAMPLE = 10_000  # images at most; the mean of a pixel is then within 1 of 255


@dataclass(frozen=True)
class Pixels:
    """Of windows of C px, pixels from 0 to 255, float64."""

    mean_image: Tensor  # (3, C, C)
    # (3, 3), of red, green and blue; or (3 P^2, 3 P^2), of the values of patches of P px
    covariance: Tensor


def training_pixels(store: Store, rows: Labels, how: Preprocessing, patch: int = 1) -> Pixels:
    """Looks at the centre windows of the images `rows` of a Store, or of so many of them as are
    enough, at equal distances, and at all patches of `patch` px in them. The sums are of whole
    numbers and exact, so that the same images give the same bits whatever the number of
    threads."""
    taken = rows[:: math.ceil(len(rows) / SAMPLE)]
    plain = replace(how, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3, views=1)
    [batches] = evaluation_views(store, taken, plain, torch.device("cpu"))
    total = torch.zeros(3, how.crop, how.crop, dtype=torch.float64)
    products = torch.zeros(3 * patch**2, 3 * patch**2, dtype=torch.float64)
    with progress("looking at colours", len(batches)) as advance:
        for x, _ in batches.epoch():
            total += x.sum(0, dtype=torch.float64)
            for images in x.split(max(1, (256 // how.crop) ** 2)):  # what fits into a cache
                patches = F.unfold(images.double(), patch).transpose(0, 1).flatten(1)
                products += patches @ patches.T
            advance(1)
    patches = F.unfold(total, patch)
    count = len(taken) * patches.shape[1]
    mean = patches.sum(1) / count
    return Pixels(total / len(taken), products / count - mean[:, None] * mean)


def colour_axes(covariance: Tensor) -> tuple[float, ...]:
    """The principal axes of colours, each as long as the standard deviation along it, pixels from 0
    to 1: nine numbers, a row for each of red, green and blue, a column for each axis, the longest
    first.

    The 2012 paper multiplies its eigenvectors by "eigenvalues"; its code by their square roots,
    which alone do not depend on the unit of the pixels.
    """
    values, vectors = _principal(covariance / 255**2)
    return tuple((vectors * values.sqrt()).flatten().tolist())


def whitening(covariance: Tensor, std: Sequence[float]) -> Tensor:
    """The filters of `model.Whitening`, (6 P^2, 3, P, P), from the covariance of patches: each
    principal axis divided by the standard deviation along it, and its negative.

    Args:
        covariance: of `training_pixels`.
        std: that pixels from 0 to 1 are divided by (`Preprocessing`).
    """
    side = math.isqrt(len(covariance) // 3)
    unit = 255 * torch.tensor(std, dtype=torch.float64).repeat_interleave(side**2)
    values, vectors = _principal(covariance / unit / unit[:, None])
    filters = (vectors / (values + WHITENED_AT_LEAST).sqrt()).T.reshape(-1, 3, side, side)
    return torch.cat([filters, -filters]).float()


def _principal(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Variances along the principal axes, the largest first, and these as columns of length 1."""
    values, vectors = torch.linalg.eigh(covariance)
    longest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    vectors = vectors * longest.sign()  # its sign is anyone's guess
    return values.clamp(min=0).flip(0), vectors.flip(1)
