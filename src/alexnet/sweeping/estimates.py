"""How long a sweep will take, from a short measurement of its steps, and what it can show."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from alexnet.console import in_words, say
from alexnet.data.store import Batch, Shard
from alexnet.fitting.linear import PENALTIES, steps_of_solving
from alexnet.fitting.threads import at_once
from alexnet.network.frozen import FrozenPart, missing_views
from alexnet.network.inference import EVALUATION_BATCH
from alexnet.recipes import ANY_SPEED, Recipe
from alexnet.scoring.significance import smallest_gap
from alexnet.sweeping.trials import Trial
from alexnet.training.run import Run
from alexnet.training.timing import evaluation_steps, median_seconds, over_and_over, training_steps
from alexnet.training.train import set_up

MEASURED_SECONDS = 1.0  # of each kind of step
SEED_DEVIATIONS = (0.004, 0.008)  # of accuracies, as networks of a few minutes have them
LOOKS = 75  # at all images for each penalty; 45 to 110 were counted on photographs and CIFAR-10
TRIED, CHOSEN = 4, 2  # penalties in cross-validation; those up to the one that is chosen
PROBED = 2000  # images on which a look is timed
PIXELS = 2**20  # of images that are looked at: of large ones few are enough to tell


@dataclass(frozen=True)
class Images:
    """How many images there are to train on, to choose the epoch on, and to evaluate at the end."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Speed:
    """Seconds that trials of one kind take."""

    once: float  # features that are not in the cache yet
    epoch: float  # with its validation; of a head that is solved, all of that
    finetune_epoch: float
    test: float  # the evaluation at the end
    layers: str  # digest of the frozen layers

    def training(self, recipe: Recipe) -> float:
        """Of one trial, features left out."""
        finetuning = recipe.finetune_epochs * self.finetune_epoch
        return (1 if recipe.solved else recipe.epochs) * self.epoch + finetuning + self.test


@dataclass(frozen=True)
class Estimate:
    """What a sweep will cost, and on how many images it chooses."""

    seconds: float
    images: int  # of validation; where that is swept, the fewest


def estimate(data: str, groups: Sequence[Sequence[Trial]]) -> Estimate:
    """What groups of trials (each group side by side) take one after the other. One group of each
    kind is measured."""
    speeds: dict[str, Speed] = {}
    total, features, images = 0.0, {}, []
    for group in groups:
        recipe = group[0].recipe
        fields = {n: v for n, v in recipe.to_dict().items() if n not in ANY_SPEED}
        kind = json.dumps([fields, len(group)], sort_keys=True)
        if kind not in speeds:
            run = set_up(data, recipe)
            images.append(len(run.validated))
            speeds[kind] = measure(run, len(group), seconds=MEASURED_SECONDS)
        speed = speeds[kind]
        features[speed.layers] = speed.once
        total += speed.training(recipe)
    return Estimate(total + sum(features.values()), min(images))


def measure(
    run: Run,
    models: int = 1,
    images: Images | None = None,
    folds: int | None = None,
    *,
    least: int = 3,
    seconds: float = 0.0,
) -> Speed:
    """The speed of trials like `run`, `models` of them side by side. Steps on its images are timed;
    on cached features, steps on random numbers of their shape.

    Args:
        images, folds: how many there would be; None: those of the run.
        least: steps of each kind.
        seconds: they take at least.
    """
    recipe, inputs = run.recipe, run.inputs
    its = inputs.splits
    count = images or Images(len(its.train), len(its.val), len(its.test))
    last = recipe.views * (count.test or count.val)  # looks of the evaluation at the end
    timed = partial(median_seconds, least=least, seconds=seconds)

    def epoch(model: nn.Module, batches: Iterator[Batch], x: Tensor) -> tuple[float, float]:
        """Of training `model` and of looking at one image, x (B, ...)."""
        look = timed(evaluation_steps(model, x, inputs.dtype)) / len(x)
        step = timed(training_steps(recipe, model, batches, inputs.dtype, models))
        return -(-count.train // recipe.batch_size) * step + count.val * look, look

    pixels = torch.randn(min(EVALUATION_BATCH, PIXELS // recipe.crop**2), 3, *2 * [recipe.crop])
    x = pixels.to(inputs.device, memory_format=torch.channels_last)
    whole = look = 0.0
    if recipe.freeze == "none" or recipe.finetune_epochs:
        batches = over_and_over(inputs.training_batches("none"))
        whole, look = epoch(run.trained_part("none"), batches, x)
    if recipe.freeze == "none":
        return Speed(0.0, whole, 0.0, last * look, "")
    body, head = run.model.split(recipe.freeze)
    frozen = FrozenPart(body, inputs.device, inputs.dtype)
    share = timed(frozen_steps(frozen, x)) / len(x)  # of one image
    features = torch.randn(recipe.batch_size, frozen.features_of(recipe.crop)).to(inputs.device)
    labels = torch.randint(len(inputs.store.classes), (len(features),)).to(inputs.device)
    if not recipe.cache:
        batches = over_and_over(inputs.training_batches(recipe.freeze))
        trained, of_head = epoch(head, batches, features)
        return Speed(0.0, trained + count.val * share, whole, last * (look or of_head + share), "")
    trained, of_head = epoch(
        head, itertools.repeat(Batch([Shard.whole(features, labels)])), features
    )
    if recipe.solved:
        made = recipe.folds if folds is None else folds
        examples = count.train, features.shape[1], len(inputs.store.classes)
        trained = solving(*examples, made, recipe.views, timed)
    rows = np.sort(np.concatenate([its.train, its.val, its.test]))
    _, missing = missing_views(frozen, inputs.store, rows, inputs.cached_views())
    once = len(missing) * (count.train + count.val + count.test) * share
    return Speed(once, trained, whole, last * (look or of_head), frozen.digest)


def solving(
    images: int,
    features: int,
    classes: int,
    folds: int,
    views: int,
    timed: Callable[[Iterator[float]], float],
) -> float:
    """Seconds that a head takes to be solved, about, by the time of one look at all images;
    `folds` is 0 where a validation split chooses, and only one view is learned from."""
    threads = torch.get_num_threads()
    rows = round(images * views * (folds - 1) / folds) if folds else images
    probe = min(rows, PROBED)
    numbers = rows if rows < features / 2 else features
    # as many at once as folds will be, which get in each other's way
    steps = [steps_of_solving(probe, numbers, classes) for _ in range(min(threads, folds or 1))]
    look = max(at_once(timed, steps)) * LOOKS * rows / probe  # for one penalty
    if not folds:
        return len(PENALTIES["logistic"]) * look / threads
    return (TRIED * -(-folds // threads) + CHOSEN / threads) * look


def frozen_steps(frozen: FrozenPart, x: Tensor) -> Iterator[Tensor]:
    """Passes through frozen layers."""
    while True:
        yield frozen(x).cpu()


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
    kind = "cross-validated" if groups[0][0].recipe.folds else "validation"
    for line in what_it_can_show(len(settings), count // len(settings), found.images, kind):
        say(line)


def what_it_can_show(
    settings: int, seeds: int, images: int, kind: str = "validation"
) -> Iterator[str]:
    """Which gap so many settings, seeds and images of a kind can tell from noise."""
    if settings == 1:
        return
    on = f"{settings} settings and {images:,} {kind} images"
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
