"""What moves the weights: losses, optimisers, and the learning rate as a function of progress."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.fitting.threads import at_once
from alexnet.runtime import cpu_has_bf16

Loss = Callable[[Tensor, Tensor], Tensor]
Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


def make_loss(name: str, label_smoothing: float, weights: Sequence[float] = ()) -> Loss:
    """The loss of logits (B, K) and labels (B,), a mean over the batch; with `weights`, one for
    each class, that of each image times the weight of its class.

    "cross-entropy", or "bce": the binary cross entropy of each class, summed over the classes, so
    that its gradients are of the same size as cross entropy's. Smoothing spreads that share of the
    target evenly over all K classes. "double-softmax" and "softmax-bce" take the softmax of the
    logits first, as if a network that ends in one were given to the first two: the smallest value
    of the former is 1.461 for 10 classes, not 0.
    """

    def cross_entropy(logits: Tensor, labels: Tensor, each: str = "none") -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction=each)

    def target(logits: Tensor, labels: Tensor) -> Tensor:  # (B, K)
        k = logits.shape[1]
        return F.one_hot(labels, k).to(logits.dtype) * (1 - label_smoothing) + label_smoothing / k

    def bce(logits: Tensor, labels: Tensor) -> Tensor:
        each = F.binary_cross_entropy_with_logits(logits, target(logits, labels), reduction="none")
        return each.sum(1)

    def double_softmax(logits: Tensor, labels: Tensor, each: str = "none") -> Tensor:
        return cross_entropy(logits.softmax(1), labels, each)

    def softmax_bce(logits: Tensor, labels: Tensor) -> Tensor:
        p = logits.softmax(1)
        each = F.binary_cross_entropy(p, target(logits, labels), reduction="none")
        return each.sum(1)

    # each gives the losses (B,) of a batch
    losses: dict[str, Callable[..., Tensor]] = {"cross-entropy": cross_entropy, "bce": bce}
    losses |= {"double-softmax": double_softmax, "softmax-bce": softmax_bce}
    of_each = losses[name]
    if weights:
        scale = torch.tensor(weights)
        return lambda logits, labels: (
            of_each(logits, labels) * scale.to(logits.device)[labels]
        ).mean()
    if of_each in (cross_entropy, double_softmax):  # torch's own mean has bits of its own
        return partial(of_each, each="mean")
    return lambda logits, labels: of_each(logits, labels).mean()


def make_optimizer(
    model: nn.Module,
    name: str,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    decay_all: bool,
    lr_decay_below: float = 1.0,
    fused: bool = False,
) -> torch.optim.Optimizer:
    """The optimiser. Biases and normalisation (parameters of one dimension) do not decay unless
    `decay_all`. Each layer's rate is `lr_decay_below` times that of the layer above it; the share
    stands in its group as "lr_share". Muon makes the steps of all layers but the last
    orthogonal. `fused` goes through the weights once in each step, which rounds otherwise."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    share, below = {}, len(layers)
    for layer in model.modules():  # normalisation belongs to the layer before it
        below -= isinstance(layer, nn.Conv2d | nn.Linear)
        for parameter in layer.parameters(recurse=False):
            share[parameter] = lr_decay_below ** min(below, len(layers) - 1)
    turned = {one.weight for one in layers[:-1]} if name == "muon" else set()
    kinds: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        kind = (parameter.ndim > 1 or decay_all, share[parameter], parameter in turned)
        kinds.setdefault(kind, []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": weight_decay * decays, "lr_share": part}
        | ({"orthogonal": orthogonal} if name == "muon" else {})
        for (decays, part, orthogonal), parameters in sorted(
            kinds.items(), key=lambda item: -item[0][0]
        )
    ]
    if name == "muon":
        return without_compiler(Muon)(groups, momentum=momentum)
    if name == "sgd":
        sgd = without_compiler(torch.optim.SGD)
        return sgd(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=fused)
    adam = without_compiler(torch.optim.AdamW if name == "adamw" else torch.optim.Adam)
    return adam(groups, lr=lr, betas=(momentum, 0.999), fused=fused)


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, made orthogonal (Jordan et al., "Muon: an optimizer for hidden layers in
    neural networks", 2024): of a weight seen as a matrix (outputs, inputs) each step goes equally
    far in all directions that the momentum has, whatever their share in it. Groups that are not
    "orthogonal" take the step as it is. Decay is that of AdamW."""

    def __init__(self, groups: Any, *, momentum: float) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step."""
        moved = [
            (group, one)
            for group in self.param_groups
            for one in group["params"]
            if one.grad is not None
        ]
        for _, one in moved:
            if not self.state[one]:
                self.state[one]["velocity"] = torch.zeros_like(one)
        if all(one.is_cpu for _, one in moved):  # the largest first, so that none waits long
            moved.sort(key=lambda pair: -pair[1].numel())
            list(at_once(self._move, moved))
        else:
            list(map(self._move, moved))

    @torch.no_grad()
    def _move(self, what: tuple[dict[str, Any], Tensor]) -> None:
        """Moves one parameter of a group."""
        group, parameter = what
        lr, momentum, gradient = group["lr"], group["momentum"], parameter.grad
        assert gradient is not None  # noqa: S101  step has looked
        velocity = self.state[parameter]["velocity"].mul_(momentum).add_(gradient)
        direction = gradient.add(velocity, alpha=momentum)
        if group["orthogonal"]:
            matrix = direction.flatten(1)
            factor = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            direction = orthogonal(matrix).mul_(factor).view(direction.shape)
        parameter.mul_(1 - lr * group["weight_decay"]).sub_(lr * direction)


def orthogonal(matrix: Tensor) -> Tensor:
    """(R, C) with its singular values brought near 1: those of a fiftieth of its norm or more to
    between 0.68 and 1.21, by three steps of the iteration of Newton and Schulz with Jordan's
    coefficients. In bfloat16 where the processor has it."""
    fast = matrix.is_cuda or (matrix.is_cpu and cpu_has_bf16())
    x = matrix.to(torch.bfloat16 if fast else torch.float32)
    x = x / (x.norm() + 1e-7)
    wide = x.T if len(x) > x.shape[1] else x
    for _ in range(3):
        square = wide @ wide.T
        square = torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315)
        wide = torch.addmm(wide, square, wide, beta=3.4445)
    found: Tensor = (wide.T if len(x) > x.shape[1] else wide).to(matrix.dtype)
    return found


