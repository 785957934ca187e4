"""Is a difference more than noise? Accuracies over the same images, and over several trainings
where there are some.

Two things vary: which images were drawn, and how a training went. The difference of two settings
is a mean over both, and its variance has two parts, of which each is estimated where there is most
to estimate it from:

- what the trainings of a setting have in common differs from image to image: the variance over
  images of the difference, without what single trainings bring into it;
- trainings of a setting differ, as a whole and on single images: the variance of their accuracies
  on these images, pooled over all settings, so that 9 settings with 2 seeds give 9 degrees of
  freedom and not 1. It is taken to be the same for all settings.

The first has as many degrees of freedom as there are images, so each part has a quantile of its
own, and their squares are added. The quantile is that of the studentized range (Tukey, 1953):
the best of several equal settings was chosen on the data that it is compared on, and leads the
worst of them by their range. `tests/long/equal_settings.py` shows what that comes to.

Shapes: S trainings (seeds), N images.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alexnet.scoring.metrics import wilson_interval

Hits = NDArray[np.bool_]  # whether each image was classified right
# Shares of the images on which two trainings differ in being right, of one setting and of two:
# what is taken for granted before anything was trained.
SAME_SETTING, OTHER_SETTING = 0.10, 0.13
FOUND = 0.8  # how often a gap is found that is said to be found


@dataclass(frozen=True)
class Difference:
    """A mean difference of accuracies (shares from -1 to 1) with its interval."""

    mean: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 0: the difference cannot be told from noise."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class TrainingNoise:
    """How far trainings of one setting lie apart on the same images, pooled over settings."""

    variance: float = 0.0  # of the accuracy of one training
    of_images: float = 0.0  # the part of it that comes from single images: of the mean of N
    degrees: float = 0.0  # degrees of freedom; 0 where no setting was trained twice

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the accuracy of a training; None where it is not known."""
        return math.sqrt(self.variance) if self.degrees else None


def training_noise(settings: Sequence[Hits]) -> TrainingNoise:
    """The noise of the trainings of several settings, each (S, N) over the same N images; S may
    differ, and those with one training say nothing."""
    repeated = [hits.astype(np.float64) for hits in settings if len(hits) > 1]
    degrees = sum(len(hits) - 1 for hits in repeated)
    if not degrees:
        return TrainingNoise()
    of_runs = sum(float(((hits.mean(1) - hits.mean()) ** 2).sum()) for hits in repeated)
    of_images = sum(float(((hits - hits.mean(0)) ** 2).sum()) for hits in repeated)
    return TrainingNoise(
        of_runs / degrees, of_images / degrees / repeated[0].shape[1] ** 2, float(degrees)
    )


@functools.cache
def studentized_range(values: int, degrees: float, level: float) -> float:
    """The factor of a standard error of a difference that the best and the worst of so many equal
    values stay within with the probability `level`; of two values Student's, or of infinite
    degrees of freedom the normal quantile."""
    return float(stats.studentized_range.isf(1 - level, values, degrees)) / math.sqrt(2)


def half_width(
    persistent: float, trained: float, degrees: float, values: int, level: float
) -> float:
    """Half an interval, of the two parts of a variance: that of images, and that of trainings with
    its degrees of freedom (0: it is not known)."""
    squared = studentized_range(values, math.inf, level) ** 2 * persistent
    if degrees:
        squared += studentized_range(values, degrees, level) ** 2 * trained
    return math.sqrt(squared)


def difference(
    one: Hits, other: Hits, noise: TrainingNoise, values: int = 2, level: float = 0.95
) -> Difference:
    """The accuracy of `one` minus that of `other`, (S, N) each over the same N images, S trainings
    of a setting or of several, with an interval for both kinds of noise; or if that of trainings
    is not known, for these trainings on other images.

    Two images are added, one that each gets right and the other wrong (Bonett and Price,
    "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data", 2012): a handful of images proves nothing, even if all say the same. They move the
    interval, not the mean.

    Args:
        one, other, noise: see above.
        values: of how many settings these are the best and another.
        level: the probability with which all intervals between equal ones of them hold 0.
    """
    each = one.mean(0) - other.mean(0)
    n, runs = len(each) + 2, 1 / len(one) + 1 / len(other)
    middle = float(each.sum()) / n
    of_images = (float((each**2).sum() + 2) / n - middle**2) / n
    persistent = max(0.0, of_images - runs * noise.of_images)
    half = half_width(persistent, runs * noise.variance, noise.degrees, values, level)
    return Difference(float(each.mean()), max(-1.0, middle - half), min(1.0, middle + half))


def behind_best(ranked: Sequence[Hits], level: float = 0.95) -> list[Difference]:
    """How far each of several settings, (S, N) each, the one with the best mean first, lies behind
    that one, itself included. If all are equal, all intervals hold 0 with the probability `level`,
    though the best is the best of these very images and trainings."""
    noise = training_noise(ranked)
    return [difference(ranked[0], one, noise, len(ranked), level) for one in ranked]


def mean_interval(hits: Hits, noise: TrainingNoise, level: float = 0.95) -> tuple[float, float]:
    """The interval of the accuracy of a setting, (S, N): of its mean over other images and other
    trainings; where the noise of trainings is not known, of this one network over other images."""
    if not noise.degrees and len(hits) == 1:
        return wilson_interval(int(hits.sum()), hits.size)
    each, runs = hits.mean(0), 1 / len(hits)
    persistent = max(0.0, float(each.var()) / len(each) - runs * noise.of_images)
    half = half_width(persistent, runs * noise.variance, noise.degrees, 2, level)
    mean = float(each.mean())
    return max(0.0, mean - half), min(1.0, mean + half)


def smallest_gap(settings: int, seeds: int, images: int, deviation: float) -> float:
    """The gap to the best (a share) that is found in about 80 of 100 sweeps of so many settings,
    seeds and images, if two trainings of one setting differ by `deviation` (a standard deviation,
    in shares) on endless images. With one seed the deviation is not seen, and what is found is a
    gap between these very trainings."""
    flips = SAME_SETTING / 2 / images
    persistent = (OTHER_SETTING - SAME_SETTING) / images
    if seeds > 1:
        trained, degrees = 2 / seeds * (deviation**2 + flips), float(settings * (seeds - 1))
    else:
        persistent, trained, degrees = OTHER_SETTING / images, 0.0, 0.0
    half = half_width(persistent, trained, degrees, settings, 0.95)
    return half + float(stats.norm.ppf(FOUND)) * math.sqrt(persistent + trained)


def mcnemar(one: Hits, other: Hits) -> float:
    """The probability of a difference at least as large if both were equally good: McNemar's exact
    test (1947) of two classifiers of the same N images, both (N,). Only the images that one gets
    right and the other wrong count; if there are none, it is 1."""
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    if not only_one + only_other:
        return 1.0
    return float(stats.binomtest(only_one, only_one + only_other).pvalue)
