"""A run directory, read without torch: how it came about, what each epoch came to, what was
predicted."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.atomic import replacing
from alexnet.errors import RunError
from alexnet.metrics import Floats, Labels


@dataclass(frozen=True)
class RunSettings:
    """What a run directory says of how it came about."""

    data: str
    recipe: dict[str, Any]
    fingerprint: str  # of the data
    weights: str  # checksum of the weights it started from, or empty


def run_settings(run: Path) -> RunSettings:
    """The settings of a run directory.

    Raises:
        RunError: it is not a run directory.
    """
    try:
        saved = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
        surroundings = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        return RunSettings(
            saved["data"],
            saved["recipe"],
            surroundings["data_fingerprint"],
            surroundings.get("weights_sha256", ""),
        )
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{run} is not a run directory ({error}).",
            "Give the folder that `alexnet train` printed.",
        ) from error


def save_predictions(
    path: Path, logits: Floats, labels: Labels, ids: list[str], classes: list[str]
) -> None:
    """predictions.npz: logits (N, K), labels (N,), ids (N,), classes (K,)."""
    with replacing(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(
            file, logits=logits, labels=labels, ids=np.array(ids), classes=np.array(classes)
        )
