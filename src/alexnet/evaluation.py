"""How good is it: logits -> top-1, top-5, per class, confusion, likelihood, calibration,
interval."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from alexnet import augment
from alexnet.checkpoint import Preprocessing, load_model
from alexnet.console import console, progress, say
from alexnet.datasets import make_splits, open_data
from alexnet.errors import DataError
from alexnet.metrics import Labels, metrics
from alexnet.rundir import run_settings, save_predictions
from alexnet.runtime import arithmetic, choose_device, choose_precision
from alexnet.store import Batches, Store

EVALUATION_BATCH = 256


def predict_logits(
    model: nn.Module, views: Sequence[Batches], dtype: torch.dtype, what: str
) -> tuple[Tensor, Tensor]:
    """Runs a model in evaluation mode over batches of each view of the same examples: logits (N, K)
    float32, averaged over the views, and labels (N,) int64, both on the CPU.

    Progress is shown under the name `what`. The model's mode is as before afterwards.
    """
    was_training = model.training
    model.eval()
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    with progress(what, sum(map(len, views))) as advance:
        for batches in views:
            per_batch = []
            labels = []
            for x, y in batches.epoch():
                per_batch.append(forward(model, x, dtype))
                labels.append(y)
                advance(1)
            logits.append(torch.cat(per_batch).cpu())
    model.train(was_training)
    return average_views(logits), torch.cat(labels).cpu()


@torch.inference_mode()
def forward(model: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Logits (B, K) float32."""
    with arithmetic(x.device, dtype):
        return cast(Tensor, model(x)).float()


def average_views(logits: Sequence[Tensor]) -> Tensor:
    """Of one view its logits (..., K); of several the logarithm of their averaged probabilities, as
    the 2012 paper averages its views."""
    if len(logits) == 1:
        return logits[0]
    return torch.logsumexp(F.log_softmax(torch.stack(list(logits)), -1), 0) - math.log(len(logits))


def show(figures: Mapping[str, Any], note: str = "") -> None:
    """Prints the figures for people: the headline, the accuracy per class, the pairs most often
    confused."""
    low, high = figures["top1_interval"]
    say(
        f"{figures['split']} split, {figures['n']:,} images: top-1 {figures['top1']:.2%} (95 % "
        f"interval {low:.2%} to {high:.2%}), "
        f"top-5 {figures['top5']:.2%}, NLL {figures['nll']:.3f}, ECE {figures['ece']:.3f}; "
        f"always guessing the commonest class gives {figures['chance']:.2%}"
    )
    if note:
        say(note)
    ranked = sorted(figures["per_class"].items(), key=lambda item: item[1]["top1"])
    shown = ranked if len(ranked) <= 20 else ranked[:8] + ranked[-4:]
    table = Table(
        "class",
        "images",
        "top-1",
        title="accuracy per class" + ("" if len(ranked) <= 20 else ": worst and best"),
    )
    table.columns[1].justify = table.columns[2].justify = "right"
    for name, one in shown:
        table.add_row(escape(name), f"{one['n']:,}", f"{one['top1']:.1%}")
    console.print(table)
    errors = np.array(figures["confusion"])
    np.fill_diagonal(errors, 0)
    worst = sorted(
        ((int(errors[a, b]), int(a), int(b)) for a, b in np.argwhere(errors)), reverse=True
    )[:3]
    if worst:
        names = figures["names"]
        told = "; ".join(f"{names[a]} taken for {names[b]} {count}x" for count, a, b in worst)
        say(f"most often confused: {told}")


def evaluation_transforms(how: Preprocessing) -> list[augment.Transform]:
    """What happens to stored images before a network sees them, wherever nothing is random; one
    transform per view."""
    return augment.evaluation_views(**dataclasses.asdict(how))


def evaluation_views(
    store: Store, indices: Labels, how: Preprocessing, device: torch.device
) -> list[Batches]:
    """Batches of a Store as a network sees them, in order; one sequence per view."""
    return [
        Batches(store, indices, batch_size=EVALUATION_BATCH, transform=transform, device=device)
        for transform in evaluation_transforms(how)
    ]


def evaluate_run(
    run: str | Path,
    data: str = "",
    *,
    split: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    bad_images: str = "error",
    save: str = "",
) -> dict[str, Any]:
    """Evaluates a run on a split of its own data, or on other data whose classes have the same
    names.

    Args:
        run: a run directory.
        data: as `datasets.open_data`; empty for the data of the run.
        split: "train", "val", "test", "all" (every labelled image), or "auto": the test split if
            there is one.
        device, precision, bad_images: as the recipe's fields.
        save: also write the logits to this .npz file.

    Returns:
        The figures of `metrics`.

    Raises:
        RunError: not a finished run. DataError: the classes do not match, or there is no such
            split.
    """
    path = Path(run)
    trained = load_model(path)
    settings = run_settings(path)
    store = open_data(
        data or settings.data,
        image_size=trained.preprocessing.image_size,
        greyscale=settings.recipe["greyscale"],
        bad_images=bad_images,
    )
    indices, split = choose_split(
        store, split, settings.recipe, own=store.fingerprint == settings.fingerprint
    )
    unknown = [name for name in store.classes if name not in trained.classes]
    if unknown:
        raise DataError(
            f"the run does not know {len(unknown)} of the {len(store.classes)} classes of {data}: "
            f"{', '.join(unknown[:10])}. "
            "It knows: "
            f"{', '.join(trained.classes[:10])}{', ...' if len(trained.classes) > 10 else ''}.",
            "Classes are matched by name: rename the class folders, or leave those out.",
        )
    where = choose_device(device)
    dtype, _ = choose_precision(precision, where)
    model = trained.model.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = evaluation_views(store, indices, trained.preprocessing, where)
    logits, labels = predict_logits(model, views, dtype, f"evaluating the {split} split")
    own_label = np.array([trained.classes.index(name) for name in store.classes])
    matched = own_label[labels.numpy()]
    if save:
        save_predictions(
            Path(save), logits.numpy(), matched, [store.ids[i] for i in indices], trained.classes
        )
    return metrics(logits.numpy(), matched, trained.names, split)


def choose_split(
    store: Store, split: str, fields: Mapping[str, Any], own: bool
) -> tuple[Labels, str]:
    """Indices and name of the split to evaluate; for a run's own data its splits are drawn again,
    the same.

    Raises:
        DataError: there is no such split.
    """
    if split == "all":
        return np.arange(len(store)), "all"
    if own and (split != "test" or not len(store.split("test"))):
        keys = ("val_size", "test_size", "fraction", "seed")
        drawn = make_splits(store, **{key: fields[key] for key in keys})
        found = {"train": drawn.train, "val": drawn.val, "test": drawn.test}
    else:
        found = {name: store.split(name) for name in ("train", "val", "test", "all")}
    if split == "auto":
        split = next(name for name in ("test", "all", "val", "train") if len(found.get(name, ())))
    if not len(found.get(split, ())):
        there = [name for name, indices in found.items() if len(indices)]
        raise DataError(
            f"there is no {split} split; the data has {', '.join(there)}.",
            f"Use --split {there[0]}.",
        )
    return found[split], split
