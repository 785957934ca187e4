"""The run directory, the only interface between training and everything after it: every file name
in it, written and read here, with one answer to what is missing, damaged, older or newer.

RUN/
    recipe.json         what was asked, what it came to, the data's path, and the digest
    environment.json    versions, machine, device, threads, precision, data fingerprint, command
                        line; went_on: the same of each resumption where other bits come out
    epochs.jsonl        one line per epoch (loop.Epoch)
    best.safetensors    weights of the epoch that is kept, with network, classes, preprocessing
    last.safetensors    everything needed to go on bit for bit
    metrics.json        metrics.metrics of the evaluated split, and which epoch was chosen
    predictions.npz     logits (N, K), labels (N,), ids (N,), classes (K,) of that split
    calibration.npz     conformal.Calibration: with what the network says that it does not know
    illustrations.json  pictures for the report, as data URIs
    data.json           the state of the data: images of each class, duplicates, leaks
    learning-curve.json what more images would come to
    lr.json, lr.svg     what the learning-rate finder suggests, and its curve
    report.html         all of it, to look at
    figures/            each figure of that page, as PNG and SVG
    epochs.csv, classes.csv, confusion.csv, network.csv     its tables
    events.out.*        TensorBoard
    failed.json, pruned.json, test.json     of a trial of a sweep: why it has no figures, or the
                        winner's figures on the test split

Missing or damaged: RunError that names the file and what to do. Older: fields it lacks are what
releases without them did (`recipes.NEWER`). Newer: refused, with the version that wrote it. Torch
is imported only to read weights.
"""

import contextlib
import dataclasses
import itertools
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from alexnet import marks
from alexnet.atomic import (
    disk_error,
    from_json,
    is_leftover,
    is_number,
    is_taken,
    output_folder,
    read_arrays,
    read_object,
    remove_leftovers,
    replacing,
    sealed,
    unsealed,
    write_json,
)
from alexnet.console import warn
from alexnet.errors import RecipeError, RunError
from alexnet.holding import one_at_a_time
from alexnet.recipes import Recipe, Resolved

if TYPE_CHECKING:  # NumPy is imported where arrays are read and written: paths are judged sooner
    from alexnet.network.checkpoint import Network, Trained
    from alexnet.scoring.conformal import Calibration
    from alexnet.scoring.metrics import Floats, Labels
    from alexnet.scoring.significance import Hits  # which loads SciPy

NOT_A_RUN = "Give the folder that `alexnet train` printed; if this is data, train on it first."
UNFINISHED = (
    "If the run was not finished, go on with it: alexnet resume RUN. If it was, put the file back, "
    "or train again: alexnet repeat RUN"
)
# what a run goes on from
STATE = (marks.RUN, marks.AROUND, "lr.json", "best.safetensors", "last.safetensors")
FIGURES = "figures"  # the folder of a page's figures
EPOCH_TABLE, CLASS_TABLE = "epochs.csv", "classes.csv"
CONFUSION_TABLE, NETWORK_TABLE = "confusion.csv", "network.csv"
PREDICTED = {"logits": "f", "labels": "i", "ids": "U", "classes": "U"}  # kinds of the arrays


@dataclass(frozen=True)
class Settings:
    """How a run came about."""

    data: str  # a name or a path
    asked: Recipe
    recipe: Recipe  # Resolved, but of runs of 0.1.0, which left some fields open
    surroundings: list[dict[str, Any]]  # environment.json: where it began, and where it went on
    digest: str
    # what was asked before it went on with more epochs, each time: those fields, the oldest first
    continued: Sequence[Mapping[str, int]] = ()

    @property
    def fingerprint(self) -> str:
        """Of the data."""
        return str(self.surroundings[0]["data_fingerprint"])

    @property
    def weights_sha256(self) -> str:
        """Of the weights it started from, or empty."""
        return str(self.surroundings[0].get("weights_sha256", ""))

    @property
    def draw(self) -> str:
        """How the images of its splits were drawn."""
        return self.recipe.draw if isinstance(self.recipe, Resolved) else "position"

    @property
    def shards(self) -> int | Literal["auto"]:
        """Into how many its batches are cut."""
        return 1 if self.recipe.shards == "auto" else self.recipe.shards  # older runs: whole ones

    @property
    def command(self) -> str:
        """The command line that began the run."""
        words = self.surroundings[0].get("command")
        return shlex.join(map(str, words)) if isinstance(words, list) else "unknown"


