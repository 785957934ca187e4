"""What the loss of an image weighs where classes are of very different sizes."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.console import say
from alexnet.data.names import find_class
from alexnet.data.splits import Splits
from alexnet.data.store import Store
from alexnet.errors import DataError, RecipeError
from alexnet.recipes import WEIGHT_RULES, Resolved
from alexnet.scoring.metrics import Labels

EXAMPLE = "Expected a line for each class, as in: cat,2.5 (.csv), or {'cat': 2.5} (.json)."


def class_weights(
    rule: str, counts: NDArray[np.int64], classes: Sequence[str], names: Sequence[str]
) -> tuple[float, ...]:
    """The weight of each of K classes; their mean over the training images is 1, so that the rate
    means what it did.

    Args:
        rule: "none" (no weights), "balanced" (each class weighs the same in all), "effective" (the
            effective number of images of Cui et al., "Class-balanced loss", 2019, with beta = 1 -
            1/N for N images), or the path of a file of classes and weights.
        counts: (K,) training images.
        classes, names: their identifiers, and readable names; a file may have either.

    Raises:
        RecipeError: a file that cannot be read, a class that there is not, a weight that is none.
    """
    if rule == "none":
        return ()
    total = int(counts.sum())
    if rule == "balanced":
        found = 1 / np.maximum(counts, 1)
    elif rule == "effective":
        beta = 1 - 1 / total
        found = (1 - beta) / (1 - beta ** np.maximum(counts, 1))
    else:
        found = np.array(_of_file(Path(rule).expanduser(), classes, names))
    scaled = found * total / float((found * counts).sum())
    return tuple(float(one) for one in scaled)


def evened_out(
    store: Store, splits: Splits, recipe: Resolved, guesses: Labels, plain: Sequence[Any] | None
) -> dict[str, Any]:
    """What weights or a balanced draw came to, JSON-ready: for each class the training images, what
    the loss of each weighs, the validation images, the share of these that was found, and the same
    of an equal training without (`plain`, or None).

    Args:
        guesses: (N,) of the validation images.
    """
    classes = len(store.classes)
    truth = store.y[splits.val]
    counts = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[guesses == truth], minlength=classes)
    return {
        "images": np.bincount(store.y[splits.train], minlength=classes).tolist(),
        "weights": list(recipe.loss_weights) or [1.0] * classes,
        "sampling": recipe.sampling,
        "val_images": counts.tolist(),
        "val_recall": [float(h / n) if n else None for h, n in zip(hits, counts, strict=True)],
        "plain_val_recall": plain,
    }


def _of_file(path: Path, classes: Sequence[str], names: Sequence[str]) -> list[float]:
    weights: dict[int, float] = {}
    for name, value in _pairs(path):
        try:
            label = find_class(name, classes, names)
        except DataError as error:
            raise RecipeError(
                f"{path} has a weight for {name!r}: {error.message}", error.hint
            ) from error
        try:
            weight = float(value)
        except (TypeError, ValueError):
            weight = math.nan
        if not 0 < weight < math.inf or label in weights:
            said = "a second weight" if label in weights else f"the weight {value!r}"
            raise RecipeError(f"{path} has {said} for {name!r}, expected one above 0.", EXAMPLE)
        weights[label] = weight
    missing = [name for label, name in enumerate(classes) if label not in weights]
    if missing:
        say(f"{path} has no weight for {', '.join(missing[:10])}: 1")
    return [weights.get(label, 1.0) for label in range(len(classes))]


def _pairs(path: Path) -> list[tuple[str, Any]]:
    """What a file says, as it stands there."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            found = json.loads(text)
            if not isinstance(found, dict):
                raise ValueError("it is no object")
            return list(found.items())
        rows = [row for row in csv.reader(text.splitlines(), strict=True) if row]
        if any(len(row) != 2 for row in rows):
            raise ValueError("expected two columns")
        headed = [one.strip().lower() for one in rows[0]] == ["class", "weight"] if rows else False
        return [(name, weight) for name, weight in rows[headed:]]
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        known = f"{', '.join(WEIGHT_RULES)}, or a .csv or .json file"
        raise RecipeError(
            f"the class weights {path} cannot be read ({error}); expected {known}.", EXAMPLE
        ) from error
