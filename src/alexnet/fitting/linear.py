"""A linear head solved at once, as the number every trained head has to beat: ridge regression in
closed form, or logistic regression, each with the penalty that is best on validation, or in
cross-validation.

Shapes: N examples, D features, K classes, V views of each example. Features are standardised for
the solution, and the standardisation is folded into the weights afterwards. With a validation split
memory does not grow with N; cross-validation holds all features, and is for few examples.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from alexnet.console import progress
from alexnet.data.store import Batches
from alexnet.fitting.threads import at_once
from alexnet.network.inference import average_views

# in the order in which they are tried: logistic regression goes on from the solution before
PENALTIES = {
    "ridge": tuple(10.0**power for power in range(-2, 4)),
    "logistic": tuple(10.0**power for power in reversed(range(-5, 1))),
}
MOST_STEPS = 200  # of L-BFGS for each penalty
TELLING = 0.001  # nats by which a weaker penalty must be better: it is surer of itself


@dataclass(frozen=True)
class LinearHead:
    """Logits are x @ weight.T + bias."""

    weight: Tensor  # (K, D) float32
    bias: Tensor  # (K,)
    penalty: float
    val_top1: float
    tried: dict[float, float]  # penalty: validation accuracy

    @torch.no_grad()
    def put(self, layer: nn.Linear) -> None:
        """Gives a layer these weights."""
        layer.weight.copy_(self.weight)
        layer.bias.copy_(self.bias)


@dataclass(frozen=True)
class CrossValidated:
    """A head on all examples, and for each fold one on the examples outside."""

    head: LinearHead
    held: list[LinearHead]  # with the same penalty
    fold: NDArray[np.int64]  # (N,) where each example is held out
    val_loss: float  # mean cross entropy of examples that are held out


def one_blas_thread() -> contextlib.AbstractContextManager[object]:
    """While the block runs, what L-BFGS adds up between two looks is added by one thread: sums of a
    few thousand numbers, for which more only wait for each other, twice as long as the looks take;
    and their order would depend on how many there are."""
    import scipy.optimize  # noqa: F401  brings a BLAS of its own, which must be there to be found

    controller = ThreadpoolController().select(internal_api="openblas")
    return cast("contextlib.AbstractContextManager[object]", controller.limit(limits=1))


def solve(kind: str, train: Batches, val: Batches, classes: int) -> LinearHead:
    """The linear head that is best on `val` among those solved on `train` with different penalties.

    Args:
        kind: "ridge" (least squares on targets of 1 and 0, times the penalty relative to the mean
            variance of a standardised feature) or "logistic" (mean cross entropy plus half the
            penalty times the squared weights).
        train, val: batches of features (B, D) and labels (B,); `train` in one view.
    """
    mean, deviation = moments(x for x, _ in train.epoch())
    examples = _Examples(
        lambda: (((x - mean) / deviation, y) for x, y in train.epoch()),
        len(train.indices), len(mean), classes, mean.device,
    )  # fmt: skip
    best: LinearHead | None = None
    tried: dict[float, float] = {}
    with one_blas_thread(), progress(f"{kind} regression", len(PENALTIES[kind])) as advance:
        for penalty, weight, bias in _path(kind, examples):
            weight, bias = _unstandardised(weight, bias, mean, deviation)
            right = sum(int(((x @ weight.T + bias).argmax(1) == y).sum()) for x, y in val.epoch())
            tried[penalty] = right / len(val.indices)
            if best is None or tried[penalty] > best.val_top1:
                best = LinearHead(weight, bias, penalty, tried[penalty], tried)
            advance(1)
    assert best is not None  # noqa: S101  there are penalties
    return best


def cross_validated(
    kind: str, views: Sequence[Batches], fold: NDArray[np.int64], classes: int
) -> CrossValidated:
    """The linear head on all examples, with the penalty that is best where each example is judged
    by a head on those of other folds: of the lowest cross entropy with `logistic`, which tells more
    of few examples than accuracy does; of the highest accuracy with `ridge`.

    Args:
        kind: as for `solve`.
        views: batches of features (B, D) and labels (B,) of each view; a head is solved on all
            views, and judges an example by its views together, as the network does.
        fold: (N,) 0, 1, ...: where each example is held out.
    """
    features = torch.stack([torch.cat([x for x, _ in batches.epoch()]) for batches in views])
    labels = torch.cat([y for _, y in views[0].epoch()])
    count = int(fold.max()) + 1
    rows = [np.flatnonzero(fold != one) for one in range(count)]
    paths = [_heads(kind, features[:, some], labels[some], classes) for some in rows]
    tried: dict[float, float] = {}
    best: tuple[float, float, list[LinearHead]] | None = None
    worse = 0
    label = f"{kind} regression, {count} folds"
    with one_blas_thread(), progress(label, len(PENALTIES[kind])) as advance:
        for _ in PENALTIES[kind]:
            held = list(at_once(next, paths))
            logits = _judged(features, held, fold)
            loss = float(F.cross_entropy(logits.double(), labels))
            top1 = float((logits.argmax(1) == labels).double().mean())
            tried[held[0].penalty] = top1
            criterion = loss if kind == "logistic" else -top1
            worse += 1
            if best is None or criterion < best[0] - (TELLING if kind == "logistic" else 0):
                best, worse = (criterion, loss, held), 0
            advance(1)
            if kind == "logistic" and worse == 2:
                break  # weaker penalties take the most steps
    assert best is not None  # noqa: S101
    _, loss, chosen = best
    penalty = chosen[0].penalty
    with one_blas_thread():
        whole = next(
            head for head in _heads(kind, features, labels, classes) if head.penalty == penalty
        )
    whole = replace(whole, val_top1=tried[penalty], tried=tried)
    return CrossValidated(whole, chosen, fold, loss)


def _heads(kind: str, views: Tensor, labels: Tensor, classes: int) -> Iterator[LinearHead]:
    """A head for each penalty, on all views (V, N, D) of the examples."""
    x, y = views.flatten(0, 1).float(), labels.repeat(len(views))
    mean, deviation = moments([x])
    z = (x - mean) / deviation
    turned = None
    if len(z) < z.shape[1] / 2:  # as many numbers as examples say the same: products are equal
        turned, small = torch.linalg.qr(z.double().T)
        z = small.T.float()
    examples = _Examples(lambda: [(z, y)], len(z), z.shape[1], classes, z.device)
    for penalty, weight, bias in _path(kind, examples):
        weight = weight if turned is None else weight.double() @ turned.T
        weight, bias = _unstandardised(weight, bias, mean, deviation)
        yield LinearHead(weight, bias, penalty, 0.0, {})


def _judged(views: Tensor, held: list[LinearHead], fold: NDArray[np.int64]) -> Tensor:
    """(N, K) logits of each example from the head of its fold."""
    found = torch.empty(views.shape[1], len(held[0].bias), device=views.device)
    for number, head in enumerate(held):
        rows = np.flatnonzero(fold == number)
        found[rows] = average_views([x[rows].float() @ head.weight.T + head.bias for x in views])
    return found


def _unstandardised(
    weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights (K, D) and bias (K,) float32 for features as they are, from those for standardised
    ones."""
    weight = (weight / deviation).float()
    return weight, (bias - weight.double() @ mean.double()).float()


def moments(features: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature (D,) float32, from batches (B, D); of one that
    never changes, 1."""
    total = squares = torch.zeros(())
    n = 0
    for x in features:
        total = total + x.double().sum(0)
        squares = squares + x.double().square().sum(0)
        n += len(x)
    mean = total / n
    deviation = (squares / n - mean**2).clamp(min=0).sqrt()
    return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0).float()


Flat = NDArray[np.float64]
Solutions = Iterator[tuple[float, Tensor, Tensor]]


@dataclass(frozen=True)
class _Examples:
    """What a head is solved on."""

    epoch: Callable[[], Iterable[tuple[Tensor, Tensor]]]  # (B, D) standardised, (B,) labels
    n: int
    d: int
    classes: int
    device: torch.device


def _path(kind: str, examples: _Examples) -> Solutions:
    return _ridge(examples) if kind == "ridge" else _logistic(examples)


def _ridge(examples: _Examples) -> Solutions:
    """Normal equations: one Gram matrix serves every penalty."""
    d, n, classes, device = examples.d, examples.n, examples.classes, examples.device
    gram = torch.zeros(d, d, device=device)
    targets = torch.zeros(d, classes, device=device)
    counts = torch.zeros(classes, device=device)
    for z, y in examples.epoch():
        one_hot = F.one_hot(y, classes).float()
        gram.addmm_(z.T, z)
        targets += z.T @ one_hot
        counts += one_hot.sum(0)
    gram, targets, bias = gram.double() / n, targets.double() / n, counts.double() / n
    for penalty in PENALTIES["ridge"]:
        gram.diagonal().add_(penalty)
        factor = torch.linalg.cholesky(gram)
        yield penalty, torch.cholesky_solve(targets, factor).T, bias
        gram.diagonal().sub_(penalty)


def _logistic(examples: _Examples) -> Solutions:
    """L-BFGS (scipy) on the whole training set, from the strongest penalty to the weakest, each
    starting from the solution before it."""
    from scipy.optimize import minimize  # a quarter of a second that only this needs

    d, classes = examples.d, examples.classes
    flat = np.zeros(classes * (d + 1))
    for penalty in PENALTIES["logistic"]:
        flat = minimize(
            partial(_objective, examples, penalty),
            flat,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": MOST_STEPS, "gtol": 1e-5},
        ).x
        both = _weights(examples, flat).double()
        yield penalty, both[:, :d], both[:, d]


def _weights(examples: _Examples, flat: Flat) -> Tensor:
    """(K, D + 1) float32 of what scipy moves."""
    like = torch.zeros((), device=examples.device)
    return torch.from_numpy(flat).to(like).view(examples.classes, examples.d + 1)


def _objective(examples: _Examples, penalty: float, flat: Flat) -> tuple[float, Flat]:
    """What logistic regression makes small, and its gradient, at weights (K * (D + 1),), the bias
    of each class behind its weights."""
    d, n = examples.d, examples.n
    both = _weights(examples, flat)
    weight, bias = both[:, :d], both[:, d]
    gradient = torch.zeros_like(both)
    value = 0.5 * penalty * float(weight.double().square().sum())
    for z, y in examples.epoch():
        logits = torch.addmm(bias, z, weight.T)
        value += float(F.cross_entropy(logits, y, reduction="sum").double()) / n
        error = logits.softmax(1)
        error[torch.arange(len(y)), y] -= 1
        gradient[:, :d].addmm_(error.T, z, alpha=1 / n)
        gradient[:, d] += error.sum(0) / n
    gradient[:, :d] += penalty * weight
    return value, gradient.double().cpu().numpy().ravel()


def steps_of_solving(n: int, d: int, classes: int) -> Iterator[float]:
    """Looks at what logistic regression makes small, of which solving is made, on made-up examples:
    only to be timed."""
    z, y = torch.randn(n, d), torch.arange(n) % classes
    examples = _Examples(lambda: [(z, y)], n, d, classes, z.device)
    while True:
        yield _objective(examples, 1.0, np.zeros(classes * (d + 1)))[0]