@dataclass(frozen=True)
class Predictions:
    """What predictions.npz holds, N examples and K classes."""

    logits: "Floats"  # (N, K)
    labels: "Labels"  # (N,)
    ids: list[str]  # N
    classes: list[str]  # K

    @property
    def guesses(self) -> "Labels":
        """(N,)"""
        return cast("Labels", self.logits.argmax(1))

    @property
    def hits(self) -> "Hits":
        """(N,) whether each is right."""
        return cast("Hits", self.guesses == self.labels)

    def save(self, path: Path) -> None:
        """Writes them to an .npz file."""
        import numpy as np

        with replacing(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(
                file,
                logits=self.logits,
                labels=self.labels,
                ids=np.array(self.ids),
                classes=np.array(self.classes),
            )


class RunDirectory:
    """A run on disk. Making one touches nothing; every read looks at the disk anew, but for
    `settings`, which never change."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    def __str__(self) -> str:
        return str(self.path)

    # -- what is there -----------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether a run was begun here."""
        return self._has(marks.RUN, marks.AROUND)

    @property
    def just_begun(self) -> bool:
        """Whether a program was killed before it had written its second file."""
        if not self.path.is_dir():
            return False
        return {one.name for one in self.path.iterdir() if not is_leftover(one.name)} <= {marks.RUN}

    @property
    def trained(self) -> bool:
        """Whether it has the weights of a best epoch."""
        return self._has("best.safetensors")

    @property
    def stopped(self) -> bool:
        """Whether it holds a state to go on from."""
        return self._has("last.safetensors")

    @property
    def evaluated(self) -> bool:
        """Whether it has figures."""
        return self._has("metrics.json")

    @property
    def status(self) -> str:
        """Of a trial: done, failed, pruned, or missing."""
        if self.evaluated:
            return "done"
        return next((s for s in ("failed", "pruned") if self._has(f"{s}.json")), "missing")

    def _has(self, *names: str) -> bool:
        return all((self.path / name).exists() for name in names)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While the block runs nobody else writes here; what killed writers left is removed.

        Raises:
            RunError: another program writes here.
        """
        with one_at_a_time(self.path, f"{self.path} is being written"):
            remove_leftovers(self.path)
            yield

    # -- how it came about -------------------------------------------------------------------------

    def begin(
        self, data: str, asked: Recipe, recipe: Resolved, surroundings: Mapping[str, Any]
    ) -> None:
        """Makes the directory: recipe.json and environment.json."""
        self.write_recipe(data, asked, recipe)
        write_json(self.path / marks.AROUND, surroundings)

    def write_recipe(
        self,
        data: str,
        asked: Recipe,
        recipe: Resolved,
        continued: Sequence[Mapping[str, int]] = (),
    ) -> None:
        """Writes what was asked and what it came to, and what was asked before."""
        both = {"recipe": recipe.to_dict(), "asked": asked.to_dict()}
        more = {"continued": [dict(one) for one in continued]} if continued else {}
        write_json(self.path / marks.RUN, {"data": data, **both, **more, "digest": asked.digest})
        self.__dict__.pop("settings", None)

    def note_going_on(self, surroundings: dict[str, Any]) -> None:
        """Writes down that the run goes on where other bits come out."""
        began, *went_on = self.settings.surroundings
        write_json(self.path / marks.AROUND, began | {"went_on": [*went_on, surroundings]})
        self.__dict__.pop("settings", None)

    @cached_property
    def settings(self) -> Settings:
        """How the run came about.

        Raises:
            RunError: it is no run directory, or was written by a newer release.
        """
        saved = self._object(marks.RUN, NOT_A_RUN)
        around = self._object(marks.AROUND, NOT_A_RUN)
        try:
            began = around | {"versions": dict(around.get("versions", {}))}
            later = [one | {"versions": dict(one["versions"])} for one in around.get("went_on", [])]
            str(around["data_fingerprint"])
            fields, asked = dict(saved["recipe"]), dict(saved.get("asked") or saved["recipe"])
            data, digest = str(saved["data"]), str(saved.get("digest", ""))
            continued = [dict(one) for one in saved.get("continued", [])]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(marks.RUN, error, NOT_A_RUN) from error
        written_by = str(began["versions"].get("alexnet", "an unknown version"))
        recipe = self._recipe(Resolved if "asked" in saved else Recipe, fields, written_by)
        whole = self._recipe(Recipe, asked, written_by)
        return Settings(data, whole, recipe, [began, *later], digest, continued)

    def _recipe(self, kind: type[Recipe], fields: dict[str, Any], written_by: str) -> Recipe:
        known = {field.name for field in dataclasses.fields(kind)}
        unknown = sorted(set(fields) - known)
        if unknown:
            from alexnet import __version__

            raise RunError(
                f"{self.path / marks.RUN} has fields that alexnet {__version__} does not know: "
                f"{', '.join(unknown)}; the run was written by alexnet {written_by}.",
                "Use the version that wrote it, or a newer one.",
            )
        try:
            return kind.from_dict(fields)
        except RecipeError as error:
            raise self._damaged(marks.RUN, error.message, NOT_A_RUN) from error

    # -- what each epoch came to -------------------------------------------------------------------

    def write_epochs(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Writes epochs.jsonl anew."""
        words = "".join(json.dumps(one) + "\n" for one in epochs).encode("ascii")
        with replacing(self.path / "epochs.jsonl") as aside:
            aside.write_bytes(sealed(words) if words else b"")

    def epochs(self) -> list[dict[str, float]]:
        """One dictionary of numbers for each epoch; what is no number is left out. Empty where
        nothing was trained in epochs.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / "epochs.jsonl"
        try:
            data = path.read_bytes() if path.exists() else None
            if data == b"" and self.evaluated:
                raise ValueError("it is empty")
            lines = unsealed(data or b"").decode("utf-8").splitlines()
            return [
                {key: one for key, one in from_json(line).items() if is_number(one)}
                for line in lines
            ]
        except (OSError, ValueError, AttributeError) as error:
            raise self._damaged(
                path.name, error, "Each line is one epoch, as JSON; mend or delete it."
            ) from error

    # -- figures -----------------------------------------------------------------------------------

    def write_figures(self, figures: Mapping[str, Any], predictions: Predictions) -> None:
        """Writes predictions.npz and metrics.json; the latter, written last, says that the run is
        done."""
        predictions.save(self.path / "predictions.npz")
        write_json(self.path / "metrics.json", figures)

    def forget_figures(self) -> None:
        """Takes them away, because the run goes on."""
        for name in ("metrics.json", "predictions.npz", "calibration.npz"):
            (self.path / name).unlink(missing_ok=True)

    def metrics(self) -> dict[str, Any]:
        """The figures of the evaluated split, as `metrics.metrics` returns them, and which epoch
        was chosen.

        Raises:
            RunError: there are none, or they are damaged.
        """
        return self._figures("metrics.json")

    def write_test(self, figures: Mapping[str, Any]) -> None:
        """Keeps the figures on the test split of a sweep's winner, which are looked at once."""
        write_json(self.path / "test.json", figures)

    def test(self) -> dict[str, Any] | None:
        """These figures; None where there are none. Errors as in `metrics`."""
        return self._figures("test.json") if self._has("test.json") else None

    def _figures(self, name: str) -> dict[str, Any]:
        found = self._object(name, UNFINISHED)
        try:
            low, high = found["top1_interval"]
            for share in (low, high, *(found[key] for key in "n top1 top5 nll ece chance".split())):
                if not is_number(share):
                    raise ValueError(f"{share!r} is no number")
            if not isinstance(found["n"], int) or not isinstance(found["names"], list):
                raise ValueError("it does not say how many images and which classes there are")
            found["split"] = str(found["split"])
            return {**found, "names": [str(one) for one in found["names"]]}
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(name, error, UNFINISHED) from error

    def predictions(self) -> Predictions:
        """The predictions of the evaluated split.

        Raises:
            RunError: there are none, or they are damaged.
        """
        import numpy as np

        name = "predictions.npz"
        try:
            arrays = read_arrays(self.path / name, PREDICTED)
            if len(arrays) < len(PREDICTED) or arrays["logits"].ndim != 2:
                raise ValueError("it has not all of logits, labels, ids and classes")
            n, k = arrays["logits"].shape
            sizes = {"logits": (n, k), "labels": (n,), "ids": (n,), "classes": (k,)}
            if not n or any(
                arrays[part].shape != size or arrays[part].dtype.kind != PREDICTED[part]
                for part, size in sizes.items()
            ):
                raise ValueError("logits, labels, ids and classes do not fit together")
            found = Predictions(
                arrays["logits"].astype(np.float32),
                arrays["labels"].astype(np.int64),
                [str(one) for one in arrays["ids"]],
                [str(one) for one in arrays["classes"]],
            )
            if found.labels.min() < 0 or found.labels.max() >= k:
                raise ValueError("there are labels without a class")
            if not np.isfinite(found.logits).all():
                raise ValueError("there are logits that are no numbers")
        except FileNotFoundError as error:
            raise self._missing(name, UNFINISHED) from error
        except (OSError, ValueError) as error:
            raise self._damaged(name, error, UNFINISHED) from error
        return found

    @property
    def calibrated(self) -> bool:
        """Whether it can be asked with what it may say that it does not know."""
        return self._has("calibration.npz")

    def write_calibration(self, calibration: "Calibration") -> None:
        """Keeps it."""
        import numpy as np

        with replacing(self.path / "calibration.npz") as aside, open(aside, "wb") as file:
            np.savez(file, **vars(calibration))  # compressed a tenth smaller, after 0.1 s

    def calibration(self, width: int = 0) -> "Calibration":
        """What the network needs to say that it does not know; `width` is that of its descriptors,
        where it is known.

        Raises:
            RunError: there is none, or it is damaged.
        """
        from alexnet.scoring.conformal import Calibration

        name, hint = "calibration.npz", "Delete it: predict --abstain makes it again."
        try:
            names = [one.name for one in dataclasses.fields(Calibration)]
            arrays = read_arrays(self.path / name, names)
            if len(arrays) < len(names):
                raise ValueError(f"it has not all of {', '.join(names)}")
            found = Calibration(**arrays).checked()
            if not len(found.memory) or width not in (0, found.memory.shape[1]):
                raise ValueError("what it remembers is not of this network")
            return found
        except FileNotFoundError as error:
            raise self._missing(name, hint) from error
        except (OSError, ValueError) as error:
            raise self._damaged(name, error, hint) from error

    # -- weights -----------------------------------------------------------------------------------

    @property
    def best(self) -> Path:
        """Where the weights of the best epoch are."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Where the state to go on from is."""
        return self.path / "last.safetensors"

    def network(self) -> "Network":
        """The network of the best epoch.

        Raises:
            RunError: there is none (yet). WeightsError: the file is damaged.
        """
        from alexnet.network.checkpoint import load_network

        return load_network(self._weights())

    def load(self) -> "Trained":
        """The same, ready to be used. Errors as in `network`."""
        from alexnet.network.checkpoint import load_model

        return load_model(self._weights())

    def require_trained(self) -> None:
        """RunError unless it has weights; without reading them."""
        self._weights()

    def _weights(self) -> Path:
        if self.path.is_file():  # the weights file itself
            return self.path
        if not self.trained:
            if self._has(marks.RUN):
                raise RunError(
                    f"{self.path} was not finished: it has no best.safetensors.", UNFINISHED
                )
            raise self._missing(marks.RUN, NOT_A_RUN)
        return self.best

    # -- what others add ---------------------------------------------------------------------------

    def write_illustrations(self, pictures: Mapping[str, Any]) -> Path:
        """Keeps pictures for the report."""
        write_json(self.path / "illustrations.json", pictures)
        return self.path / "illustrations.json"

    def illustrations(self) -> dict[str, Any]:
        """The pictures; nothing where there are none, or where they are damaged, which is said."""
        return self._optional("illustrations.json")

    def write_data_state(self, state: Mapping[str, Any]) -> None:
        """Keeps what the data looked like."""
        write_json(self.path / "data.json", state)

    def data_state(self) -> dict[str, Any]:
        """What the data looked like; nothing where that is not known, or damaged, which is
        said."""
        return self._optional("data.json")

    def write_learning_curve(self, found: Mapping[str, Any]) -> None:
        """Keeps what more images would come to."""
        write_json(self.path / "learning-curve.json", found)

    def learning_curve(self) -> dict[str, Any]:
        """The same; nothing where nobody has asked, or it is damaged, which is said."""
        return self._optional("learning-curve.json")

    @property
    def lr_curve(self) -> Path:
        """Where the curve of the learning-rate finder is drawn."""
        return self.path / "lr.svg"

    def write_suggestion(self, suggestion: Mapping[str, Any]) -> None:
        """Keeps what the learning-rate finder found; written last, it says that it is done."""
        write_json(self.path / "lr.json", suggestion)

    def suggested_lr(self) -> float | None:
        """The learning rate that was found; None where none was looked for.

        Raises:
            RunError: the file is damaged.
        """
        if not self._has("lr.json"):
            return None
        hint = "Delete it; the rate is looked for again."
        try:
            rate = self._object("lr.json", hint)["lr"]
            if not is_number(rate) or rate <= 0:
                raise ValueError(f"{rate!r} is no learning rate")
            return float(rate)
        except (KeyError, ValueError) as error:
            raise self._damaged("lr.json", error, hint) from error

    def write_failed(self, reason: str) -> None:
        """Notes why a trial has no figures."""
        write_json(self.path / "failed.json", {"reason": reason})

    def failure(self) -> str:
        """Why a trial failed."""
        return str(self._optional("failed.json").get("reason", "unknown"))

    def write_pruned(self, epoch: int) -> None:
        """Notes that a trial was given up after an epoch."""
        write_json(self.path / "pruned.json", {"epoch": epoch})

    @property
    def page(self) -> Path:
        """Where the report is written."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """Where its figures are written."""
        return self.path / FIGURES

    def about(self) -> dict[str, Any]:
        """What the weights of the best epoch say of themselves: network, classes, preprocessing.
        Errors as in `network`."""
        from alexnet.network.header import load_description

        return load_description(self._weights())

    def exported(self, format: str) -> Path:
        """Where an exported file is written, if nobody says otherwise."""
        return self.path / ("web" if format == "web" else f"model.{format}")

    # -- sending it elsewhere ----------------------------------------------------------------------

    def packed(self) -> dict[str, bytes]:
        """The content of every file but the state to go on from, by its name."""
        return {
            path.relative_to(self.path).as_posix(): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path != self.last
        }

    def unpack(self, files: Mapping[str, bytes]) -> None:
        """Writes such files; those that say how a trial ended come last."""
        ends = ("metrics.json", "failed.json", "pruned.json")
        for name in sorted(files, key=lambda one: (one in ends, one)):
            with replacing(self.path / name) as aside:
                aside.write_bytes(files[name])

    # -- reading -----------------------------------------------------------------------------------

    def _object(self, name: str, hint: str) -> dict[str, Any]:
        try:
            return read_object(self.path / name)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._missing(name, hint) from error
        except (OSError, ValueError) as error:
            raise self._damaged(name, error, hint) from error

    def _optional(self, name: str) -> dict[str, Any]:
        if not self._has(name):
            return {}
        try:
            return self._object(name, "")
        except RunError as error:
            warn(f"{error.message} It is left out.")
            return {}

    def _missing(self, name: str, hint: str) -> RunError:
        if not self.path.exists():
            return RunError(f"there is nothing at {self.path}.", "Check the path.")
        if (self.path / marks.SWEEP).exists():
            return RunError(
                f"{self.path} is the directory of a sweep, not of a run: it has no {name}.",
                f"Its trials are runs: {self.path / 'trials'}/NAME.",
            )
        if self.exported("onnx").exists() and name == marks.RUN:
            return RunError(
                f"{self.path} is an exported page, not a run.", f"Give {self.exported('onnx')}."
            )
        if name in (marks.RUN, marks.AROUND):
            return RunError(f"{self.path} is not a run directory: it has no {name}.", hint)
        return RunError(f"the run {self.path} has no {name}.", hint)

    def _damaged(self, name: str, error: object, hint: str) -> RunError:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        return RunError(f"{self.path / name} is damaged ({reason}).", hint)

    def require_empty(self) -> None:
        """RunError if it holds a run or other files; what killed writers left does not count."""
        if is_taken(output_folder(self.path)):
            holds = "another run" if self._has(marks.RUN) else "other files"
            raise RunError(
                f"{self.path} holds {holds}.",
                "Choose another --out, or go on with that run: alexnet resume RUN",
            )


def require_named(out: str | Path) -> None:
    """RunError unless it is said which run is gone on with."""
    if not out:
        raise RunError("--resume needs to know which run.", "Name it: --out RUN")


def new_run_directory(stem: str) -> RunDirectory:
    """The next free `runs/<stem>`, which is made."""
    for count in itertools.count(1):
        path = Path("runs") / (stem if count == 1 else f"{stem}-{count}")
        with contextlib.suppress(FileExistsError):
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                raise
            except OSError as error:
                raise disk_error(error, path) from error
            return RunDirectory(path)
    raise AssertionError("numbers do not end")