def without_compiler(kind: type[Kind]) -> type[Kind]:
    """The same optimiser, whose methods do not load torch's compiler in order to keep it away from
    them: 0.9 s of each training's start."""
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    plain["step"] = torch.no_grad()(plain["step"])  # was done by what has been unwrapped
    return type(kind.__name__, (kind,), plain)


def learning_rate(
    progress: float,
    scores: Sequence[float],
    *,
    lr: float,
    schedule: str,
    epochs: int,
    gamma: float,
    step_size: int,
    warmup: float,
) -> float:
    """The learning rate at one moment: a pure function, so that nothing needs to be stepped, saved
    or restored.

    Args:
        progress: epochs done so far, as a fraction: 2.5 is the middle of the third epoch.
        scores: validation accuracy after each finished epoch; only "plateau" looks at it.
        lr, schedule, epochs, gamma, step_size, warmup: as the recipe's fields.
    """
    finished = int(progress)
    if schedule == "one-cycle":  # a triangle: linearly up, linearly down to 0
        rise = warmup or epochs / 4
        return lr * min(progress / rise, max(0.0, (epochs - progress) / max(epochs - rise, 1e-9)))
    factor = min(1.0, progress / warmup) if warmup else 1.0
    if schedule == "exponential":
        factor *= gamma**finished
    elif schedule == "step":
        factor *= gamma ** (finished // step_size)
    elif schedule == "plateau":
        factor *= gamma ** plateau_drops(scores, step_size)
    elif schedule == "cosine":
        factor *= 0.5 * (
            1
            + math.cos(math.pi * min(1.0, max(0.0, progress - warmup) / max(epochs - warmup, 1e-9)))
        )
    return lr * factor


def plateau_drops(scores: Sequence[float], patience: int) -> int:
    """How often more than `patience` epochs in a row brought no score 0.01 % better than the best
    (torch's ReduceLROnPlateau with mode="max")."""
    best, bad, drops = -math.inf, 0, 0
    for score in scores:
        better = score > best * (1 + 1e-4) if best > -math.inf else True
        best, bad = (score, 0) if better else (best, bad + 1)
        if bad > patience:
            drops, bad = drops + 1, 0
    return drops
