"""A run directory -> one HTML page about it: how good it is, where it is wrong, and whether the
number can be trusted; with its figures and tables as files. Imports no torch, and needs nothing but
the run directory.

Shapes: N examples, K classes.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import (
    auc,
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_curve,
)

from alexnet.console import warn
from alexnet.data import changes
from alexnet.data.originals import original
from alexnet.data.reading import title_of
from alexnet.data.sources import Changes
from alexnet.errors import InputError, RunError
from alexnet.presets import RECIPES
from alexnet.recipes import BYSTANDERS, Recipe
from alexnet.reporting import charts
from alexnet.reporting.charts import Curve, Trade
from alexnet.reporting.drawing import ACCENT, FAINT, Drawing
from alexnet.reporting.illustrations import (
    Album,
    DataState,
    as_object,
    count,
    entries,
    number,
    png_of,
    read_data_state,
    read_illustrations,
)
from alexnet.reporting.networks import Description, describe
from alexnet.reporting.pages import NO_BREAK, Place, write_page
from alexnet.runs.directory import (
    CLASS_TABLE,
    CONFUSION_TABLE,
    EPOCH_TABLE,
    NETWORK_TABLE,
    Predictions,
    RunDirectory,
    Settings,
)
from alexnet.scoring.conformal import USUAL, abstaining, answered, images_needed
from alexnet.scoring.learning_curve import Forecast, told
from alexnet.scoring.metrics import (
    TOP5_FROM,
    ClassScores,
    Labels,
    calibration_error,
    class_scores,
    leak_free,
    nll,
    reliability,
    softmax,
    wilson_interval,
)
from alexnet.words import cell

PICTURES = 2_200_000  # bytes of data URIs in a page; the rest of it stays below 0.8 MB
MOST_BARS = charts.MOST_LABELS  # classes that all get a labelled bar
MOST_POINTS = 200  # of a curve
RATES = (0.01, 0.05, 0.1, 0.2)  # of sets that may miss the true class
FEW = 12  # classes whose figures all stand in a table at once
MOST_CURVES = 10  # classes that each get a curve of precision and recall
PAIRS = 8  # the most confused ones
MOST_TOLD = 8  # classes, or pairs of them, that are named as not recognised
FILTERS = "filters-of-the-first-layer.png"  # among the figures
BARS_TOLD = "Worst first. The thin line is the 95 % interval."
MAP_TOLD = (
    "Rows are labels, columns guesses; blue is right, red is wrong. Classes that are confused "
    "stand together."
)
Rows = list[list[Any]]


@dataclass(frozen=True)
class Drawn:
    """A figure with what stands above and below it."""

    drawing: Drawing
    heading: str = ""
    caption: str = ""


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Writes the page about a run, by default RUN/report.html, with its figures and tables beside
    it; returns its path.

    Raises:
        RunError: it is not a run directory, or the run has not been evaluated.
    """
    directory = RunDirectory(run)
    place = Place.of(directory.page, directory.figures, out)
    found = contents(directory)
    tables = {
        CLASS_TABLE: class_rows(found["names"], found["identifiers"], found["scores"]),
        CONFUSION_TABLE: confusion_rows(found["names"], found["counts"]),
    }
    if found["training"]:
        tables[EPOCH_TABLE] = epoch_rows(found["epochs"])
    if found["network"]:
        found["network_drawing"] = found["network"].drawing
        tables[NETWORK_TABLE] = found["network"].plain_rows()
    data = directory.settings.data
    found["link_of"] = lambda id_: place.link(file) if (file := original(data, id_)) else ""
    filters = png_of(found["shown"].filters)
    found["filters_file"] = FILTERS if filters else ""
    return write_page(place, "report.html", found, tables, {FILTERS: filters} if filters else {})


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
    scores = class_scores(confusion)
    leaked = np.isin(predictions.ids, state.leaks if state else [])
    solved = solved_head(settings, figures)
    usual = {"device": "unknown", "processor": "unknown", "precision": "unknown"}
    return {
        "title": f"{run.path.resolve().name}: {title_of(settings.data)}",
        "data_name": title_of(settings.data),
        "metrics": figures
        | {"best_epoch": best_epoch, "val_top1": number(figures.get("val_top1"))}
        | {"chose_epoch_on_it": figures.get("chose_epoch_on_it") is True}
        | {"seen_by_weights": count(figures.get("seen_by_weights"))},
        "label_changes": told_changes(figures.get("label_changes")),
        "top5_tells": len(names) >= TOP5_FROM,
        "expected": expected(settings),
        "leaks": int(leaked.sum()),
        "leak_free": leak_free(predictions.hits, leaked),
        "seconds": number(figures.get("seconds")),
        "epochs": epochs,
        "epochs_told": f"{len(epochs)} epochs" if epochs else "",
        "solved": solved,
        "surroundings": usual | surroundings,
        "training": [] if solved else training_curves(epochs, best_epoch),
        "names": names,
        "identifiers": predictions.classes,
        "counts": confusion,
        "scores": scores,
        "classes": told_classes(names, scores),
        "evened": evened(names, figures.get("evened_out")),
        "confusion": confusions(names, confusion),
        "failings": list(failings(names, figures, confusion)),
        "trades": trades(names, predictions),
        "shown": shown,
        "pictured": [one for one in shown.confusions if one.images],
        "pictures_left_out": album.left_out,
        "calibration": calibration(predictions, figures),
        "abstaining": abstaining_of(run, predictions, figures),
        "learning_curve": learning_curve_of(run),
        "data": told_data(state),
        "network": network_of(run),
        "speed": [] if solved else speed_curves(epochs),
        "command": settings.command,
        "digest": settings.digest,
        "recipe": settings.recipe.to_dict(),
        "machine": told_machine(surroundings),
        "epochs_table": EPOCH_TABLE,
        "classes_table": CLASS_TABLE,
        "confusion_table": CONFUSION_TABLE,
        "network_table": NETWORK_TABLE,
    }


def told_changes(found: Any) -> str:
    """What a table of changes did to the labels; nothing without one."""
    figures = as_object(found)
    numbers = {key: count(figures.get(key)) for key in (*Changes._fields[1:], "evaluated")}
    return changes.told(str(figures.get("table")), **numbers) if figures else ""


def evened(names: Sequence[str], found: Any) -> list[dict[str, Any]]:
    """What class weights or a balanced draw did, the smallest class first; nothing without them."""
    keys = ("images", "weights", "val_images", "val_recall")
    if not isinstance(found, Mapping) or any(
        not isinstance(found.get(key), list) or len(found[key]) != len(names) for key in keys
    ):
        return []
    before = found.get("plain_val_recall")
    if not isinstance(before, list) or len(before) != len(names):
        before = [None] * len(names)
    rows: list[dict[str, Any]] = [
        {"name": name, "before": number(plain), **{key: number(found[key][k]) for key in keys}}
        for k, (name, plain) in enumerate(zip(names, before, strict=True))
    ]
    known = [row for row in rows if not any(math.isnan(row[key]) for key in keys[:3])]
    return sorted(known, key=lambda row: float(row["images"]))


def solved_head(settings: Settings, figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a head was solved that was not trained: of each penalty how many images were right that
    the head had not seen, with the interval; None where it was trained, or that is not known."""
    found = as_object(figures.get("solved"))
    n, tried = count(found.get("images")), found.get("tried")
    if not settings.recipe.solved or not n or not isinstance(tried, list):
        return None
    rows = []
    for one in tried:
        penalty, share = map(number, one if isinstance(one, list) and len(one) == 2 else "??")
        if math.isfinite(penalty) and 0 <= share <= 1:
            low, high = wilson_interval(round(share * n), n)
            rows.append({"penalty": penalty, "share": share, "low": low, "high": high})
    return {
        "kind": {"ridge": "Ridge regression"}.get(settings.recipe.head, "Logistic regression"),
        "folds": settings.recipe.folds,
        "images": n,
        "penalty": number(figures.get("penalty")),
        "rows": rows,
    }


def epoch_rows(epochs: Sequence[Mapping[str, float]]) -> Rows:
    """One row per epoch, with every number that any of them has."""
    heading = list(dict.fromkeys(name for one in epochs for name in one))
    return [heading, *([one.get(name, "") for name in heading] for one in epochs)]


def class_rows(names: Sequence[str], identifiers: Sequence[str], scores: ClassScores) -> Rows:
    """One row per class, and the means."""
    rows: Rows = [["class", "name", "images", "precision", "recall", "f1"]]
    columns = scores.support, scores.precision, scores.recall, scores.f1
    for identifier, name, *values in zip(identifiers, names, *columns, strict=True):
        rows.append([cell(identifier), cell(name), *(one.item() for one in values)])
    for name, weighted in (("(plain mean)", False), ("(weighted mean)", True)):
        rows.append([name, name, int(scores.support.sum()), *scores.mean(weighted).values()])
    return rows


def confusion_rows(names: Sequence[str], confusion: Labels) -> Rows:
    """The counts: a row for each label, a column for each guess."""
    told = [cell(name) for name in names]
    rows = zip(told, confusion.tolist(), strict=True)
    return [["label / guess", *told], *([name, *counts] for name, counts in rows)]


def network_of(run: RunDirectory) -> Description | None:
    """The network of a run; None where its weights are gone, or cannot be read, which is said."""
    if not run.best.exists():
        return None
    try:
        return describe(run.path)
    except InputError as error:
        warn(f"{error.message} The network is left out.")
        return None


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
        found.append(Drawn(drawing, "learning rate"))
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


def told_classes(names: Sequence[str], scores: ClassScores) -> dict[str, Any]:
    """Precision, recall and F1, worst recall first, and the recalls drawn: of many classes only the
    extremes with their names."""
    order = sorted(
        (int(one) for one in np.flatnonzero(scores.support)),
        key=lambda k: (scores.recall[k], names[k]),
    )
    plain, weighted = scores.mean(), scores.mean(weighted=True)
    n = int(scores.support.sum())
    return {
        "drawings": class_drawings(names, scores, order),
        "few": len(order) <= FEW,
        "rows": [
            {
                "name": names[k],
                "n": int(scores.support[k]),
                "precision": float(scores.precision[k]),
                "recall": float(scores.recall[k]),
                "f1": float(scores.f1[k]),
            }
            for k in order
        ],
        "means": [
            {"name": "plain mean", "n": n, **plain},
            {"name": "weighted mean", "n": n, **weighted},
        ],
        "balanced": plain["recall"],
        "f1": plain["f1"],
    }


def failings(names: Sequence[str], figures: Mapping[str, Any], confusion: Labels) -> Iterator[str]:
    """What the network cannot do, in words: more than chance, a class at all, one from another."""
    if figures["top1_interval"][0] <= figures["chance"]:
        yield (
            "The interval reaches down to chance: on these images it is not shown to do better "
            "than always guessing the commonest class."
        )
    hits = np.diag(confusion)
    lost = [names[k] for k in np.flatnonzero((confusion.sum(1) > 0) & (hits == 0)).tolist()]
    if lost:
        listed = ", ".join(lost[:MOST_TOLD])
        listed += f" and {len(lost) - MOST_TOLD} more" if len(lost) > MOST_TOLD else ""
        yield f"No image is recognised of: {listed}."
    right, wrong = hits[:, None] + hits, confusion + confusion.T
    alike = np.triu((hits[:, None] > 0) & (hits > 0) & (wrong >= np.maximum(right, 5)), 1)
    for a, b in np.argwhere(alike)[:MOST_TOLD].tolist():
        yield (
            f"{names[a]} and {names[b]} are not told apart: of {right[a, b] + wrong[a, b]} images "
            f"taken for one of the two, {wrong[a, b]} are taken for the wrong one."
        )


def class_drawings(names: Sequence[str], scores: ClassScores, order: Sequence[int]) -> list[Drawn]:
    """The accuracies of the classes, in this order."""

    def columns(part: Sequence[int]) -> tuple[list[str], list[int], list[int]]:
        right = [round(scores.recall[k] * scores.support[k]) for k in part]
        return [names[k] for k in part], [int(scores.support[k]) for k in part], right

    if len(order) <= MOST_BARS:
        return [Drawn(charts.class_bars(*columns(order)), "recall of each class", BARS_TOLD)]
    worst = charts.class_bars(*columns(order[:12]), title="accuracy of the worst classes")
    best = charts.class_bars(*columns(order[-12:]), title="accuracy of the best classes")
    return [
        Drawn(charts.class_profile(*columns(order)), "recall of all classes"),
        Drawn(worst, "the worst", BARS_TOLD),
        Drawn(best, "the best"),
    ]


def confusions(names: Sequence[str], confusion: Labels) -> dict[str, Any]:
    """The map, clustered, and the pairs most often confused."""
    order = charts.clustered(confusion)
    ordered, there = confusion[np.ix_(order, order)], [names[k] for k in order]
    many = len(names) > charts.MOST_LABELS
    wrong, totals = confusion - np.diag(np.diag(confusion)), confusion.sum(1)
    places = [divmod(int(p), len(names)) for p in np.argsort(-wrong, axis=None, kind="stable")]
    return {
        "map": Drawn(charts.confusion_map(there, ordered), "confusion matrix", MAP_TOLD),
        "large": charts.confusion_map(there, ordered, large=True) if many else None,
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


def trades(names: Sequence[str], predictions: Predictions) -> list[Drawn]:
    """Precision against recall, and the ROC, of each class against all others; nothing where there
    are many classes."""
    labels, p = predictions.labels, softmax(predictions.logits)
    there = [k for k in range(len(names)) if 0 < (labels == k).sum() < len(labels)]
    if not there or len(names) > MOST_CURVES:
        return []
    precise, roc = [], []
    for k in there:
        of_it = labels == k
        precision, recall, _ = precision_recall_curve(of_it, p[:, k], drop_intermediate=True)
        area = float(average_precision_score(of_it, p[:, k]))
        precise.append(Trade(names[k], recall, precision, area))
        fall_out, found, _ = roc_curve(of_it, p[:, k])
        roc.append(Trade(names[k], fall_out, found, float(auc(fall_out, found))))
    title = "precision against recall"
    left = charts.trades(title, ("recall", "precision"), precise)
    right = charts.trades("ROC", ("false positive rate", "true positive rate"), roc, chance=True)
    means = [np.mean([one.area for one in lines]) for lines in (precise, roc)]
    return [
        Drawn(left, title, f"average precision, mean of the classes: {means[0]:.3f}"),
        Drawn(right, "ROC", f"area under the curve, mean of the classes: {means[1]:.3f}"),
    ]


def calibration(predictions: Predictions, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Reliability as trained, and after dividing the logits by the run's temperature, if it has
    one; 1 is none: validation supported no other."""
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
    told = told_temperature(temperature, figures.get("temperature_interval"))
    shown = {"drawings": drawings, "told": told, "clueless": math.log(logits.shape[1])}
    if temperature == 1 or not temperature > 0:
        return shown
    divided = logits.astype(np.float64) / temperature
    scaled = softmax(divided)
    error = calibration_error(scaled, labels)
    title = "reliability after temperature scaling"
    drawings.append(
        Drawn(
            charts.reliability_diagram(title, reliability(scaled, labels)),
            f"divided by a temperature of {temperature:.3f}",
            f"ECE {error:.4f}, NLL {nll(divided, labels):.4f}",
        )
    )
    return shown


def abstaining_of(
    run: RunDirectory, predictions: Predictions, figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Accuracy against the share of images that are answered, and what each rate of RATES came to
    on the test split, as far as validation is enough for it; nothing of the latter where the run
    has no calibration, or the figures are not of a test split."""
    p, labels = softmax(predictions.logits), predictions.labels
    shares, accuracy = answered(p, labels)
    shown = np.unique(np.linspace(0, len(shares) - 1, MOST_POINTS).astype(int))
    line = Trade("mean", shares[shown], accuracy[shown], float(accuracy.mean()))
    title = "accuracy against answers"
    names = ("share of images answered", "accuracy of the answers")
    curve = charts.trades(title, names, [line])
    rows: list[dict[str, Any]] = []
    if run.calibrated and figures["split"] == "test":
        try:
            found = run.calibration()
        except RunError as error:
            warn(f"{error.message} It is left out.")
        else:
            n = len(found.p)
            there = [rate for rate in RATES if len(found.test_p) and images_needed(rate) <= n]
            rows = [abstaining(found, predictions.logits, labels, rate) for rate in there]
    return {"curve": Drawn(curve, title), "rows": rows, "needed": images_needed(USUAL)}


def learning_curve_of(run: RunDirectory) -> dict[str, Any] | None:
    """What more images would come to, drawn and in words, those classes first that gain most; None
    where nobody has asked."""
    found = run.learning_curve()
    sizes, accuracy = (
        [number(one) for one in entries(found.get(key))] for key in ("sizes", "accuracy")
    )
    whole, images = forecast_of(found.get("all")), count(found.get("images"))
    if not whole or not images or len(sizes) != len(accuracy) or not all(map(math.isfinite, sizes)):
        return None
    every = {name: as_object(one) for name, one in as_object(found.get("classes")).items()}
    rows = [
        {"name": name, "images": count(one.get("images")), "forecast": forecast_of(one)}
        for name, one in every.items()
    ]
    known = [row for row in rows if row["forecast"]]
    return {
        "curve": Drawn(charts.learning_curve(sizes, accuracy, images, whole), "learning curve"),
        "told": told(whole),
        "images": images,
        "finetuned": found.get("finetuned") is True,
        "rows": sorted(known, key=lambda row: -row["forecast"].gain),
        "few": [row["name"] for row in rows if not row["forecast"]],
    }


def forecast_of(found: object) -> Forecast | None:
    """A forecast as it was kept; None if it is none."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Forecast):
        kept = as_object(found).get(field.name)
        band = field.name.endswith("_band")
        values[field.name] = tuple(map(number, entries(kept))) if band else number(kept)
        ends = values[field.name] if band else (values[field.name],)
        if len(ends) != 1 + band or not all(map(math.isfinite, ends)):
            return None
    return Forecast(**values)


def told_temperature(temperature: float, interval: object) -> str:
    """Why logits are divided by a temperature, or why not. 0.1.0 wrote no interval, and took
    whatever fitted validation best."""
    ends = [number(one) for one in entries(interval)]
    sound = len(ends) == 2 and all(map(math.isfinite, ends))
    span = f"95 % interval {ends[0]:.2f} to {ends[1]:.2f}" if sound else ""
    if not temperature > 0 or (temperature == 1 and not span):
        return ""
    if temperature == 1:
        return (
            "No temperature is applied: the validation images do not show that one would help "
            f"({span})."
        )
    checked = f": the cautious end of its {span}" if span else ""
    return (
        "Dividing the logits, the network's scores before they become probabilities, by "
        f"{temperature:.3f} changes no guess; this temperature was fitted on validation images"
        f"{checked}."
    )


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
