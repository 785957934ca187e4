"""What is said before a training begins: the data, the network, and what to expect of them."""

from pathlib import Path

import numpy as np

from alexnet.console import fitted
from alexnet.data import shortcuts
from alexnet.data.changes import told
from alexnet.data.splits import Splits
from alexnet.data.store import Store
from alexnet.network.description import Architecture
from alexnet.network.model import parameter_count
from alexnet.recipes import Recipe
from alexnet.runs.own_data import label_changes
from alexnet.runtime import memory_limit
from alexnet.scoring.metrics import wilson_interval
from alexnet.training.run import Run

FEW = 5  # images of a class


def introduction(run: Run, fresh: list[str]) -> list[str]:
    """What is about to happen; `fresh` are the layers that start fresh although there are
    weights."""
    resolution, store, splits = run.inputs.resolution, run.inputs.store, run.inputs.splits
    recipe, around = resolution.recipe, run.surroundings
    lines = [
        f"{Path(store.info['source']).name}: {len(splits.train):,} training, "
        + (f"{len(splits.val):,} validation, " if len(splits.val) else "")
        + f"{len(splits.test):,} test images, {len(store.classes)} classes",
        *([splits.note] if splits.note else []),
        *(told(**one) for one in label_changes(store, splits.test).values()),
        fitted(
            f"{recipe.model} network, {parameter_count(run.model):,} parameters, {recipe.crop} px",
            f"{around['device']}, {around['threads']} threads, {around['precision']}",
            f"({resolution.why_dtype})",
        ),
        *repeated_maps(resolution.architecture, recipe.crop),
        *few_images(store, splits),
        *filter(None, [shortcuts.in_words(store.info, len(store))]),
        *beyond_memory(store, recipe),
    ]
    if resolution.teacher:
        lines.append(
            f"teacher {recipe.teacher}: the {resolution.teacher.architecture.name} network, at "
            f"{recipe.teacher_size} px; its part of the loss weighs {recipe.teacher_weight:g}"
        )
    if resolution.weights is None:
        return lines
    taken = f"{', '.join(fresh)} start fresh, all others are taken" if fresh else "all taken"
    lines.append(f"weights {recipe.weights}: {taken}")
    if recipe.freeze == "all-but-last" and fresh[:-1]:
        lines.append(
            f"of these, {', '.join(fresh[:-1])} are frozen too, with random weights: the head "
            "sees what an untrained layer gives"
        )
    how, made_for = resolution.preprocessing, resolution.weights.preprocessing
    if (how.mean, how.std) != (made_for.mean, made_for.std):
        lines.append(
            f"these weights were made for a mean of {shortly(made_for.mean)} and deviations "
            f"of {shortly(made_for.std)}; the recipe prepares images with {shortly(how.mean)} "
            f"and {shortly(how.std)}"
        )
    return lines


def repeated_maps(network: Architecture, crop: int) -> list[str]:
    """That the fully connected layers see the same values several times, where they do."""
    found, wanted = network.feature_side(crop), network.map_side
    if found >= wanted:
        return []
    return [
        f"of images of {crop} px the last maps are {found}x{found}, and are repeated to the "
        f"{wanted}x{wanted} of the fully connected layers: --map-side {found} does without, images "
        f"of {network.fitting_input} px fill them"
    ]


def beyond_memory(store: Store, recipe: Recipe) -> list[str]:
    """That data which does not stay in memory is better read in long pieces."""
    size, memory = store.x.nbytes, memory_limit()
    if recipe.shuffle_window or not 0 < memory < size:
        return []
    fitting = max(1, len(store) * memory // size // 8)
    return [
        f"the packed images take {size / 1e9:,.1f} GB, more than the {memory / 1e9:,.1f} GB of "
        f"memory: each epoch reads them from the disk, image by image; where it is slow at that, "
        f"--shuffle-window {fitting} reads them in long pieces"
    ]


def few_images(store: Store, splits: Splits) -> list[str]:
    """What so few images of a class are good for; nothing where there are FEW of each, or more."""
    parts = np.array(
        [
            np.bincount(store.y[one], minlength=len(store.classes))
            for one in (splits.train, splits.val, splits.test)
        ]
    )  # (3, K)
    label = int(parts.sum(0).argmin())
    train, val, test = parts[:, label].tolist()
    if train + val + test >= FEW:
        return []
    n = len(splits.test) or len(splits.val) or len(splits.train)
    validation = f"{val} for validation, " if len(splits.val) else ""
    low, high = wilson_interval(n // 2, n)
    return [
        f"the smallest class, {store.names[label]}, has {train + val + test} images: {train} to "
        f"train on, {validation}{test} for the test. That is enough to try things "
        f"out; of {n} images the accuracy will be known to within {(high - low) / 2:.0%} only. "
        f"{FEW} images of each class are a beginning, 20 and more are worth their while"
    ]


def shortly(numbers: tuple[float, ...]) -> str:
    """Numbers with three digits."""
    return ", ".join(f"{one:.3g}" for one in numbers)
