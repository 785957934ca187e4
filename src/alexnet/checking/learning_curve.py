"""`learning-curve`: what a run would gain from more images, told from its frozen features: heads on
parts of the images, each looked at on images that it was not trained on.

Shapes: N images outside the test split, D features, K classes, S sizes of parts.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from alexnet.checking.label_errors import MOST_FEATURES, projected
from alexnet.console import progress
from alexnet.data.splits import dealt, kept_together
from alexnet.data.store import Store
from alexnet.errors import DataError, DiskError, RunError
from alexnet.fitting.threads import at_once
from alexnet.network.frozen import FrozenPart, evaluation_view, feature_stores
from alexnet.network.model import AlexNet
from alexnet.network.weights import carry_over
from alexnet.recipes import Recipe
from alexnet.runs.directory import RunDirectory
from alexnet.runs.own_data import own_data
from alexnet.runs.resolution import starting_weights
from alexnet.runtime import as_found, choose_device, choose_precision
from alexnet.scoring.learning_curve import forecast
from alexnet.values import checked_arguments
from alexnet.words import shown

PARTS = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the images that are not held out
FOLDS, REPEATS = 5, 3
PENALTIES = (0.1, 1.0, 10.0)  # of ridge regression, relative to the variance of a feature
FEWEST = FOLDS  # images of each class outside the test split, of which each fold has one
MANY = 1000  # images from which on once is enough
FEWEST_OF_CLASS = 10  # from which on something is said of a class alone

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@checked_arguments
@as_found()
def learning_curve(run: str | Path, *, device: str = "auto") -> dict[str, Any]:
    """What a run would gain from twice as many images, in all and of each class: from heads that
    are trained on parts of its training and validation images, as its frozen layers see them. Kept
    in the run directory, for its report.

    Args:
        run: a run that began with weights, such as the backbone, whose data is still there.
        device: as the recipe's field.

    Returns:
        `images` (how many it was trained on), `sizes` and `accuracy` of the heads, `all` and
        `classes` (by name): `now`, `twice` and `gain` as shares from 0 to 1, each with the band in
        which the truth lies in 9 of 10 cases, `now_band` and so on; `images` of a class, which has
        nothing else where they are too few. `finetuned`: the run went on to train all its layers.

    Raises:
        RunError: it began without weights. DataError: its data is gone, has changed, or is too
            little; says how much it takes.
    """
    directory = RunDirectory(run)
    trained, settings = directory.load(), directory.settings
    recipe = settings.recipe
    if recipe.weights == "none":
        raise RunError(
            f"{run} began without weights: whatever it knows it has from these images, so heads on "
            "its features say nothing about others.",
            "Ask a run that began with some: alexnet train DATA --weights backbone",
        )
    own = own_data(settings, trained.preprocessing)
    splits, rows = own.splits, np.concatenate([own.splits.train, own.splits.val])
    labels = own.store.y[rows]
    require_enough(labels, trained.names)
    where = choose_device(device)
    frozen = FrozenPart(
        frozen_layers(recipe, own.store), where, choose_precision(recipe.precision, where)[0]
    )
    every = np.sort(np.concatenate([rows, splits.test]))  # as the run has them in the cache
    how = trained.preprocessing
    found = feature_stores(frozen, own.store, every, [evaluation_view(how)], how.crop)
    x, together = found.stores[0].x[found.place(rows)], kept_together(own.store, rows)
    right, sizes = right_by_size(x, labels, together, len(trained.classes))
    counts = np.bincount(own.store.y[splits.train], minlength=len(trained.classes))
    told: dict[str, Any] = {
        "images": len(splits.train),
        "finetuned": recipe.freeze == "none" or recipe.finetune_epochs > 0,
        "sizes": sizes.tolist(),
        "accuracy": right.mean(1).tolist(),
        "all": dataclasses.asdict(forecast(right, sizes, len(splits.train))),
        "classes": {
            name: of_class(right[:, labels == label], sizes / len(labels), int(counts[label]))
            for label, name in enumerate(trained.names)
        },
    }
    with contextlib.suppress(DiskError):  # it was lent to be read
        directory.write_learning_curve(told)
    return told


def of_class(right: Floats, shares: Floats, images: int) -> dict[str, Any]:
    """The forecast of a class from its images (S, N), with parts of these `shares`."""
    if right.shape[1] < FEWEST_OF_CLASS:
        return {"images": images}
    found = forecast(right, shares * right.shape[1], images)
    return {"images": images, **dataclasses.asdict(found)}


def require_enough(labels: Labels, names: Sequence[str]) -> None:
    """DataError unless each class has the images that it takes."""
    counts = np.bincount(labels, minlength=len(names))
    least = int(counts.argmin())
    if counts[least] < FEWEST:
        raise DataError(
            f"a learning curve takes {FEWEST} images of each class outside the test split, and "
            f"{shown(names[least])} has {counts[least]}.",
            f"Add {FEWEST - counts[least]} at least; 20 of each class and more say something.",
        )


def frozen_layers(recipe: Recipe, store: Store) -> nn.Sequential:
    """The part of the network that a run with this recipe began with and did not train, at first;
    the convolutions, where it trained everything."""
    weights = starting_weights(recipe.weights)
    model = AlexNet(weights.architecture, len(store.classes))
    carry_over(model, weights, store.classes)
    body, _ = model.split("conv" if recipe.freeze == "none" else recipe.freeze)
    return body


def right_by_size(
    x: NDArray[np.floating], labels: Labels, groups: Labels | None, classes: int
) -> tuple[Floats, Floats]:
    """How often each image was right, (S, N) from 0 to 1, with ridge regressions on so many others,
    (S,) on average: of every class the same share, and none of its group. Of the penalties the one
    that is best for each size."""
    z, targets = compact(x), torch.eye(classes, dtype=torch.float64)[labels]
    right, sizes = np.zeros((len(PARTS), len(PENALTIES), len(z))), np.zeros(len(PARTS))
    groups = np.arange(len(z)) if groups is None else groups
    draws = [drawn(labels, groups, seed) for seed in range(REPEATS if len(z) < MANY else 1)]
    every = [(fold == held, order) for fold, order in draws for held in range(FOLDS)]

    def look(one: tuple[NDArray[np.bool_], Labels]) -> tuple[NDArray[np.bool_], list[int]]:
        held, order = one
        parts = parts_of(labels, order[~held[order]])
        scores = np.stack(list(ridge_regressions(z, targets, parts, held)))
        return scores.argmax(3) == labels[held], [len(part) for part in parts]

    with progress("learning curve", len(every)) as advance:
        for (held, _), (seen, counts) in zip(every, at_once(look, every), strict=True):
            right[:, :, held] += seen / len(draws)
            sizes += np.cumsum(counts) / len(every)
            advance(1)
    best = right.mean(2).argmax(1)
    return right[np.arange(len(PARTS)), best], sizes


def compact(x: NDArray[np.floating]) -> Tensor:
    """(N, D') float64 that are as far from each other as (N, D) standardised features: of few
    images exactly, with as many numbers as images; of many nearly."""
    if len(x) > MOST_FEATURES:
        return torch.from_numpy(projected(x)[:, 1:])
    z = torch.from_numpy(StandardScaler().fit_transform(x.astype(np.float64)))
    values, vectors = torch.linalg.eigh(z @ z.T)
    found: Tensor = vectors * values.clamp(min=0).sqrt()
    return found


def drawn(labels: Labels, groups: Labels, seed: int) -> tuple[Labels, Labels]:
    """(N,) the fold of each image, and an order of chance in which those of a group follow each
    other."""
    generator = np.random.default_rng(seed)
    fold = dealt(labels, groups, generator.permutation(len(labels)), FOLDS)
    chance = generator.permutation(len(labels))
    return fold, np.lexsort((chance, generator.permutation(groups.max() + 1)[groups]))


def parts_of(labels: Labels, order: Labels) -> list[Labels]:
    """Images in an order -> what comes with each of PARTS: of every class the same share, and one
    at least in the first."""
    part = np.empty(len(order), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels[order] == label)
        part[members] = np.searchsorted(PARTS, np.arange(len(members)) / len(members), "right")
    return [order[part == number] for number in range(len(PARTS))]


def ridge_regressions(
    z: Tensor, targets: Tensor, parts: Sequence[Labels], held: NDArray[np.bool_]
) -> Iterator[Floats]:
    """Scores (PENALTIES, H, K) of the images that are `held` out, after each of the parts."""
    gram, product, sums, totals = (z.new_zeros(1) for _ in range(4))
    count = 0
    for part in parts:
        x, y = z[part], targets[part]
        gram, product, count = gram + x.T @ x, product + x.T @ y, count + len(part)
        sums, totals = sums + x.sum(0), totals + y.sum(0)
        mean = totals / count
        penalties = z.new_tensor(PENALTIES)[:, None, None] * count * torch.eye(len(gram))
        factor = torch.linalg.cholesky(gram + penalties)
        weights = torch.cholesky_solve(product - torch.outer(sums, mean), factor)
        yield (z[held] @ weights + mean).numpy()
