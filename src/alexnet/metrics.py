"""Logits and labels -> figures: top-1 and top-5 with intervals, per class, confusion, likelihood,
calibration. Imports no torch.

Shapes: N examples, K classes.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

Z95 = 1.959963984540054  # standard normal quantile of 0.975
CALIBRATION_BINS = 15  # Guo et al., "On calibration of modern neural networks" (2017)
Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson, 1927)."""
    share, z2 = correct / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def calibration_error(probabilities: NDArray[np.floating[Any]], labels: Labels) -> float:
    """Expected calibration error: |accuracy - confidence| over 15 equal bins of confidence,
    weighted by their size."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gaps = [
        abs(float(right[bins == b].sum() - confidence[bins == b].sum()))
        for b in range(CALIBRATION_BINS)
    ]
    return sum(gaps) / len(labels)


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(N, K) logits to probabilities, in double precision."""
    probabilities: NDArray[np.float64] = special.softmax(logits.astype(np.float64), 1)
    return probabilities


def top_k(logits: Floats, labels: Labels, k: int) -> float:
    """The share of examples whose label is among the min(k, K) highest logits."""
    if k >= logits.shape[1]:  # scikit-learn takes no k that holds all classes
        return 1.0
    if k == 1:  # nor two classes with a logit each
        return float((logits.argmax(1) == labels).mean())
    every = np.arange(logits.shape[1])
    return float(top_k_accuracy_score(labels, logits, k=k, labels=every))


def metrics(
    logits: Floats, labels: Labels, names: list[str], split: str, top: int = 5
) -> dict[str, Any]:
    """All figures of a split, JSON-ready. Shares are from 0 to 1; top5 is the share within the best
    min(5, K).

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
    confusion = confusion_matrix(labels, guesses, labels=every)
    totals = confusion.sum(1)
    per_class = {
        names[label]: {
            "n": int(totals[label]),
            "top1": float(confusion[label, label] / totals[label]),
        }
        for label in every
        if totals[label]
    }
    return {
        "split": split,
        "n": n,
        "top1": correct / n,
        "top1_interval": list(wilson_interval(correct, n)),
        "top5": top_k(logits, labels, 5),
        f"top{top}": correct / n if top == 1 else top_k(logits, labels, top),
        "nll": float(log_loss(labels, probabilities, labels=every)),
        "ece": calibration_error(probabilities, labels),
        "chance": float(totals.max() / n),
        "names": names,
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }
