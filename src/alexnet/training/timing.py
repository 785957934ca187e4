"""Steps that are only timed, to say how long a training will take."""

import itertools
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from alexnet.data.store import Batch, Batches
from alexnet.fitting.step import training_step
from alexnet.network.inference import forward
from alexnet.recipes import Recipe
from alexnet.training.from_recipe import loss_of, optimizer_of, stack_of

TINY = 1e-6  # a learning rate that moves nothing far


def median_seconds(steps: Iterator[object], least: int = 3, seconds: float = 0.0) -> float:
    """The median time of a step, the first one left out: of `least` steps, and of more until they
    have taken so many seconds."""
    next(steps)
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        start = time.perf_counter()
        next(steps)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def over_and_over(batches: Batches) -> Iterator[Batch]:
    """One epoch after the other."""
    return itertools.chain.from_iterable(map(batches.shards, itertools.count()))


def training_steps(
    recipe: Recipe, model: nn.Module, batches: Iterator[Batch], dtype: torch.dtype, models: int = 1
) -> Iterator[Tensor]:
    """Losses of steps of the training of `model`, or of a stack of that many; nothing is waited for
    any more when a step is over."""
    device = next(model.parameters()).device
    if models > 1 and isinstance(model, nn.Sequential):
        model, optimizer = stack_of([recipe] * models, model, device)
    else:
        optimizer = optimizer_of(recipe, model, TINY)
    model.train()
    for step, batch in enumerate(batches):
        losses, _ = training_step(
            model,
            optimizer,
            batch,
            lr=[TINY] * models if models > 1 else TINY,
            loss=loss_of(recipe),
            dtype=dtype,
            clip=recipe.clip,
            key=(recipe.seed, 0, step),
        )
        yield losses.cpu()


def evaluation_steps(model: nn.Module, x: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """Logits of forward passes, read as validation reads them."""
    model.eval()
    while True:
        yield forward(model, x, dtype).cpu()
