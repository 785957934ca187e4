"""When a classifier says that it does not know: sets of classes that leave out the true one no more
often than was promised, and pictures unlike anything it was trained on. Imports no torch.

Sets are those of split conformal prediction (Papadopoulos et al., "Inductive confidence machines
for regression", 2002) with the score 1 - p (Sadinle, Lei and Wasserman, "Least ambiguous set-valued
classifiers with bounded error levels", 2019): the smallest ones, smaller than with APS or RAPS
(docs/unsure.md). The distance is that to the fifth nearest training image (Sun et al.,
"Out-of-distribution detection with deep nearest neighbors", 2022).

Shapes: N images, K classes, M training images that are remembered, D numbers of a descriptor
(`AlexNet.descriptor`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import InputError
from alexnet.scoring.metrics import Floats, Labels, softmax, wilson_interval

USUAL = 0.05  # the rate of the figures in metrics.json, and of the pages
REMEMBERED, NEIGHBOUR = 1000, 5  # training images, and the place of the neighbour that counts
SHORTEST = 1e-12  # features whose length is not less are divided by it


def require_rate(rate: float) -> None:
    """InputError unless it is a share of sets that may miss the true class."""
    if not 0 < rate < 1:
        raise InputError(
            f"abstain is {rate:g}, expected a share above 0 and below 1.",
            "0.05: at most 5 of 100 sets miss the true class.",
        )


def images_needed(rate: float) -> int:
    """Validation images from which on a rate can be kept at all: 1/rate - 1."""
    return math.ceil(1 / Fraction(str(rate))) - 1


def upper_quantile(values: NDArray[np.floating[Any]], rate: float) -> float:
    """The ceil((n + 1)(1 - rate))-th smallest of n values: one more value of the kind is larger
    with a probability of at most `rate`.

    Raises:
        InputError: the rate is none, or there are too few values for it.
    """
    require_rate(rate)
    n, needed = len(values), images_needed(rate)
    if n < needed:
        raise InputError(
            f"there are {n:,} validation images, and a rate of {rate:g} takes {needed:,} at least.",
            f"Ask for --abstain {math.ceil(100 / (n + 1)) / 100:g} or more, or train with more "
            "validation images (--val-size).",
        )
    rank = math.ceil((n + 1) * (1 - Fraction(str(rate))))  # exact: 100 * 0.55 is above 55
    return float(np.sort(values)[rank - 1])


@dataclass(frozen=True)
class Thresholds:
    """What a rate comes to."""

    p: float  # a class that is less probable is not in the set
    distance: float  # an image that is further away is unlike anything seen

    def sets(self, p: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which classes are in the sets of (..., K) probabilities."""
        return np.asarray(p >= self.p)

    def unlike(self, distance: NDArray[np.floating[Any]] | np.floating[Any]) -> NDArray[np.bool_]:
        """Which images, of (...) distances, are unlike anything seen."""
        return np.asarray(distance > self.distance)


@dataclass(frozen=True)
class Share:
    """How many of some images, with the 95 % interval of that."""

    count: int
    n: int

    @property
    def value(self) -> float:
        """From 0 to 1."""
        return self.count / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """As of an accuracy."""
        return wilson_interval(self.count, self.n)


def by_chance(missed: Share, validation: int, rate: float) -> float:
    """The probability that so many sets or more miss, of test images like those of validation. How
    often all sets of a threshold miss is chance as well, and follows a beta distribution over draws
    of so many validation images (Vovk, "Conditional validity of inductive conformal predictors",
    2012)."""
    from scipy import stats  # half a second

    below = math.floor((validation + 1) * Fraction(str(rate)))  # of the threshold
    beta = stats.betabinom(missed.n, below, validation + 1 - below)
    return float(beta.sf(missed.count - 1))


