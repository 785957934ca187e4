"""Is a difference more than noise? Paired comparisons over the same images, and over seeds where
there are several.

Shapes: S seeds, N images, P matched pairs of settings.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Hits = NDArray[np.bool_]  # whether each image was classified right


@dataclass(frozen=True)
class Difference:
    """A mean difference of accuracies (shares from -1 to 1) with its interval."""

    mean: float
    low: float
    high: float
    equal: bool = False  # every single outcome is the same

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 0: the difference cannot be told from noise."""
        return self.low <= 0 <= self.high


def paired_difference(one: Hits, other: Hits, level: float = 0.95) -> Difference:
    """The accuracy of `one` minus that of `other`, both (R, N): R repetitions (seeds, or matched
    settings) of the same N images.

    Two things vary, which images were drawn and how a repetition went, and both go into the
    interval: the standard error over images, with a normal quantile, and the standard error over
    repetitions, with Student's for R - 1 degrees of freedom. Their squares are added, which counts
    a part of the noise twice: the interval is rather too wide than too narrow. With one repetition
    only the images are taken into account.
    """
    difference = one.astype(np.float64) - other
    repetitions, n = difference.shape
    mean = float(difference.mean())
    tail = (1 + level) / 2
    by_image = float(difference.mean(0).std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    squared = (stats.norm.ppf(tail) * by_image) ** 2
    if repetitions > 1:
        by_repetition = float(difference.mean(1).std(ddof=1)) / math.sqrt(repetitions)
        squared += (stats.t.ppf(tail, repetitions - 1) * by_repetition) ** 2
    half = math.sqrt(squared)
    return Difference(mean, mean - half, mean + half)


def mcnemar(one: Hits, other: Hits) -> float:
    """The probability of a difference at least as large if both were equally good: McNemar's exact
    test (1947) of two classifiers of the same N images, both (N,). Only the images that one gets
    right and the other wrong count; if there are none, it is 1."""
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    if not only_one + only_other:
        return 1.0
    return float(stats.binomtest(only_one, only_one + only_other).pvalue)


def mean_interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of a few values; of one value, itself twice."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, mean
    half = float(
        stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    )
    return mean - half, mean + half
