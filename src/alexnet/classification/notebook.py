"""What a notebook shows of a trained classifier: figures, curves, the confusion matrix. Imports no
torch, and matplotlib only to draw."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet.reporting import charts
from alexnet.reporting.charts import Curve
from alexnet.reporting.drawing import FAINT, in_notebook
from alexnet.runs.directory import RunDirectory


def figures_table(figures: Mapping[str, Any], classes: int) -> str:
    """The figures as a table."""
    solved = figures.get("solved") or {}
    held = (
        f"{figures['val_top1']:.2%} of {solved['images']:,} images" if solved.get("folds") else ""
    )
    low, high = figures.get("top1_interval", (None, None))
    between = "" if low is None else f" (95 % interval {low:.2%} to {high:.2%})"
    rows = {
        f"accuracy, {figures.get('split', 'test')} split": f"{figures['top1']:.2%}{between}",
        "copies of training images": _leaked(figures),
        "always the commonest class": f"{figures['chance']:.2%}" if "chance" in figures else "",
        "images": f"{figures['n']:,} in {classes} classes" if "n" in figures else "",
        "cross-validation": held,
        "best epoch": "" if solved else str(figures.get("best_epoch") or ""),
    }
    cells = "".join(
        f"<tr><th style='text-align: left'>{name}</th><td>{told}</td></tr>"
        for name, told in rows.items()
        if told
    )
    return f"<table>{cells}</table>"


def _leaked(figures: Mapping[str, Any]) -> str:
    """How many of the images have a copy among the training images, and what is right without
    them; nothing where none has."""
    if not (leaks := figures.get("leaks")):
        return ""
    found = figures.get("without_leaks")
    if not found:
        return f"{leaks:,}, which is all"
    low, high = found["top1_interval"]
    right = f"{found['top1']:.2%} ({low:.2%} to {high:.2%})"
    return f"{leaks:,}; of the other {found['n']:,} images {right} are right"


def run_page(run: RunDirectory) -> str:
    """The same of a run, with the accuracy over the epochs and the confusion matrix."""
    figures, epochs, predictions = run.metrics(), run.epochs(), run.predictions()
    names = [str(name) for name in figures["names"]]
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (predictions.labels, predictions.guesses), 1)
    order = charts.clustered(confusion)
    drawings = [charts.confusion_map([names[k] for k in order], confusion[np.ix_(order, order)])]
    if epochs and not figures.get("solved"):
        lines = [
            Curve("training", [one["train_top1"] for one in epochs], FAINT, dashed=True),
            Curve("validation", [one["val_top1"] for one in epochs]),
        ]
        drawings.insert(0, charts.curves("accuracy", lines, share=True))
    shown = "".join(f"<div style='flex: 1 1 380px'>{one.inline}</div>" for one in drawings)
    return in_notebook(
        f"<strong>{html.escape(str(run))}</strong>{figures_table(figures, len(names))}"
        f"<div style='display: flex; flex-wrap: wrap; gap: 1em'>{shown}</div>"
    )