@dataclass(frozen=True)
class Calibration:
    """What a trained network needs to say that it does not know: how it did on images that it was
    not trained on, and the features of some that it was."""

    p: Floats  # (N,) the probabilities of the true classes of validation images, rising
    distance: Floats  # (N,) their distances, rising
    test_p: Floats  # (T,) the same of test images; none where the data has no test split
    test_distance: Floats  # (T,)
    memory: NDArray[np.float16]  # (M, D) descriptors of training images, each of length 1

    def thresholds(self, rate: float) -> Thresholds:
        """What a rate comes to: of images like the data at most that share gets a set without the
        true class, and at most that share is taken for unlike anything seen.

        Raises:
            InputError: the rate is none, or there are too few validation images for it.
        """
        return Thresholds(-upper_quantile(-self.p, rate), upper_quantile(self.distance, rate))

    def missed(self, rate: float) -> Share:
        """How many sets of test images miss the true class."""
        return Share(int((self.test_p < self.thresholds(rate).p).sum()), len(self.test_p))

    def false_alarms(self, rate: float) -> Share:
        """How many test images are taken for unlike anything seen."""
        unlike = self.thresholds(rate).unlike(self.test_distance)
        return Share(int(unlike.sum()), len(unlike))

    def told(self, rate: float) -> str:
        """What sets of a rate are worth, in words; errors as `thresholds`."""
        missed, alarms = self.missed(rate), self.false_alarms(rate)
        promised = (
            f"at most {100 * rate:.3g} % of these sets miss the true class, on images like the "
            f"{len(self.p):,} of validation"
        )
        if not missed.n:
            return f"{promised}; not measured, because the data has no test split"
        low, high = missed.interval
        chance = by_chance(missed, len(self.p), rate)
        broken = ", which is more: they are not like those of validation" if chance < 0.025 else ""
        return (
            f"{promised}; of {missed.n:,} test images {missed.value:.1%} were missed (95 % "
            f"interval {low:.1%} to {high:.1%}){broken}; {alarms.value:.1%} were taken for unlike "
            "anything seen"
        )

    def to_dict(self) -> dict[str, list[float]]:
        """All but the memory, JSON-ready, each number as short as float32 is."""
        return {
            one.name: [float(str(number)) for number in getattr(self, one.name)]
            for one in fields(self)
            if one.name != "memory"
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Sequence[float]]) -> Self:
        """Of `to_dict`, without a memory.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        names = [one.name for one in fields(cls) if one.name != "memory"]
        arrays: dict[str, Any] = {name: np.asarray(saved[name], np.float32) for name in names}
        return cls(memory=np.zeros((0, 0), np.float16), **arrays).checked()

    def checked(self) -> Self:
        """Itself.

        Raises:
            ValueError: its parts do not fit together.
        """
        pairs = ((self.p, self.distance), (self.test_p, self.test_distance))
        for one, other in pairs:
            if one.ndim != 1 or one.shape != other.shape:
                raise ValueError("probabilities and distances are not of the same images")
        if self.memory.ndim != 2 or (not self.memory.size and self.memory.shape != (0, 0)):
            raise ValueError("there is no memory")  # rows without width could be any number
        for one in (getattr(self, field.name) for field in fields(self)):
            if one.dtype.kind != "f" or not np.isfinite(one).all():
                raise ValueError("there are values that are no numbers")
        return self


def abstaining(
    calibration: Calibration, logits: Floats, labels: Labels, rate: float
) -> dict[str, Any]:
    """What a rate came to on (N, K) logits and (N,) labels of test images, JSON-ready; errors as
    `thresholds`."""
    sets = calibration.thresholds(rate).sets(softmax(logits).astype(np.float32))
    sizes, alarms = sets.sum(1), calibration.false_alarms(rate)
    held = Share(int(sets[np.arange(len(labels)), labels].sum()), len(labels))
    return {
        "rate": rate,
        "validation": len(calibration.p),
        "coverage": held.value,
        "coverage_interval": list(held.interval),
        "set_size": float(sizes.mean()),
        "one": float((sizes == 1).mean()),
        "several": float((sizes > 1).mean()),
        "none": float((sizes == 0).mean()),
        "false_alarms": alarms.value,
        "false_alarms_interval": list(alarms.interval),
    }


def answered(
    p: NDArray[np.floating[Any]], labels: Labels
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The accuracy of the most confident images against how many those are (El-Yaniv and Wiener,
    "On the foundations of noise-free selective classification", 2010): of (N, K) probabilities the
    shares that are answered, rising to 1, and the accuracy of each. Images of equal confidence are
    answered together."""
    confidence = p.max(1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum((p.argmax(1) == labels)[order])
    counts = np.arange(1, len(order) + 1)
    last = np.append(np.diff(confidence[order]) != 0, True)
    return counts[last] / len(order), right[last] / counts[last]
