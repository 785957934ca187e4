"""How good is it: logits -> top-1, top-5, per class, confusion, likelihood, calibration,
interval."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table

from alexnet.console import console, say
from alexnet.data.datasets import make_splits, open_data
from alexnet.data.levels import unknown_names
from alexnet.data.store import Store
from alexnet.errors import DataError
from alexnet.network.checkpoint import load_model
from alexnet.network.description import Preprocessing
from alexnet.network.inference import evaluation_transforms, evaluation_views, predict_logits
from alexnet.runs.directory import run_settings, save_predictions
from alexnet.runtime import choose_device, choose_precision
from alexnet.scoring.metrics import Labels, metrics, wilson_interval


def show(figures: Mapping[str, Any], note: str = "") -> None:
    """Prints the figures for people: the headline, the accuracy per class, the pairs most often
    confused."""
    low, high = figures["top1_interval"]
    tops = ", ".join(f"top-{k} {figures[f'top{k}']:.2%}" for k in top_ks(figures)[1:])
    say(
        f"{figures['split']} split, {figures['n']:,} images: top-1 {figures['top1']:.2%} (95 % "
        f"interval {low:.2%} to {high:.2%}), "
        f"{tops}, NLL {figures['nll']:.3f}, ECE {figures['ece']:.3f}; "
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


def top_ks(figures: Mapping[str, Any]) -> list[int]:
    """Every k for which there is a top-k accuracy, in order."""
    return sorted(int(key[3:]) for key in figures if re.fullmatch(r"top\d+", key))


def table_rows(figures: Mapping[str, Any]) -> list[list[Any]]:
    """The figures as rows of a table: a heading, all images, and each class; cells without a figure
    are empty."""
    tops = [f"top{k}" for k in top_ks(figures)[1:]]
    whole = [figures[key] for key in (*tops, "nll", "ece", "chance")]
    heading = ["class", "n", "top1", "top1_low", "top1_high", *tops, "nll", "ece", "chance"]
    every = ["(all)", figures["n"], figures["top1"], *figures["top1_interval"], *whole]
    rows: list[list[Any]] = [heading, every]
    for name, one in figures["per_class"].items():
        interval = wilson_interval(round(one["top1"] * one["n"]), one["n"])
        rows.append([name, one["n"], one["top1"], *interval, *[""] * len(whole)])
    return rows


def evaluate_run(
    run: str | Path,
    data: str = "",
    *,
    split: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    bad_images: str = "error",
    save: str = "",
    views: int = 0,
    top: int = 5,
    classes: Sequence[str] = (),
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
        views: 1, 2 or 10 views averaged; 0 for as many as the run says.
        top: also the top-k accuracy of this k.
        classes: only images of these classes, by readable name or identifier; all classes of the
            run stay possible answers. Empty for all.

    Returns:
        The figures of `metrics`.

    Raises:
        RunError: not a finished run. DataError: the classes do not match, or there is no such
            split or class. RecipeError: ten views of images that are not larger than their crop.
    """
    path = Path(run)
    trained = load_model(path)
    how = trained.preprocessing
    how = dataclasses.replace(how, views=views or how.views)
    evaluation_transforms(how)  # ten views are refused before anything is packed
    chosen = trained.labels(classes)
    settings = run_settings(path)
    store = open_data(
        data or settings.data,
        image_size=how.image_size,
        greyscale=settings.recipe["greyscale"],
        bad_images=bad_images,
    )
    indices, split = choose_split(
        store, split, settings.recipe, own=store.fingerprint == settings.fingerprint
    )
    own_label = matched_labels(store, trained.classes, data, part=bool(chosen))
    if chosen:
        indices = indices[np.isin(own_label[store.y[indices]], chosen)]
        if not len(indices):
            raise DataError(
                f"the {split} split has no image of {', '.join(classes)}.",
                "Choose other --classes, or another --split.",
            )
    where = choose_device(device)
    dtype, _ = choose_precision(precision, where)
    model = trained.model.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = evaluation_views(store, indices, how, where)
    logits, labels = predict_logits(model, batches, dtype, f"evaluating the {split} split")
    matched = own_label[labels.numpy()]
    if save:
        save_predictions(
            Path(save), logits.numpy(), matched, [store.ids[i] for i in indices], trained.classes
        )
    return metrics(logits.numpy(), matched, trained.names, split, top)


def matched_labels(store: Store, known: list[str], data: str, part: bool = False) -> Labels:
    """For each class of a Store the label it has in a run that knows the classes `known`; -1 where
    it is unknown and only a part of the classes is asked for.

    Raises:
        DataError: the run does not know one of them.
    """
    unknown = [name for name in store.classes if name not in known]
    if unknown and not part:
        raise DataError(
            f"the run does not know {len(unknown)} of the {len(store.classes)} classes of {data}: "
            f"{unknown_names(unknown, known)}. "
            f"It knows: {', '.join(known[:10])}{', ...' if len(known) > 10 else ''}.",
            "Classes are matched by name: rename the class folders, or leave those out by naming "
            "the others: --classes.",
        )
    return np.array([known.index(one) if one in known else -1 for one in store.classes])


def own_data(run: Path, how: Preprocessing) -> Store:
    """The Store that a run was trained on.

    Raises:
        DataError: the data is not where it was, or has changed since.
    """
    settings = run_settings(run)
    store = open_data(
        settings.data,
        image_size=how.image_size,
        greyscale=settings.recipe["greyscale"],
        bad_images=settings.recipe["bad_images"],
    )
    if store.fingerprint != settings.fingerprint:
        raise DataError(
            f"{settings.data} is not what {run} was trained on: fingerprint "
            f"{settings.fingerprint[:12]} then, {store.fingerprint[:12]} now.",
            "Restore the data, or train again.",
        )
    return store


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
