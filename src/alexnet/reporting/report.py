"""A run directory -> one HTML page about it: how good it is, where it is wrong, and whether the
number can be trusted. Imports no torch, and needs nothing but the run directory.

Shapes: N examples, K classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from sklearn.metrics import confusion_matrix, log_loss

from alexnet.errors import RunError
from alexnet.presets import RECIPES
from alexnet.recipes import BYSTANDERS, Recipe
from alexnet.reporting import charts
from alexnet.reporting.charts import Curve
from alexnet.reporting.drawing import ACCENT, FAINT
from alexnet.reporting.illustrations import (
    Album,
    DataState,
    as_object,
    count,
    number,
    read_data_state,
    read_illustrations,
)
from alexnet.reporting.pages import NO_BREAK, write_page
from alexnet.runs.directory import Predictions, RunDirectory, Settings
from alexnet.scoring.metrics import Labels, calibration_error, reliability, softmax, wilson_interval

PICTURES = 2_200_000  # bytes of data URIs in a page; the rest of it stays below 0.8 MB
MOST_BARS = charts.MOST_LABELS  # classes that all get a labelled bar
PAIRS = 12  # the most confused ones


@dataclass(frozen=True)
class Drawn:
    """A figure with what stands above and below it."""

    drawing: Markup
    heading: str = ""
    caption: str = ""


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Writes the page about a run, by default RUN/report.html; returns its path.

    Raises:
        RunError: it is not a run directory, or the run has not been evaluated.
    """
    directory = RunDirectory(run)
    return write_page(Path(out) if out else directory.page, "report.html", contents(directory))


def contents(run: RunDirectory) -> dict[str, Any]:
    """Everything the page says."""
    settings, figures, predictions = run.settings, run.metrics(), run.predictions()
    if figures["n"] != len(predictions.labels) or len(figures["names"]) != len(predictions.classes):
        raise RunError(
            f"the figures of {run} are about {figures['n']:,} images in {len(figures['names'])} "
            f"classes, its predictions about {len(predictions.labels):,} in "
            f"{len(predictions.classes)}.",
            "They belong to different runs; put the right file back.",
        )
    epochs, best_epoch = run.epochs(), count(figures.get("best_epoch"))
    surroundings = settings.surroundings[0]
    album = Album(PICTURES)
    shown, state = read_illustrations(run, album), read_data_state(run, album)
    names = [str(name) for name in figures["names"]]
    confusion = confusion_matrix(
        predictions.labels, predictions.guesses, labels=np.arange(len(names))
    )
    usual = {"device": "unknown", "processor": "unknown", "precision": "unknown"}
    return {
        "title": f"{run.path.resolve().name}: {Path(settings.data).name or settings.data}",
        "data_name": Path(settings.data).name or settings.data,
        "metrics": figures
        | {"best_epoch": best_epoch, "val_top1": number(figures.get("val_top1"))}
        | {"chose_epoch_on_it": figures.get("chose_epoch_on_it") is True}
        | {"seen_by_weights": count(figures.get("seen_by_weights"))},
        "expected": expected(settings),
        "leak_free": leak_free(predictions, state),
        "seconds": number(figures.get("seconds")),
        "epochs_told": f"{len(epochs)} epochs" if epochs else "",
        "surroundings": usual | surroundings,
        "training": training_curves(epochs, best_epoch),
        "per_class": per_class(names, confusion),
        "confusion": confusions(names, confusion),
        "shown": shown,
        "pictures_left_out": album.left_out,
        "calibration": calibration(predictions, figures),
        "data": told_data(state),
        "speed": speed_curves(epochs),
        "command": settings.command,
        "digest": settings.digest,
        "recipe": settings.recipe.to_dict(),
        "machine": told_machine(surroundings),
    }


def told_machine(surroundings: Mapping[str, Any]) -> dict[str, Any]:
    """The environment as one flat table."""
    flat = {name: one for name, one in surroundings.items() if name not in ("versions", "command")}
    return as_object(surroundings.get("versions")) | flat


def expected(settings: Settings) -> dict[str, str] | None:
    """What the named recipe that was run says to expect, if it is one."""
    for name, preset in RECIPES.items():
        if same_recipe(preset.recipe, settings):
            return {"name": name, "text": preset.expected}
    return None


def same_recipe(named: Recipe, settings: Settings) -> bool:
    """Whether a run was asked to be one of a named recipe. What that leaves to weights or to the
    image size may have been filled in: 0.1.0 wrote what such fields came to."""
    asked, usual = settings.asked.to_dict(), {"model": "small"} if named.weights == "none" else {}
    filled = {name: usual.get(name, asked[name]) for name in ("model", "image_size", "mean", "std")}
    filled["weights"] = "backbone"  # what "auto" is settled to where the recipe is kept
    if named.image_size == "auto":
        filled |= {"crop": asked["crop"], "border": asked["border"]}
    else:
        filled["crop"] = named.image_size + 2 * named.border
    return all(
        asked[name] == value or (value in ("auto", 0) and asked[name] == filled.get(name))
        for name, value in named.to_dict().items()
        if name not in BYSTANDERS and name != "seed"
    )


def leak_free(predictions: Predictions, state: DataState | None) -> dict[str, Any] | None:
    """The score without the images that have a twin in training; None if there are none."""
    leaks = set(state.leaks if state else [])
    kept = np.array([one not in leaks for one in predictions.ids])
    if kept.all() or not kept.any():
        return None
    right, n = int(predictions.hits[kept].sum()), int(kept.sum())
    low, high = wilson_interval(right, n)
    return {"share": right / n, "low": low, "high": high, "n": n, "leaks": len(kept) - n}


def column(epochs: Sequence[Mapping[str, float]], key: str) -> list[float]:
    """One number of every epoch; NaN where it is missing."""
    return [float(one.get(key, math.nan)) for one in epochs]


def known(values: Sequence[float]) -> bool:
    """Whether anything is known."""
    return any(map(math.isfinite, values))


def training_curves(epochs: Sequence[Mapping[str, float]], best: int) -> list[Drawn]:
    """Loss, accuracy and learning rate, with the chosen epoch marked."""
    found = []
    for what, key, share in (("loss", "loss", False), ("accuracy", "top1", True)):
        train, val = column(epochs, f"train_{key}"), column(epochs, f"val_{key}")
        lines = []
        if known(train):
            lines.append(Curve("training", train, FAINT, dashed=True, mark=best))
        if known(val):
            lines.append(Curve("validation", val, mark=best))
        if lines:
            found.append(Drawn(charts.curves(what, lines, share=share), what))
    if known(rates := column(epochs, "lr")):
        drawing = charts.curves("learning rate", [Curve("", rates, mark=best)])
        found.append(Drawn(drawing, "learning rate at the end of each epoch"))
    return found


def speed_curves(epochs: Sequence[Mapping[str, float]]) -> list[Drawn]:
    """Seconds, images per second, and where they are known, the share of time spent waiting for
    data and peak memory."""
    waiting = [one.get("waiting", math.nan) for one in epochs]
    wanted = (
        ("seconds of each epoch", column(epochs, "seconds"), False),
        ("images per second, training", column(epochs, "train_images_per_second"), False),
        ("share of time spent waiting for data", waiting, True),
        ("peak memory, GiB", [one / 2**30 for one in column(epochs, "peak_memory")], False),
    )
    return [
        Drawn(charts.curves(what, [Curve("", values, ACCENT)], share=share, from_zero=True), what)
        for what, values, share in wanted
        if known(values)
    ]


def per_class(names: Sequence[str], confusion: Labels) -> dict[str, Any]:
    """Accuracies, worst first: all of them as bars, or of many classes the extremes, with all in a
    table."""
    totals, right = confusion.sum(1), np.diag(confusion)
    order = sorted(
        (int(one) for one in np.flatnonzero(totals)), key=lambda k: (right[k] / totals[k], names[k])
    )

    def bars(part: Sequence[int]) -> Markup:
        columns = [names[k] for k in part], [int(totals[k]) for k in part]
        return charts.class_bars(*columns, [int(right[k]) for k in part])

    if len(order) <= MOST_BARS:
        return {"drawings": [Drawn(bars(order))], "rows": []}
    everything = charts.class_profile(
        [names[k] for k in order], [int(totals[k]) for k in order], [int(right[k]) for k in order]
    )
    return {
        "drawings": [
            Drawn(everything, "all classes"),
            Drawn(bars(order[:12]), "the worst"),
            Drawn(bars(order[-12:]), "the best"),
        ],
        "rows": [
            {"name": names[k], "n": int(totals[k]), "share": float(right[k] / totals[k])}
            for k in order
        ],
    }


def confusions(names: Sequence[str], confusion: Labels) -> dict[str, Any]:
    """The map, clustered, and the pairs most often confused."""
    order = charts.clustered(confusion)
    ordered, there = confusion[np.ix_(order, order)], [names[k] for k in order]
    many = len(names) > charts.MOST_LABELS
    wrong, totals = confusion - np.diag(np.diag(confusion)), confusion.sum(1)
    places = [divmod(int(p), len(names)) for p in np.argsort(-wrong, axis=None, kind="stable")]
    return {
        "drawing": charts.confusion_map(there, ordered),
        "large": charts.confusion_map(there, ordered, large=True) if many else "",
        "large_width": charts.map_side(len(names), large=True),
        "pairs": [
            {
                "label": names[label],
                "guess": names[guess],
                "count": int(wrong[label, guess]),
                "share": float(wrong[label, guess] / totals[label]),
            }
            for label, guess in places[:PAIRS]
            if wrong[label, guess]
        ],
    }


def calibration(predictions: Predictions, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Reliability as trained, and after dividing the logits by the run's temperature, if it has
    one."""
    logits, labels = predictions.logits, predictions.labels
    drawings = [
        Drawn(
            charts.reliability_diagram(
                "reliability as trained", reliability(softmax(logits), labels)
            ),
            "as trained",
            f"ECE {figures['ece']:.4f}, NLL {figures['nll']:.4f}",
        )
    ]
    temperature = number(figures.get("temperature"))
    if not temperature > 0:
        return {"drawings": drawings, "temperature": 0}
    scaled = softmax(logits / np.float32(temperature))
    error = calibration_error(scaled, labels)
    loss = log_loss(labels, scaled, labels=np.arange(logits.shape[1]))
    title = "reliability after temperature scaling"
    drawings.append(
        Drawn(
            charts.reliability_diagram(title, reliability(scaled, labels)),
            f"divided by a temperature of {temperature:.3f}",
            f"ECE {error:.4f}, NLL {loss:.4f}",
        )
    )
    return {"drawings": drawings, "temperature": temperature}


def told_data(state: DataState | None) -> dict[str, Any] | None:
    """The state of the data, added up."""
    if state is None:
        return None
    sums = {
        split: sum(counts.get(split, 0) for counts in state.classes.values())
        for split in state.splits
    }
    sides = ", ".join(
        f"{side} {low:,} to {high:,}, median {middle:,}"
        for side, (low, middle, high) in state.sizes.items()
    )
    return {
        "state": state,
        "total": sum(sums.values()),
        "by_split": ", ".join(f"{n:,}{NO_BREAK}{split}" for split, n in sums.items()),
        "sizes": f"files: {sides}" if sides else "the side of the squares in the Store",
    }
