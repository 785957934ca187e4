"""A linear head solved at once, as the number every trained head has to beat: ridge regression in
closed form, or logistic regression, each with the penalty that is best on validation.

Shapes: N examples, D features, K classes. Features are standardised for the solution, and the
standardisation is folded into the weights afterwards. Memory does not grow with N.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from alexnet.console import progress
from alexnet.data.store import Batches

RIDGE_PENALTIES = tuple(10.0**power for power in range(-2, 4))
LOGISTIC_PENALTIES = tuple(10.0**power for power in range(-5, 1))
MOST_STEPS = 200  # of L-BFGS for each penalty


@dataclass(frozen=True)
class LinearHead:
    """Logits are x @ weight.T + bias."""

    weight: Tensor  # (K, D) float32
    bias: Tensor  # (K,)
    penalty: float
    val_top1: float
    tried: dict[float, float]  # penalty: validation accuracy


def solve(kind: str, train: Batches, val: Batches, classes: int) -> LinearHead:
    """The linear head that is best on `val` among those solved on `train` with different penalties.

    Args:
        kind: "ridge" (least squares on targets of 1 and 0, times the penalty relative to the mean
            variance of a standardised feature) or "logistic" (mean cross entropy plus half the
            penalty times the squared weights).
        train, val: batches of features (B, D) and labels (B,); `train` in one view.
    """
    mean, deviation = moments(train)
    solutions = (
        _ridge(train, mean, deviation, classes)
        if kind == "ridge"
        else _logistic(train, mean, deviation, classes)
    )
    heads: list[LinearHead] = []
    tried: dict[float, float] = {}
    for penalty, weight, bias in solutions:
        weight = (weight / deviation).float()
        bias = (bias - weight.double() @ mean.double()).float()
        right = sum(int(((x @ weight.T + bias).argmax(1) == y).sum()) for x, y in val.epoch())
        tried[penalty] = right / len(val.indices)
        heads = [*heads, LinearHead(weight, bias, penalty, tried[penalty], tried)]
        heads = [max(heads, key=lambda head: head.val_top1)]
    return heads[0]


def moments(train: Batches) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature (D,) float32; of one that never changes, 1."""
    total = squares = torch.zeros(())
    for x, _ in train.epoch():
        total = total + x.double().sum(0)
        squares = squares + x.double().square().sum(0)
    n = len(train.indices)
    mean = total / n
    deviation = (squares / n - mean**2).clamp(min=0).sqrt()
    return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0).float()


Flat = NDArray[np.float64]
Solutions = Iterator[tuple[float, Tensor, Tensor]]


def _ridge(train: Batches, mean: Tensor, deviation: Tensor, classes: int) -> Solutions:
    """Normal equations: one Gram matrix serves every penalty."""
    d, n = len(mean), len(train.indices)
    gram = torch.zeros(d, d, device=mean.device)
    targets = torch.zeros(d, classes, device=mean.device)
    counts = torch.zeros(classes, device=mean.device)
    with progress("ridge regression", len(train)) as advance:
        for x, y in train.epoch():
            z = (x - mean) / deviation
            one_hot = F.one_hot(y, classes).float()
            gram.addmm_(z.T, z)
            targets += z.T @ one_hot
            counts += one_hot.sum(0)
            advance(1)
    gram, targets, bias = gram.double() / n, targets.double() / n, counts.double() / n
    for penalty in RIDGE_PENALTIES:
        gram.diagonal().add_(penalty)
        factor = torch.linalg.cholesky(gram)
        yield penalty, torch.cholesky_solve(targets, factor).T, bias
        gram.diagonal().sub_(penalty)


def _logistic(train: Batches, mean: Tensor, deviation: Tensor, classes: int) -> Solutions:
    """L-BFGS (scipy) on the whole training set, from the strongest penalty to the weakest, each
    starting from the solution before it."""
    d, n = len(mean), len(train.indices)

    def objective(penalty: float) -> Callable[[Flat], tuple[float, Flat]]:
        def value_and_gradient(flat: Flat) -> tuple[float, Flat]:
            both = torch.from_numpy(flat).to(mean).view(classes, d + 1)
            weight, bias = both[:, :d], both[:, d]
            gradient = torch.zeros_like(both)
            value = 0.5 * penalty * float(weight.double().square().sum())
            for x, y in train.epoch():
                z = (x - mean) / deviation
                logits = torch.addmm(bias, z, weight.T)
                value += float(F.cross_entropy(logits, y, reduction="sum").double()) / n
                error = logits.softmax(1)
                error[torch.arange(len(y)), y] -= 1
                gradient[:, :d].addmm_(error.T, z, alpha=1 / n)
                gradient[:, d] += error.sum(0) / n
            gradient[:, :d] += penalty * weight
            return value, gradient.double().cpu().numpy().ravel()

        return value_and_gradient

    flat = np.zeros(classes * (d + 1))
    for penalty in reversed(LOGISTIC_PENALTIES):
        with progress(f"logistic regression, penalty {penalty:g}", MOST_STEPS) as advance:
            flat = minimize(
                objective(penalty),
                flat,
                jac=True,
                method="L-BFGS-B",
                callback=lambda _: advance(1),
                options={"maxiter": MOST_STEPS, "gtol": 1e-5},
            ).x
        both = torch.from_numpy(flat).to(mean).view(classes, d + 1).double()
        yield penalty, both[:, :d], both[:, d]
