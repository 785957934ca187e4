"""How good is it: logits -> top-1, top-5, per class, confusion, likelihood, calibration,
interval."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet import ranks
from alexnet.atomic import output_file
from alexnet.console import fitted, say, table
from alexnet.data.handed import Given, given
from alexnet.data.levels import unknown_names
from alexnet.data.sources import Data
from alexnet.data.store import Store
from alexnet.errors import DataError
from alexnet.network.description import Preprocessing
from alexnet.network.inference import evaluation_transforms, evaluation_views, predict_logits
from alexnet.runs.directory import Predictions, RunDirectory, Settings
from alexnet.runs.leaks import learned_before
from alexnet.runs.own_data import choose, open_store, own_data
from alexnet.runtime import as_found, choose_device, choose_precision
from alexnet.scoring.metrics import TOP5_FROM, Labels, metrics, require_finite, wilson_interval
from alexnet.values import BadImages, Count, Precision, checked_arguments
from alexnet.words import shown

Look = Callable[[NDArray[np.uint8], str, str, float], None]


def show(figures: Mapping[str, Any], note: str = "") -> None:
    """Prints the figures for people: the headline, precision, recall and F1 of each class, the
    pairs most often confused."""
    low, high = figures["top1_interval"]
    few = len(figures["names"]) < TOP5_FROM
    tops = [k for k in top_ks(figures)[1:] if not (few and k == 5)]
    say(
        f"{figures['split']} split, {figures['n']:,} images: top-1 {figures['top1']:.2%} (95 % "
        f"interval {low:.2%} to {high:.2%})"
    )
    say(
        fitted(
            f"always the commonest class: {figures['chance']:.2%}",
            f"balanced accuracy {figures['balanced_accuracy']:.2%}",
            *(f"top-{k} {figures[f'top{k}']:.2%}" for k in tops),
            f"NLL {figures['nll']:.3f}",
            f"ECE {figures['ece']:.3f}",
        )
    )
    if note:
        say(note)
    ranked = sorted(figures["per_class"].items(), key=lambda item: item[1]["top1"])
    listed = ranked if len(ranked) <= 20 else ranked[:8] + ranked[-4:]
    heading = "class" if len(ranked) <= 20 else "class, worst and best"
    rows = [
        [shown(name), f"{one['n']:,}", *(f"{one[key]:.1%}" for key in ("precision", "top1", "f1"))]
        for name, one in listed
    ]
    for name, mean in (("plain mean", "macro"), ("weighted mean", "weighted")):
        rows.append([name, f"{figures['n']:,}", *(f"{one:.1%}" for one in figures[mean].values())])
    say(table([heading, "images", "precision", "recall", "F1"], rows))
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
    means = [figures["macro"][key] for key in ("precision", "f1")]
    identifiers = dict(zip(figures["names"], figures["classes"], strict=True))
    heading = ["class", "name", "n", "top1", "top1_low", "top1_high", *tops, "nll", "ece", "chance"]
    every = ["(all)", "(all)", figures["n"], figures["top1"], *figures["top1_interval"], *whole]
    rows: list[list[Any]] = [[*heading, "precision", "f1"], [*every, *means]]
    for name, one in figures["per_class"].items():
        interval = wilson_interval(round(one["top1"] * one["n"]), one["n"])
        row = [identifiers[name], name, one["n"], one["top1"], *interval, *[""] * len(whole)]
        rows.append([*row, one["precision"], one["f1"]])
    return rows


@checked_arguments
@as_found()
@ranks.joined()
def evaluate_run(
    run: str | Path,
    data: Given = "",
    *,
    split: str = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    bad_images: BadImages = "error",
    save: str | Path = "",
    views: Literal[0, 1, 2, 10] = 0,
    top: Count = 5,
    classes: Sequence[str] = (),
    look: Look | None = None,
) -> dict[str, Any]:
    """Evaluates a run on a split of its own data, or on other data whose classes have the same
    names. Of several ranks each looks at a part of the images, and all return all.

    Args:
        run: a run directory.
        data: as for `train`; empty for the data of the run.
        split: "train", "val", "test", "all" (every labelled image), or "auto": the test split if
            there is one.
        device, precision, bad_images: as the recipe's fields.
        save: also write the logits to this .npz file.
        views: 1, 2 or 10 views averaged; 0 for as many as the run says.
        top: also the top-k accuracy of this k.
        classes: only images of these classes, by readable name or identifier; all classes of the
            run stay possible answers. Empty for all.
        look: called with each image, in order: its pixels (3, S, S) uint8, what it is, what it was
            taken for (readable names), and how probable that was.

    Returns:
        The figures of `metrics`.

    Raises:
        RunError: not a finished run. DataError: the classes do not match, or there is no such
            split or class. RecipeError: ten views of images that are not larger than their crop.
    """
    data = given(data)
    table = output_file(save, ".npz") if save else None
    directory = RunDirectory(run)
    trained, settings = directory.load(), directory.settings
    how = trained.preprocessing
    how = dataclasses.replace(how, views=views or how.views)
    evaluation_transforms(how)  # ten views are refused before anything is packed
    chosen = trained.labels(classes)
    matched = functools.partial(matched_labels, known=trained.classes, data=data, part=bool(chosen))
    with ranks.first_here_first("data"):
        store, indices, split = images_of(settings, how, data, split, bad_images, matched)
    own_label = matched(store.classes)
    if chosen:
        indices = indices[np.isin(own_label[store.y[indices]], chosen)]
        if not len(indices):
            raise DataError(
                f"the {split} split has no image of {', '.join(classes)}.",
                "Choose other --classes, or another --split.",
            )
    where = choose_device(device)
    dtype, _ = choose_precision(precision, where)
    facts = {"number of images": len(indices), "precision": dtype}
    ranks.require_alike({"data (fingerprint)": store.fingerprint, **facts})
    model = trained.model.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = evaluation_views(store, indices, how, where)
    logits, labels = predict_logits(model, batches, dtype, f"evaluating the {split} split")
    require_finite(logits.numpy(), directory)
    expected = own_label[labels.numpy()]
    if table and ranks.is_first():
        ids = [store.ids[place] for place in indices]
        Predictions(logits.numpy(), expected, ids, trained.classes).save(table)
    if look:
        for place, label, p in zip(indices, expected, logits.softmax(1).numpy(), strict=True):
            answer = int(p.argmax())
            pixels = np.asarray(store.x[int(place)])
            look(pixels, trained.names[label], trained.names[answer], float(p[answer]))
    figures = metrics(logits.numpy(), expected, trained.names, split, top)
    figures["classes"] = trained.classes
    hits = logits.numpy().argmax(1) == expected
    return figures | learned_before(directory, store, indices, split, hits, bool(data))


def images_of(
    settings: Settings,
    how: Preprocessing,
    data: Data,
    split: str,
    bad_images: str,
    accept: Callable[[list[str]], object],
) -> tuple[Store, Labels, str]:
    """The images to evaluate: a Store, indices into it, and the name of the split. Without `data`,
    and where `data` is what the run was trained on, the run's own splits. `accept` looks at the
    classes of other data before it is packed.

    Raises:
        DataError: no such split, the run's own data has changed, or there is none that it was not
            trained on.
    """
    store = open_store(data, settings.recipe, how, bad_images, accept) if data else None
    if store is None or store.fingerprint == settings.fingerprint:
        own = own_data(settings, how, store, bad_images)
        if split == "auto" and not len(own.splits.test) and not len(own.splits.val):
            raise DataError(
                "the run was trained on every image of its data; its own figures are of "
                "cross-validation, which judged each image without having seen it.",
                "Give other images: alexnet eval RUN DATA. --split train asks about these.",
            )
        return own.store, *own.split(split)
    if split == "all":
        return store, np.arange(len(store)), "all"
    every = {name: store.split(name) for name in ("test", "all", "val", "train")}
    return store, *choose(every, split)


def matched_labels(classes: list[str], known: list[str], data: Data, part: bool = False) -> Labels:
    """For each of some classes the label it has in a run that knows the classes `known`; -1 where
    it is unknown and only a part of the classes is asked for.

    Raises:
        DataError: the run does not know one of them.
    """
    unknown = [name for name in classes if name not in known]
    if unknown and not part:
        raise DataError(
            f"the run does not know {len(unknown)} of the {len(classes)} classes of {data}: "
            f"{unknown_names(unknown, known)}. "
            f"It knows: {', '.join(known[:10])}{', ...' if len(known) > 10 else ''}.",
            "Classes are matched by name: rename the class folders, or leave those out by naming "
            "the others: --classes.",
        )
    return np.array([known.index(one) if one in known else -1 for one in classes])
