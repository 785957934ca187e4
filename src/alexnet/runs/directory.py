"""A run directory, read without torch: how it came about, what each epoch came to, what was
predicted."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet.atomic import replacing
from alexnet.errors import RunError
from alexnet.scoring.metrics import Floats, Labels

if TYPE_CHECKING:
    from alexnet.scoring.significance import Hits  # which loads SciPy


@dataclass(frozen=True)
class RunSettings:
    """What a run directory says of how it came about."""

    data: str
    recipe: dict[str, Any]
    fingerprint: str  # of the data
    weights: str  # checksum of the weights it started from, or empty
    surroundings: list[dict[str, Any]]  # environment.json: where it began, and where it went on


def run_settings(run: Path) -> RunSettings:
    """The settings of a run directory.

    Raises:
        RunError: it is not a run directory.
    """
    try:
        saved = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
        surroundings = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        return RunSettings(
            str(saved["data"]),
            dict(saved["recipe"]),
            surroundings["data_fingerprint"],
            surroundings.get("weights_sha256", ""),
            [
                one | {"versions": dict(one.get("versions", {}))}
                for one in (surroundings, *surroundings.get("went_on", []))
            ],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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


@dataclass(frozen=True)
class Predictions:
    """What predictions.npz holds, N examples and K classes."""

    logits: Floats  # (N, K)
    labels: Labels  # (N,)
    ids: list[str]  # N
    classes: list[str]  # K

    @property
    def guesses(self) -> Labels:
        """(N,)"""
        return np.asarray(self.logits.argmax(1), dtype=np.int64)

    @property
    def hits(self) -> "Hits":
        """(N,) whether each is right."""
        return np.asarray(self.guesses == self.labels)


def read_predictions(run: Path) -> Predictions:
    """The predictions of the evaluated split.

    Raises:
        RunError: there are none, or they are damaged.
    """
    try:
        with np.load(run / "predictions.npz") as file:
            found = Predictions(
                np.asarray(file["logits"], dtype=np.float32),
                np.asarray(file["labels"], dtype=np.int64),
                [str(one) for one in file["ids"]],
                [str(one) for one in file["classes"]],
            )
        n, k = found.logits.shape
        if not n or len(found.labels) != n or len(found.ids) != n or len(found.classes) != k:
            raise ValueError("logits, labels, ids and classes do not fit together")
        if found.labels.min() < 0 or found.labels.max() >= k:
            raise ValueError("there are labels without a class")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise unfinished(run, error) from error
    return found


def read_metrics(run: Path) -> dict[str, Any]:
    """The figures of the evaluated split, as `metrics.metrics` returns them, and which epoch was
    chosen.

    Raises:
        RunError: there are none, or they are damaged.
    """
    try:
        found = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        low, high = found["top1_interval"]
        for share in (low, high, *(found[key] for key in "n top1 top5 nll ece chance".split())):
            if not isinstance(share, int | float):
                raise ValueError(f"{share!r} is no number")
        found["split"] = str(found["split"])
        return {**found, "names": [str(name) for name in found["names"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unfinished(run, error) from error


def read_epochs(run: Path) -> list[dict[str, float]]:
    """One dictionary of numbers for each epoch, as in epochs.jsonl; what is no number is left out.
    Empty where nothing was trained in epochs.

    Raises:
        RunError: the file is damaged.
    """
    path = run / "epochs.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [
            {name: one for name, one in json.loads(line).items() if isinstance(one, int | float)}
            for line in lines
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path} is damaged ({error}).", "Each line is one epoch, as JSON; mend or delete it."
        ) from error


def unfinished(run: Path, error: Exception) -> RunError:
    """The error of a run without figures."""
    return RunError(
        f"{run} has no figures that can be read ({error}).",
        "If it was not finished, go on with `alexnet train ... --resume --out RUN`.",
    )
