"""Logits and labels -> figures: top-1 and top-5 with intervals, precision, recall and F1 of each
class, confusion, likelihood, calibration. Imports no torch; and SciPy and scikit-learn only when
figures are asked for, because classifying needs `softmax` alone, and they would take a third of
its start.

Shapes: N examples, K classes.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import WeightsError

Z95 = 1.959963984540054  # standard normal quantile of 0.975
LOG_TEMPERATURES = (-math.log(100), math.log(100))
TOP5_FROM = 11  # classes from which top-5 says something: of ten, five guesses are half
CALIBRATION_BINS = 15  # Guo et al., "On calibration of modern neural networks" (2017)
Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson, 1927): which accuracies over all images of the
    kind go with what this one network, as it is, got right of n drawn from them. What training
    again would change is not in it."""
    share, z2 = correct / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def leak_free(hits: NDArray[np.bool_], leaked: NDArray[np.bool_]) -> dict[str, Any] | None:
    """The accuracy on the examples that have not leaked into training, JSON-ready; None where none
    has, or all have.

    Args:
        hits: (N,) which are right.
        leaked: (N,) which have a copy among what was learned from.
    """
    if leaked.all() or not leaked.any():
        return None
    right, n = int(hits[~leaked].sum()), int((~leaked).sum())
    return {"top1": right / n, "top1_interval": list(wilson_interval(right, n)), "n": n}


@dataclass(frozen=True)
class ClassScores:
    """How well each class is found; each array is (K,), and nought where there is nothing to
    divide by, as in scikit-learn's report."""

    support: Labels  # images of the class
    precision: NDArray[np.float64]  # the share of the images taken for it that are of it
    recall: NDArray[np.float64]  # the share of its images that are found: its accuracy
    f1: NDArray[np.float64]  # the harmonic mean of both

    def mean(self, weighted: bool = False) -> dict[str, float]:
        """The means of the three over the classes that have images: each counts the same, or as
        much as it has images. The plain mean of the recalls is the balanced accuracy."""
        weights = self.support if weighted else self.support > 0
        three = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: float(np.average(one, weights=weights)) for name, one in three.items()}


def class_scores(confusion: Labels) -> ClassScores:
    """The scores of (K, K) counts of label and guess."""
    right, support, guessed = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    return ClassScores(
        support,
        right / np.maximum(guessed, 1),
        right / np.maximum(support, 1),
        2 * right / np.maximum(support + guessed, 1),
    )


@dataclass(frozen=True)
class Reliability:
    """Images by their confidence, in 15 equal bins from 0 to 1; each array is (15,)."""

    count: Labels  # images
    confidence: NDArray[np.float64]  # the sum of their confidences
    right: NDArray[np.float64]  # how many of them are right


