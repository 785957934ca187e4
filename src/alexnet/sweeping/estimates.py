"""How long a sweep will take, from a short measurement of its steps, and what it can show."""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from alexnet.console import in_words, say
from alexnet.data.store import Batch, Shard
from alexnet.fitting.step import training_step
from alexnet.network.frozen import FrozenPart, missing_views
from alexnet.network.inference import EVALUATION_BATCH, forward
from alexnet.recipes import ANY_SPEED
from alexnet.scoring.significance import smallest_gap
from alexnet.sweeping.trials import Trial
from alexnet.training.from_recipe import loss_of, optimizer_of, stack_of
from alexnet.training.run import Run
from alexnet.training.train import set_up

MEASURED_SECONDS = 1.0  # of each kind of step
SEED_DEVIATIONS = (0.004, 0.008)  # of accuracies, as networks of a few minutes have them
TINY = 1e-6  # a learning rate that moves nothing far


@dataclass(frozen=True)
class Speed:
    """Seconds that trials of one kind take."""

    once: float  # features that are not in the cache yet
    epoch: float
    finetune_epoch: float
    layers: str  # digest of the frozen layers


@dataclass(frozen=True)
class Estimate:
    """What a sweep will cost, and on how many images it chooses."""

    seconds: float
    images: int  # of validation; where that is swept, the fewest


def estimate(data: str, groups: Sequence[Sequence[Trial]]) -> Estimate:
    """What groups of trials (each group side by side) take one after the other. One group
    of each kind is measured, on random numbers of the right shape; what reading the data costs is
    not in it."""
    speeds: dict[str, Speed] = {}
    total, features, images = 0.0, {}, []
    for group in groups:
        recipe = group[0].recipe
        fields = {n: v for n, v in recipe.to_dict().items() if n not in ANY_SPEED}
        kind = json.dumps([fields, len(group)], sort_keys=True)
        if kind not in speeds:
            run = set_up(data, recipe)
            images.append(len(run.inputs.splits.val))
            speeds[kind] = measure(run, len(group))
        speed = speeds[kind]
        features[speed.layers] = speed.once
        total += recipe.epochs * speed.epoch + recipe.finetune_epochs * speed.finetune_epoch
    return Estimate(total + sum(features.values()), min(images))


def measure(run: Run, models: int) -> Speed:
    """The speed of trials like `run`, `models` of them side by side."""
    recipe, splits = run.recipe, run.inputs.splits
    train = -(-len(splits.train) // recipe.batch_size)
    val = -(-len(splits.val) // EVALUATION_BATCH)

    def images(count: int) -> Tensor:
        x = torch.randn(count, 3, recipe.crop, recipe.crop, device=run.inputs.device)
        return x.contiguous(memory_format=torch.channels_last)

    def epoch(model: nn.Module, x: Callable[[int], Tensor]) -> float:
        return train * median_seconds(training_steps(run, model, x(recipe.batch_size), models)) + (
            val * median_seconds(evaluation_steps(run, model, x(EVALUATION_BATCH)))
        )

    if recipe.freeze == "none":
        return Speed(0.0, epoch(run.trained_part("none"), images), 0.0, "")
    later = epoch(run.model, images) if recipe.finetune_epochs else 0.0
    body, head = run.model.split(recipe.freeze)
    frozen = FrozenPart(body, run.inputs.device, run.inputs.dtype)
    width = frozen.features_of(recipe.crop)

    def features(count: int) -> Tensor:
        return torch.randn(count, width, device=run.inputs.device)

    share = median_seconds(frozen_steps(frozen, images(64))) / 64  # of one image
    if not recipe.cache:
        n = len(splits.train) + len(splits.val)
        return Speed(0.0, epoch(head, features) + n * share, later, "")
    rows = np.sort(np.concatenate([splits.train, splits.val, splits.test]))
    _, missing = missing_views(frozen, run.inputs.store, rows, run.inputs.cached_views())
    once = len(missing) * len(rows) * share
    return Speed(once, epoch(head, features), later, frozen.digest)


def median_seconds(steps: Iterator[None]) -> float:
    """The median time of a step, the first one left out."""
    next(steps)
    times: list[float] = []
    while len(times) < 3 or sum(times) < MEASURED_SECONDS:
        start = time.perf_counter()
        next(steps)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def training_steps(run: Run, model: nn.Module, x: Tensor, models: int) -> Iterator[None]:
    """Steps of the training of `model`, or of a stack of that many."""
    recipe = run.recipe
    y = torch.randint(len(run.inputs.store.classes), (len(x),), device=x.device)
    batch = Batch([Shard.whole(x, y)])
    optimizer: torch.optim.Optimizer
    if models > 1 and isinstance(model, nn.Sequential):
        model, optimizer = stack_of([recipe] * models, model, x.device)
    else:
        optimizer = optimizer_of(recipe, model, TINY)
    for step in itertools.count():
        training_step(
            model,
            optimizer,
            batch,
            lr=torch.full((models,), TINY) if models > 1 else TINY,
            loss=loss_of(recipe),
            dtype=run.inputs.dtype,
            clip=recipe.clip,
            key=(recipe.seed, 0, step),
        )
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)
        yield


def evaluation_steps(run: Run, model: nn.Module, x: Tensor) -> Iterator[None]:
    """Forward passes, read as validation reads them."""
    while True:
        forward(model, x, run.inputs.dtype).cpu()
        yield


def frozen_steps(frozen: FrozenPart, x: Tensor) -> Iterator[None]:
    """Passes through frozen layers."""
    while True:
        frozen(x).cpu()
        yield


def say_what_is_planned(data: str, groups: Sequence[Sequence[Trial]], jobs: int) -> None:
    """How the trials run, about how long, and what they can show."""
    count, alone = sum(map(len, groups)), sum(len(group) == 1 for group in groups)
    found = estimate(data, groups)
    side = f"{count - alone} of them train side by side, " if count > alone else ""
    say(
        f"{count} trials in {len(groups)} trainings: {side}about {in_words(found.seconds)} one "
        "after the other on this machine, measured on a few steps of each kind"
        + (f"; --jobs {jobs} was not taken into account" if jobs > 1 else "")
    )
    settings = {trial.recipe.replace(seed=0).digest for group in groups for trial in group}
    for line in what_it_can_show(len(settings), count // len(settings), found.images):
        say(line)


def what_it_can_show(settings: int, seeds: int, images: int) -> Iterator[str]:
    """Which gap so many settings, seeds and validation images can tell from noise."""
    if settings == 1:
        return
    on = f"{settings} settings and {images:,} validation images"
    if seeds == 1:
        gap = smallest_gap(settings, 1, images, 0.0)
        yield (
            f"what it can show: with one seed, {on}, a gap of {100 * gap:.1f} points to the best "
            "is found about 4 times in 5, on these images; another training may differ by more"
        )
    repeated = 3 if seeds == 1 else seeds
    told = " or ".join(
        f"{100 * smallest_gap(settings, repeated, images, deviation):.1f} points where seeds "
        f"move the accuracy by {100 * deviation:.1f}"
        for deviation in SEED_DEVIATIONS
    )
    begin = "--seeds 3 would show" if seeds == 1 else f"what it can show: with {seeds} seeds, {on},"
    yield f"{begin} a gap of {told} (about 4 times in 5)"
