"""The learning-rate finder: train a copy for a few steps with a rate that grows, and look at where
the loss falls. After Smith, "Cyclical learning rates for training neural networks" (2017)."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from alexnet.atomic import replacing
from alexnet.console import progress
from alexnet.data.store import Batch, Batches
from alexnet.errors import TrainingError
from alexnet.fitting.optimization import Loss
from alexnet.fitting.step import training_step

STEPS = 120
LOWEST, HIGHEST = 1e-6, 10.0
SMOOTHING = 0.9  # of the running mean of the loss


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, why it, and the curve it was read from."""

    lr: float
    reason: str
    rates: list[float]
    losses: list[float]  # smoothed


def find_lr(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Batches,
    *,
    loss: Loss,
    dtype: torch.dtype,
    clip: float,
    seed: int,
) -> Suggestion:
    """Trains a copy of `model` for up to STEPS steps with a rate from LOWEST to HIGHEST, and
    suggests one. Neither model nor optimiser is changed.

    Raises:
        TrainingError: the loss falls at no rate.
    """
    model, optimizer = copy.deepcopy((model, optimizer))
    model.train()
    rates = [LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)) for step in range(STEPS)]
    losses: list[float] = []
    mean = 0.0
    with progress("looking for a learning rate", STEPS) as advance:
        for step, (rate, batch) in enumerate(zip(rates, endless(train), strict=False)):
            key = (seed, 0, step)
            value, _ = training_step(
                model, optimizer, batch, lr=rate, loss=loss, dtype=dtype, clip=clip, key=key
            )
            mean = SMOOTHING * mean + (1 - SMOOTHING) * float(value)
            losses.append(mean / (1 - SMOOTHING ** (step + 1)))
            advance(1)
            if not math.isfinite(losses[-1]) or losses[-1] > 2 * min(losses) + 1:
                break
    losses = [one for one in losses if math.isfinite(one)]
    return suggest(rates[: len(losses)], losses)


def endless(train: Batches) -> Iterator[Batch]:
    """Epoch after epoch."""
    epoch = 0
    while True:
        yield from train.shards(epoch)
        epoch += 1


def suggest(rates: list[float], losses: list[float]) -> Suggestion:
    """Reads a rate off the curve: half way, in powers of ten, from the rate at which the loss falls
    fastest to a tenth of the one at which it is lowest. The first alone is careful, since the loss
    still falls behind it; the second alone is bold where nothing explodes."""
    lowest = min(range(len(losses)), key=losses.__getitem__)
    if losses[lowest] > 0.99 * losses[0]:
        raise TrainingError(
            f"no learning rate from {LOWEST:g} to {HIGHEST:g} lowers the loss "
            f"({losses[0]:.3f} at first, {losses[lowest]:.3f} at best).",
            "Check --mean and --std and the labels, or choose --lr yourself.",
        )
    reach = max(1, len(losses) // 12)  # steps over which a slope is measured
    falls = [losses[i - reach] - losses[i] for i in range(reach, lowest + 1)] or [0.0]
    steepest = rates[max(range(len(falls)), key=falls.__getitem__) + reach // 2]
    lr = float(f"{math.sqrt(steepest * rates[lowest] / 10):.1g}")
    reason = (
        f"the loss falls fastest at a rate of {steepest:.2g} and is lowest at {rates[lowest]:.2g}; "
        "this is half way from the first to a tenth of the second"
    )
    return Suggestion(lr, reason, rates, losses)


def draw_suggestion(path: Path, found: Suggestion) -> None:
    """Writes the curve as an .svg file."""
    import matplotlib as mpl  # half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color="#1f6f8b")
    axes.axvline(found.lr, color="#c8553d", linestyle="--", label=f"suggested: {found.lr:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (running mean)")
    first = found.losses[0]
    axes.set_ylim(min(found.losses) - 0.05 * first, first * 1.3)
    axes.legend()
    # equal runs draw equal bytes: no date, no random names
    with mpl.rc_context({"svg.hashsalt": "lr"}), replacing(path) as aside:
        figure.savefig(aside, format="svg", metadata={"Date": None})
