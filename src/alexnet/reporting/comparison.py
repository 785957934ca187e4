"""Several run directories -> one HTML page: which is best, whether that is more than noise, and
where they disagree. Imports no torch.

Shapes: R runs, N images evaluated by all of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.originals import original
from alexnet.errors import InputError, RunError
from alexnet.recipes import BYSTANDERS
from alexnet.reporting import charts
from alexnet.reporting.charts import Curve, series_colour
from alexnet.reporting.illustrations import Album, count, number, read_illustrations
from alexnet.reporting.pages import Place, write_page, written
from alexnet.reporting.report import PICTURES, Drawn, column, known
from alexnet.runs.directory import Predictions, RunDirectory, Settings
from alexnet.scoring.metrics import softmax, wilson_interval
from alexnet.scoring.significance import Hits, difference, mcnemar, training_noise
from alexnet.words import cell

MOST_IMAGES = 60  # on which runs disagree, in the page
RUNS, RECIPES = "runs.csv", "recipes.csv"  # its tables


@dataclass(frozen=True)
class Compared:
    """A run and what it says of the images that all runs evaluated."""

    name: str
    directory: RunDirectory
    settings: Settings
    names: list[str]  # readable class names
    predictions: Predictions
    epochs: list[dict[str, float]]
    best_epoch: int
    seconds: float
    rows: NDArray[np.int64]  # (N,) places of the common images in its predictions

    @property
    def hits(self) -> Hits:
        """(N,)"""
        return np.asarray(self.predictions.hits[self.rows])

    def trained_as(self, other: "Compared") -> bool:
        """Whether both are runs of one recipe on the same data, which differ by chance alone."""
        one, two = self.settings, other.settings
        return (one.fingerprint, one.weights_sha256) == (
            two.fingerprint,
            two.weights_sha256,
        ) and one.asked.trains_as(two.asked)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(N,) of the guesses."""
        return np.asarray(softmax(self.predictions.logits[self.rows]).max(1))