def reliability(probabilities: NDArray[np.floating[Any]], labels: Labels) -> Reliability:
    """What a reliability diagram shows, of (N, K) probabilities and (N,) labels. A confidence on
    the edge of two bins is in the lower one."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    return Reliability(
        np.bincount(bins, minlength=CALIBRATION_BINS).astype(np.int64),
        np.bincount(bins, confidence, CALIBRATION_BINS).astype(np.float64),
        np.bincount(bins, right, CALIBRATION_BINS).astype(np.float64),
    )


def calibration_error(probabilities: NDArray[np.floating[Any]], labels: Labels) -> float:
    """Expected calibration error: |accuracy - confidence| over 15 equal bins of confidence,
    weighted by their size."""
    bins = reliability(probabilities, labels)
    return float(np.abs(bins.right - bins.confidence).sum()) / len(labels)


def losses(logits: NDArray[np.floating[Any]], labels: Labels) -> NDArray[np.float64]:
    """(N,) -log of the probability that (N, K) logits give to (N,) labels, in double precision and
    without bounds: neither the probability of a wrong answer nor its distance from 1 is rounded
    away."""
    exact = logits.astype(np.float64)
    rows, best = np.arange(len(labels)), exact.argmax(1)
    below = exact - exact[rows, best, None]
    behind = -below[rows, labels]
    below[rows, best] = -np.inf
    every: NDArray[np.float64] = behind + np.log1p(np.exp(below).sum(1))
    return every


def nll(logits: NDArray[np.floating[Any]], labels: Labels) -> float:
    """The mean of `losses`: the negative log-likelihood."""
    return float(losses(logits, labels).mean())


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature by which (N, K) logits are divided so that the (N,) labels become most
    probable (Guo et al., 2017); fit it on images that are not evaluated. Guesses stay as they are.
    It lies from 0.01 to 100: where every guess is right, no temperature is low enough.
    """
    from scipy import optimize

    exact = logits.astype(np.float64)
    # convex in the scale, so there is one minimum
    found = optimize.minimize_scalar(
        lambda logarithm: nll(exact / math.exp(logarithm), labels),
        bounds=LOG_TEMPERATURES,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(float(found.x))


def temperature_interval(logits: Floats, labels: Labels, fitted: float) -> tuple[float, float]:
    """The 95 % interval of the temperature that was fitted to them: all temperatures whose
    likelihood is not much lower (the ratio test). An end at 0.01 or 100 is no end: there is none.
    """
    from scipy import optimize

    exact = logits.astype(np.float64)
    highest = nll(exact / fitted, labels) + Z95**2 / 2 / len(labels)

    def beyond(logarithm: float) -> float:
        return nll(exact / math.exp(logarithm), labels) - highest

    middle = math.log(fitted)
    low, high = (
        optimize.brentq(beyond, *sorted((limit, middle))) if beyond(limit) > 0 else limit
        for limit in LOG_TEMPERATURES
    )
    return math.exp(low), math.exp(high)


@dataclass(frozen=True)
class Temperature:
    """By what logits are to be divided, and what validation says of it."""

    value: float  # 1 where validation supports no other
    interval: tuple[float, float]  # 95 %, of the temperature that fits best


def supported_temperature(logits: Floats, labels: Labels) -> Temperature:
    """The temperature that (N, K) validation logits and (N,) labels speak for. There is one if its
    interval has two ends and leaves out 1, and if the temperature of each half of the images makes
    the labels of the other half more probable. Then it is the end of the interval that is nearer to
    1: the likelihood rises all the way to the true temperature, which lies hardly ever before it,
    so that other images gain too. Of a few images the best fit harms others (docs/log.md)."""
    low, high = temperature_interval(logits, labels, fit_temperature(logits, labels))
    bottom, top = map(math.exp, LOG_TEMPERATURES)
    supported = bottom < low and high < top and not low <= 1 <= high
    halves = np.array_split(np.random.default_rng(0).permutation(len(labels)), 2)
    for one, other in (halves, halves[::-1]):
        if supported:
            there = logits[other].astype(np.float64)
            scaled = there / fit_temperature(logits[one], labels[one])
            supported = nll(scaled, labels[other]) < nll(there, labels[other])
    return Temperature((low if low > 1 else high) if supported else 1.0, (low, high))


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(N, K) logits to probabilities, in double precision."""
    exact = logits.astype(np.float64)
    raised = np.exp(exact - exact.max(1, keepdims=True))
    probabilities: NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return probabilities


def require_finite(values: NDArray[np.floating[Any]], whose: object) -> None:
    """WeightsError if what a network gives for N images, (N, K), is not all numbers."""
    wrong = int((~np.isfinite(values)).any(1).sum())
    if wrong:
        raise WeightsError(
            f"{whose} gives what is no number for {wrong:,} of {len(values):,} images.",
            "Its weights are damaged, or too large for this arithmetic: try --precision fp32; else "
            "train it again, with a lower --lr or with --clip 1.",
        )


def top_k(logits: Floats, labels: Labels, k: int) -> float:
    """The share of examples whose label is among the min(k, K) highest logits."""
    best = logits.argsort(1, kind="stable")[:, -k:]
    return float((best == labels[:, None]).any(1).mean())


def metrics(
    logits: Floats, labels: Labels, names: list[str], split: str, top: int = 5
) -> dict[str, Any]:
    """All figures of a split, JSON-ready. Shares are from 0 to 1; top5 is the share within the best
    min(5, K), and top1 of a class its recall.

    Args:
        logits: (N, K).
        labels: (N,) indices into `names`.
        names: readable class names, K.
        split: what was evaluated, for the record.
        top: also the share within the best so many, as "top3".
    """
    n, k = logits.shape
    every = np.arange(k)
    guesses = logits.argmax(1)
    correct = int((guesses == labels).sum())
    probabilities = softmax(logits)
    confusion = np.bincount(labels * k + guesses, minlength=k * k).reshape(k, k)
    scores = class_scores(confusion)
    per_class = {
        names[label]: {
            "n": int(scores.support[label]),
            "top1": float(scores.recall[label]),
            "precision": float(scores.precision[label]),
            "f1": float(scores.f1[label]),
        }
        for label in every
        if scores.support[label]
    }
    macro = scores.mean()
    return {
        "split": split,
        "n": n,
        "top1": correct / n,
        "top1_interval": list(wilson_interval(correct, n)),
        "top5": top_k(logits, labels, 5),
        f"top{top}": correct / n if top == 1 else top_k(logits, labels, top),
        "nll": nll(logits, labels),
        "ece": calibration_error(probabilities, labels),
        "chance": float(scores.support.max() / n),
        "balanced_accuracy": macro["recall"],
        "macro": macro,
        "weighted": scores.mean(weighted=True),
        "names": names,
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }
