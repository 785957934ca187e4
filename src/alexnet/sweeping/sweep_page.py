"""A sweep directory -> one HTML page: the configurations ranked, what cannot be told apart, which
field mattered, every trial's curve. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.data.reading import title_of
from alexnet.errors import RunError
from alexnet.reporting import charts
from alexnet.reporting.charts import Curve, Level
from alexnet.reporting.drawing import ACCENT, FAINT, Drawing
from alexnet.reporting.illustrations import as_object
from alexnet.reporting.pages import Place, signed, write_page, written
from alexnet.reporting.report import Drawn, column, known
from alexnet.sweeping.directory import AGAIN, CONFIGURATION_TABLE, Row, SweepDirectory
from alexnet.sweeping.trials import told
from alexnet.words import cell


def write_sweep_page(sweep: str | Path, out: str | Path | None = None) -> Path:
    """Writes the page about a sweep, by default SWEEP/report.html, with its figures and tables
    beside it; returns its path.

    Raises:
        RunError: it is not a sweep directory, or the sweep is not finished.
    """
    directory = SweepDirectory(sweep)
    place = Place.of(directory.page, directory.figures, out)
    found = contents(directory)
    found["trials_at"] = place.link(directory.table)
    rows = configuration_rows(found["fields"], found["ranked"])
    return write_page(place, "sweep.html", found, {CONFIGURATION_TABLE: rows})


def configuration_rows(
    fields: Sequence[str], ranked: Sequence[Mapping[str, Any]]
) -> list[list[Any]]:
    """The table of the configurations, with shares from 0 to 1."""
    columns = "val_top1 low high behind behind_low behind_high tied".split()
    rows = [[*map(cell, row["settings"]), *(row[one] for one in columns)] for row in ranked]
    return [[*fields, *columns], *rows]


def contents(sweep: SweepDirectory) -> dict[str, Any]:
    """Everything the page says."""
    try:
        definition, summary, rows = sweep.definition(), sweep.summary(), sweep.rows()
        fields = list(summary["winner"])
        done = [row for row in rows if row["status"] == "done"]
        winners = set(summary["winner_trials"])
        ranked = [ranked_row(one) for one in summary["configurations"]]
        return {
            "title": f"{sweep.path.resolve().name}: sweep over {', '.join(fields)}",
            "data_name": title_of(definition["data"]),
            "val_top1": float(summary["val_top1"]),
            "judged_on": summary.get("judged_on", "validation"),  # sweeps of 0.1.0 do not say it
            "pruned": sum(row["status"] == "pruned" for row in rows),
            "counts": {key: int(summary[key]) for key in ("trials", "failed", "images", "seeds")},
            "winner": told(summary["winner"]),
            "fields": fields,
            "ranked": ranked,
            "configurations_table": CONFIGURATION_TABLE,
            "tied": sum(row["tied"] for row in ranked) - 1,
            "test": test_figures(summary["test"]),
            "curves": curves(
                sweep, [row for row in rows if row["status"] in ("done", "pruned")], winners
            ),
            "parallel": parallel(fields, done, winners),
            "effects": effects(summary, int(summary["seeds"])),
            "failed": [
                {"settings": [as_written(row[field]) for field in fields], "reason": row["reason"]}
                for row in rows
                if row["status"] == "failed"
            ],
            "seconds": sum(float(row["seconds"] or 0) for row in done),
            "command": sweep.trial(done[0]["trial"]).settings.command,
            "recipe": {k: v for k, v in definition["recipe"].items() if k not in fields},
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, StopIteration) as error:
        raise RunError(
            f"{sweep} is not the directory of a finished sweep ({type(error).__name__}: {error}).",
            AGAIN,
        ) from error


def parallel(fields: Sequence[str], rows: Sequence[Row], winners: set[str]) -> Drawing:
    """Every finished trial as a line; of several seeds of the winner, the first stands out."""
    return charts.parallel_coordinates(
        fields,
        [[as_written(row[field]) for field in fields] for row in rows],
        [float(row["val_top1"]) for row in rows],
        next(place for place, row in enumerate(rows) if row["trial"] in winners),
    )


def as_written(value: str) -> str:
    """A value of results.csv; what is empty there was none."""
    return value if value else "none"


def ranked_row(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    low, high = configuration["interval"]
    return dict(configuration) | {
        "settings": [written(value) for value in configuration["settings"].values()],
        "low": low,
        "high": high,
        "behind_low": configuration["behind_interval"][0],
        "behind_high": configuration["behind_interval"][1],
    }


def test_figures(test: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The winner on the test split: the mean over its seeds, with the interval of one seed, or the
    span of several."""
    tops = [float(one["top1"]) for one in test]
    low, high = test[0]["top1_interval"] if len(tops) == 1 else (min(tops), max(tops))
    mean = float(np.mean(tops))
    return {"top1": mean, "low": low, "high": high, "seeds": len(tops), "n": test[0]["n"]}


def curves(sweep: SweepDirectory, rows: Sequence[Row], winners: set[str]) -> list[Drawn]:
    """Validation accuracy, loss, and learning rate of all trials, the winner on top; nothing where
    none has more than one epoch, as heads that are solved."""
    order = sorted(rows, key=lambda row: row["trial"] in winners)
    epochs = {row["trial"]: sweep.trial(row["trial"]).epochs() for row in order}
    if max(map(len, epochs.values()), default=0) < 2:
        return []
    found = []
    for key, share, heading in (
        ("val_top1", True, "accuracy on validation"),
        ("val_loss", False, "loss on validation"),
        ("lr", False, "learning rate"),
    ):
        lines = []
        for row in order:
            won, values = row["trial"] in winners, column(epochs[row["trial"]], key)
            mark = int(row["best_epoch"] or 0) if won and key != "lr" else 0
            if known(values):
                lines.append(Curve("", values, ACCENT if won else FAINT, faint=not won, mark=mark))
        if lines:
            found.append(Drawn(charts.curves(heading, lines, share=share), heading))
    return found


def effects(summary: Mapping[str, Any], seeds: int) -> list[Drawn]:
    """A figure of each field: the means of its values over configurations that differ in nothing
    else, these configurations, and the interval of each value's distance from the best."""
    found = []
    for field, effect in as_object(summary["effects"]).items():
        levels = []
        for value, about in effect["values"].items():
            mean, span = float(about["mean"]), None
            if about["behind"]:
                _, low, high = about["behind"]
                span = (mean - (high - low) / 2, mean + (high - low) / 2)
            levels.append(Level(written(json.loads(value)), mean, about["scores"], span))
        levels.sort(key=lambda level: charts.by_number(level.name))
        told = in_words(effect, "" if seeds > 1 else " on these images")
        found.append(Drawn(charts.main_effect(field, levels), field, told))
    return found


def in_words(effect: Mapping[str, Any], here: str) -> str:
    """What a field did, and `here`, where the intervals are about no more than these trainings."""
    low, high = effect["interval"]
    points = f"{signed(effect['difference'])} points of accuracy, most likely {signed(low)} to "
    points += signed(high)
    best, worst = written(effect["best"]), written(effect["worst"])
    if effect["verdict"] == "none at all":
        return (
            "It did nothing at all: whatever its value, every prediction is the same to the last "
            "bit. Is it used by this recipe?"
        )
    if not effect["difference"]:
        return "It made no difference: all its values did equally well."
    if effect["verdict"] == "matters":
        return f"It matters: {best} instead of {worst} brings {points}{here}."
    return (
        f"It may not matter: {best} instead of {worst} brought {points}{here}, which chance alone "
        "could have done."
    )