def compare(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Writes a page that compares runs on the images that all of them evaluated; returns its path.

    Raises:
        InputError: fewer than two runs, or the same one twice.
        RunError: one is not a run directory, or they have no image in common, or an image has not
            the same class in all of them.
    """
    paths = [Path(run) for run in runs]
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        raise InputError(
            "a comparison needs at least two different runs.", "alexnet report RUN RUN ..."
        )
    compared = common([RunDirectory(path) for path in paths])
    found, data = contents(compared), compared[0].settings.data
    place = Place.alone(out)
    tables = {RUNS: run_rows(found["rows"]), RECIPES: recipe_rows(found["names"], found["fields"])}
    found["link_of"] = lambda id_: place.link(file) if (file := original(data, id_)) else ""
    return write_page(place, "comparison.html", found, tables)


def common(runs: Sequence[RunDirectory]) -> list[Compared]:
    """The runs, over the images that all of them evaluated, in the order of the first."""
    read = [run.predictions() for run in runs]
    figures = [run.metrics() for run in runs]
    places = [{id_: place for place, id_ in enumerate(one.ids)} for one in read]
    shared = [id_ for id_ in places[0] if all(id_ in other for other in places[1:])]
    if not shared:
        raise RunError(
            "the runs were evaluated on different images: none is common to all of them.",
            "Evaluate them on the same data: alexnet eval RUN DATA --save FILE.npz.",
        )
    rows = [np.array([place[id_] for id_ in shared]) for place in places]
    for run, one, here in zip(runs[1:], read[1:], rows[1:], strict=True):
        for id_, own, first in zip(shared, one.labels[here], read[0].labels[rows[0]], strict=True):
            if one.classes[own] != read[0].classes[first]:
                raise RunError(
                    f"{id_} is {read[0].classes[first]!r} in {runs[0]}, and {one.classes[own]!r} "
                    f"in {run}: these are different data.",
                    "Compare runs over the same data set.",
                )
    return [
        Compared(
            name,
            run,
            run.settings,
            [str(word) for word in found["names"]],
            one,
            run.epochs(),
            count(found.get("best_epoch")),
            number(found.get("seconds")),
            here,
        )
        for name, run, one, found, here in zip(
            short_names([run.path for run in runs]), runs, read, figures, rows, strict=True
        )
    ]


def short_names(paths: Sequence[Path]) -> list[str]:
    """The names of the folders, or as much of the paths as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def contents(compared: Sequence[Compared]) -> dict[str, Any]:
    """Everything the page says."""
    n = len(compared[0].rows)
    evaluated = {len(one.predictions.ids) for one in compared}
    return {
        "title": "Comparison of " + ", ".join(one.name for one in compared),
        "n": n,
        "partly": max(evaluated) if max(evaluated) > n else 0,
        "other_data": len({one.settings.fingerprint for one in compared}) > 1,
        "rows": scores(compared),
        "one_each": len(of_one_recipe(compared)) == len(compared),
        "timed": known([one.seconds for one in compared]),
        "curves": curves(compared),
        "fields": differing_fields(compared),
        "names": [one.name for one in compared],
        "runs_table": RUNS,
        "recipes_table": RECIPES,
        **disagreements(compared),
    }


def scores(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """The runs, best first, each with its difference from the best.

    Runs of one recipe are never told apart: what lies between them is how training varies, and
    widens the intervals of the others. Where no recipe was run twice, that is not known.
    """
    order = sorted(compared, key=lambda one: -int(one.hits.sum()))
    best = order[0]
    noise = training_noise(
        [np.stack([one.hits for one in runs]) for runs in of_one_recipe(compared)]
    )
    worse = "worse" if noise.degrees else "worse on these images"
    rows = []
    for one in order:
        behind = difference(one.hits[None], best.hits[None], noise, len(order))
        again = one.trained_as(best)
        so = "cannot be told apart" if behind.is_noise else worse
        p = mcnemar(one.hits, best.hits)
        low, high = wilson_interval(int(one.hits.sum()), len(one.hits))
        rows.append(
            {
                "name": one.name,
                "top1": float(one.hits.mean()),
                "low": low,
                "high": high,
                "best": one is best,
                "difference": behind,
                "p": p,
                "only_best": int((best.hits & ~one.hits).sum()),
                "only_this": int((one.hits & ~best.hits).sum()),
                "beyond": not behind.is_noise and not again,
                "so": "the same recipe" if again else so,
                "seconds": one.seconds,
            }
        )
    return rows


def of_one_recipe(compared: Sequence[Compared]) -> list[list[Compared]]:
    """The runs, those of one recipe together."""
    found: list[list[Compared]] = []
    for one in compared:
        runs = next((runs for runs in found if runs[0].trained_as(one)), None)
        if runs is None:
            found.append([one])
        else:
            runs.append(one)
    return found


def run_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """The table of the runs, with shares from 0 to 1."""
    heading = "run accuracy low high behind behind_low behind_high p worse seconds".split()
    found: list[list[Any]] = [heading]
    for row in rows:
        behind = row["difference"]
        values = [row["top1"], row["low"], row["high"], behind.mean, behind.low, behind.high]
        seconds = row["seconds"] if math.isfinite(row["seconds"]) else ""
        found.append([cell(row["name"]), *values, row["p"], row["beyond"], seconds])
    return found


def recipe_rows(names: Sequence[str], fields: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The table of the fields in which the runs differ."""
    rows = [[field, *map(cell, values)] for field, values in fields.items()]
    return [["field", *map(cell, names)], *rows]


def curves(compared: Sequence[Compared]) -> list[Drawn]:
    """Loss, accuracy and learning rate of all runs, validation solid, training dashed."""
    found = []
    wanted = (("loss", False), ("top1", True))
    for key, share in wanted:
        lines = []
        for place, one in enumerate(compared):
            colour = series_colour(place)
            train, val = (column(one.epochs, f"{split}_{key}") for split in ("train", "val"))
            if known(train):
                lines.append(Curve("", train, colour, dashed=True))
            if known(val):
                lines.append(Curve(one.name, val, colour, mark=one.best_epoch))
        what = "accuracy" if share else "loss"
        if lines:
            heading = f"{what}: validation, and dashed, training"
            found.append(Drawn(charts.curves(what, lines, share=share), heading))
    rates = [
        Curve(one.name, column(one.epochs, "lr"), series_colour(place))
        for place, one in enumerate(compared)
    ]
    if rates := [one for one in rates if known(one.y)]:
        found.append(Drawn(charts.curves("learning rate", rates), "learning rate"))
    return found


def differing_fields(compared: Sequence[Compared]) -> dict[str, list[str]]:
    """The recipe fields in which the runs differ, and the data if they do."""
    recipes = [{"data": one.settings.data} | one.settings.recipe.to_dict() for one in compared]
    values = {
        field: [written(recipe[field]) for recipe in recipes]
        for field in recipes[0]
        if field not in BYSTANDERS
    }
    return {field: found for field, found in values.items() if len(set(found)) > 1}


def disagreements(compared: Sequence[Compared]) -> dict[str, Any]:
    """The images that some runs get right and others wrong: how many, and those on which the runs
    are surest of different things, ones with a picture first."""
    hits = np.stack([one.hits for one in compared])
    split = np.flatnonzero(hits.any(0) & ~hits.all(0))
    pictures = gathered_pictures(compared)
    sure = np.stack([one.probabilities for one in compared])
    first = compared[0]
    ids = [first.predictions.ids[place] for place in first.rows]
    order = sorted(
        (int(one) for one in split), key=lambda i: (ids[i] not in pictures, -sure[:, i].min())
    )
    rows = []
    for place in order[:MOST_IMAGES]:
        guesses = []
        for run, one in enumerate(compared):
            guess = one.predictions.guesses[one.rows[place]]
            p = float(sure[run, place])
            guesses.append({"name": one.names[guess], "p": p, "right": bool(hits[run, place])})
        label = first.names[first.predictions.labels[first.rows[place]]]
        row = {"id": ids[place], "label": label, "guesses": guesses}
        rows.append(row | {"image": pictures.get(ids[place], "")})
    return {
        "disagreements": rows,
        "split": len(split),
        "all_right": int(hits.all(0).sum()),
        "all_wrong": int((~hits.any(0)).sum()),
    }


def gathered_pictures(compared: Sequence[Compared]) -> dict[str, str]:
    """The images of test examples that the runs' illustrations hold."""
    album = Album(PICTURES)
    found: dict[str, str] = {}
    for one in compared:
        shown = read_illustrations(one.directory, album)
        for picture in (*shown.samples, *shown.mistakes, *shown.confident, *shown.neighbours):
            found.setdefault(picture.id, picture.image)
    return found
