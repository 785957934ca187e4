"""The directory of a sweep: every file name in it, written and read here.

SWEEP/
    sweep.json          what is swept over which data; another sweep is refused this folder
    trials/NAME/        one run directory per trial, evaluated on validation
    stacks/NAME.safetensors     the state of trials that train side by side
    logs/NAME.log       what was said by trials that ran in other processes
    locks/NAME          held by the program that runs these trials
    optuna.db           the study of --search tpe
    results.csv         one row per trial
    configurations.csv  one row per configuration, best first
    best.json           the recipe of the best trial
    summary.json        configurations, which cannot be told apart, what mattered, the winner's test
    report.html         all of it, to look at
    figures/            each figure of that page, as PNG and SVG

Imports no torch.
"""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet import marks
from alexnet.atomic import is_taken, output_folder, read_object, write_csv, write_json
from alexnet.errors import RecipeError, RunError
from alexnet.recipes import Recipe
from alexnet.runs.directory import FIGURES, RunDirectory

CONFIGURATION_TABLE = "configurations.csv"
AGAIN = "Give the same `alexnet sweep` command again: it goes on where it was stopped."
ELSEWHERE = "Choose another --out."
Row = dict[str, str]


class SweepDirectory:
    """A sweep on disk. Making one touches nothing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    def __str__(self) -> str:
        return str(self.path)

    @property
    def begun(self) -> bool:
        """Whether a sweep was begun here."""
        return (self.path / marks.SWEEP).exists()

    def take_up(self, definition: Mapping[str, Any]) -> None:
        """Makes the directory, or checks that the one that is there is of the same sweep.

        Raises:
            RunError: it is not, or holds other files.
        """
        if not self.begun:
            if is_taken(output_folder(self.path)):
                raise RunError(f"{self.path} holds other files.", ELSEWHERE)
            write_json(self.path / marks.SWEEP, definition)
            return
        there = self.definition()
        differing = [
            f"{name}: {before.get(name)!r} there, {value!r} now"
            for before, now in ((there, definition), (there["recipe"], definition["recipe"]))
            for name, value in now.items()
            if name not in ("recipe", "draw") and before.get(name) != value
        ]
        if differing:
            raise RunError(f"{self.path} holds another sweep ({'; '.join(differing)}).", ELSEWHERE)

    def definition(self) -> dict[str, Any]:
        """What is swept over which data. The recipe is spelt as today, whoever wrote it.

        Raises:
            RunError: the file is missing, damaged, or of a newer release.
        """
        found = self._object(marks.SWEEP, ELSEWHERE)
        try:
            recipe = json.loads(json.dumps(Recipe.from_dict(found["recipe"]).to_dict()))
            if not isinstance(found["data"], str):
                raise TypeError("data is no name")
        except (KeyError, TypeError, RecipeError) as error:
            raise RunError(
                f"{self.path / marks.SWEEP} cannot be used ({error}).",
                f"It is damaged, or was written by a newer alexnet. {ELSEWHERE}",
            ) from error
        return found | {"recipe": recipe}

    @property
    def draw(self) -> str:
        """How the images of the splits of its trials are drawn; sweeps of 0.1.0 do not say it."""
        return str(self.definition().get("draw", "position")) if self.begun else "content"

    # -- trials ------------------------------------------------------------------------------------

    def trial(self, name: str) -> RunDirectory:
        """The run directory of a trial."""
        return RunDirectory(self.path / "trials" / name)

    def stack(self, name: str) -> Path:
        """Where the state of trials that train side by side is kept."""
        return self.path / "stacks" / f"{name}.safetensors"

    def remove_stacks(self) -> None:
        """Removes such states, which nobody needs once all trials have come to an end."""
        shutil.rmtree(self.path / "stacks", ignore_errors=True)

    def log(self, name: str) -> Path:
        """Where is written what is said of trials that run in another process."""
        return self.path / "logs" / f"{name}.log"

    def lock(self, name: str) -> Path:
        """The file that is locked while trials run."""
        return self.path / "locks" / name

    @property
    def study(self) -> Path:
        """The study of a search."""
        return self.path / "optuna.db"

    # -- results -----------------------------------------------------------------------------------

    @property
    def table(self) -> Path:
        """One row per trial."""
        return self.path / "results.csv"

    def write_table(self, rows: Sequence[Sequence[Any]]) -> None:
        """Writes the table, its heading first."""
        write_csv(self.table, rows)

    def rows(self) -> list[Row]:
        """The table's rows by the names in its heading.

        Raises:
            RunError: there is none, or it is damaged.
        """
        try:
            with open(self.table, newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file))
        except FileNotFoundError as error:
            raise self._unfinished(self.table.name, AGAIN) from error
        except (OSError, ValueError, csv.Error) as error:
            raise RunError(f"{self.table} cannot be read ({error}).", AGAIN) from error

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes what the sweep came to."""
        write_json(self.path / "summary.json", summary)

    def write_best(self, recipe: Recipe) -> None:
        """Writes the recipe of the best trial, which `--config SWEEP` takes."""
        write_json(self.path / marks.BEST, recipe.to_dict())

    def summary(self) -> dict[str, Any]:
        """What the sweep came to.

        Raises:
            RunError: it is not finished, or the file is damaged.
        """
        return self._object("summary.json", AGAIN)

    @property
    def page(self) -> Path:
        """Where the report is written."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """Where its figures are written."""
        return self.path / FIGURES

    def _object(self, name: str, hint: str) -> dict[str, Any]:
        try:
            return read_object(self.path / name)
        except FileNotFoundError as error:
            raise self._unfinished(name, hint) from error
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / name} cannot be read ({error}).", hint) from error

    def _unfinished(self, name: str, hint: str) -> RunError:
        return RunError(
            f"{self.path} is not the directory of a finished sweep: it has no {name}.", hint
        )
