"""A space of recipes -> trials -> results that say what is signal and what is noise.

Validation chooses. The test split is looked at once, for the winner.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from alexnet.console import in_words, say
from alexnet.data.finding import lasting
from alexnet.data.handed import Given, given
from alexnet.data.reading import title_of
from alexnet.data.sources import Data, Source
from alexnet.errors import RecipeError
from alexnet.presets import study as named_study
from alexnet.recipes import Recipe, digest_of
from alexnet.runs.choice import settled
from alexnet.runs.configs import Asked, asked_for
from alexnet.runs.network import idle_fields, require_sound
from alexnet.runs.resolution import resolve
from alexnet.runtime import as_found
from alexnet.sweeping.directory import SweepDirectory
from alexnet.sweeping.results import Result, result, summarise, write_results
from alexnet.sweeping.search import TpeSearch
from alexnet.sweeping.sweep_page import write_sweep_page
from alexnet.sweeping.trial_runs import Job
from alexnet.sweeping.trials import (
    TRIALS,
    Point,
    Range,
    Space,
    Trial,
    grid_points,
    plan,
    points_of,
    random_points,
    require_used,
    space_of,
    stacks,
    study_points,
    told,
    typed,
)
from alexnet.sweeping.workers import here, in_processes, on_ray
from alexnet.training.train import prepare
from alexnet.values import Count, Whole, checked_arguments

A_FEW = 20  # points of a space without end, to look at


@checked_arguments
@as_found()
def sweep(
    data: Given = "",
    recipe: Asked = None,
    grid: Mapping[str, Any] | Sequence[Point] | None = None,
    *,
    study: str = "",
    config: str | Path = "",
    out: str | Path | None = None,
    seeds: Count | None = None,
    random: Whole = 0,
    search: Literal["grid", "tpe"] = "grid",
    trials: Count = TRIALS,
    max_trials: Count = 200,
    jobs: Count = 1,
    nproc: Count = 1,
    ray: str = "",
    **fields: Any,
) -> Path:
    """Runs every trial that is not done yet, chooses on validation, and evaluates the winner once
    on the test split. Returns the sweep directory.

    `alexnet.sweep("photos", grid={"lr": [0.1, 0.01]}, epochs=5)` sweeps one field of the preset
    that suits the data, and changes another for all trials.

    Args:
        data: as for `train`; a study brings its own along.
        recipe, config, fields: what all trials have in common, as for `train`.
        grid: for each swept field its values or their range, such as "0.001..0.1"; or a list of
            points, each field: value.
        study: a named sweep instead of a recipe and a grid; see `alexnet recipes`.
        out: the sweep directory. One that is there is gone on with: what is done stays.
        seeds: how many seeds for each point, from the recipe's own upwards; 1 unless a study says
            otherwise.
        random: how many points, drawn from the grid; 0 for all.
        search: "grid", or "tpe": Optuna chooses each point from what the ones before came to.
        trials: how many points "tpe" tries.
        max_trials: refuse more than these.
        jobs: how many trainings at once, each in a process of its own.
        nproc: how many processes train each trial together, see `docs/scale.md`; a trial then is
            cut into as many shards, unless the recipe says otherwise.
        ray: "local", or the address of a Ray cluster that runs the trainings.

    Raises:
        RecipeError: the grid cannot be swept, or a study brings one. RunError: `out` holds another
            sweep. InputError: Ray or Optuna are not there.
        Interrupted: after Ctrl-C; the same command goes on.
    """
    if study:
        if grid is not None:
            raise RecipeError("study and grid both say what to sweep.", "Leave one out.")
        named = named_study(study)
        data, seeds = data or named.data, seeds or named.seeds
        recipe, grid = recipe or named.base, study_points(named)
    seeds = seeds or 1
    require_used(search, random, trials)
    space = space_of({} if grid is None else grid)
    data = given(data)
    if isinstance(data, Source):  # trials run in processes of their own
        data = prepare(data, recipe, config=config, **fields)
    asked = asked_for(str(data), recipe, config=config, **fields)
    base, chosen = base_of(data, asked, space, out)
    if nproc > 1:
        base = in_shards(base, nproc)
    planned = (
        []
        if search == "tpe"
        else plan(base, points_of(space, random, base.seed), seeds=seeds, max_trials=max_trials)
    )
    first = resolve(planned[0].recipe if planned else base)
    definition = {
        "fingerprint": first.open_store(data).fingerprint,
        "data": lasting(str(data)),
        "recipe": base.to_dict(),
        "grid": plain(space),
        "seeds": seeds,
        "random": random,
        "search": search,
    }
    digest = digest_of(definition | {"recipe": base.unchanging()})
    definition = json.loads(json.dumps(definition | {"draw": "content"}))
    folder = SweepDirectory(out or Path("runs") / f"sweep-{Path(title_of(data)).stem}-{digest}")
    for trial in planned if not folder.begun else []:
        require_sound(trial.recipe)
    folder.take_up(definition)
    where = str(definition["data"])
    if search == "tpe":
        if not isinstance(space, dict):
            raise RecipeError("--search tpe needs values or ranges, not listed points.", "")
        tpe = TpeSearch(where, folder, base, space, seeds, trials)
        todo, count = tpe.jobs(), trials * seeds
    else:
        tpe, count = None, len(planned)
        todo = missing_jobs(where, folder, planned)
    say(f"{count} trials of {title_of(data)}; writing to {folder}")
    if chosen:
        say(chosen)
    results = [result(folder, trial) for trial in (tpe.trials() if tpe else planned)]
    clock = Clock(count, results)
    for job in jobs_done((replace(job, nproc=nproc) for job in todo), jobs, nproc, ray):
        if tpe:
            tpe.tell(job)
        results = [result(folder, trial) for trial in (tpe.trials() if tpe else planned)]
        write_results(folder, results)
        clock.tell(job, results)
    folder.remove_stacks()
    summarise(folder, results)
    say(f"report: {write_sweep_page(folder.path)}")
    return folder.path


def missing_jobs(data: str, folder: SweepDirectory, planned: Sequence[Trial]) -> Iterator[Job]:
    """The trainings of a plan that are not done yet; what trains side by side is one."""
    for stack in stacks(planned):
        job = Job(data, folder, tuple(stack), folder.draw)
        if job.missing:
            yield job


def jobs_done(todo: Iterator[Job], jobs: int, nproc: int, ray: str) -> Iterator[Job]:
    """Each job, when it is done; arguments as for `sweep`."""
    if ray:
        return on_ray(todo, ray, 0 if jobs == 1 else jobs, nproc)
    return in_processes(todo, jobs) if jobs > 1 else here(todo)


def base_of(
    data: Data, asked: Recipe, space: Space | Sequence[Point], out: str | Path | None
) -> tuple[Recipe, str]:
    """What the trials of a sweep in `out` have in common, and what there is to say about that. One
    of 0.1.0, which knew no backbone, goes on from scratch."""
    there = SweepDirectory(out) if out else None
    goes_on = there is not None and there.begun
    began = str(there.definition()["recipe"]["weights"]) if there and goes_on else ""
    swept = {name for point in ([space] if isinstance(space, dict) else space) for name in point}
    base, told = settled(data, asked, "none" if began == "none" else "", swept)
    if isinstance(space, dict) and not goes_on:
        require_effect(base, space)
    return base, f"each trial: {told}" if told else ""


def require_effect(base: Recipe, space: Space) -> None:
    """RecipeError where a field is swept that has no effect at any point."""
    ranges = any(isinstance(values, Range) for values in space.values())
    points = random_points(space, A_FEW, base.seed) if ranges else grid_points(space)
    idle: dict[str, str] | None = None  # at all points so far
    for point in points:
        with contextlib.suppress(RecipeError):  # whoever plans the point says so, or passes it over
            why = idle_fields(base.replace(**typed(point)))
            idle = {name: why[name] for name in (space if idle is None else idle) if name in why}
        if idle == {}:
            return
    for name, why_not in (idle or {}).items():
        raise RecipeError(
            f"{name} is swept, but has no effect: {why_not}.", "Leave it out of the grid."
        )


def in_shards(base: Recipe, nproc: int) -> Recipe:
    """What trials have in common that several processes train together, each.

    Raises:
        RecipeError: there is nothing to share.
    """
    if base.freeze != "none" and base.cache:
        raise RecipeError(
            f"nproc is {nproc}, but heads on cached features train side by side in one process.",
            "Leave out --nproc; --jobs trains several at once.",
        )
    return base.replace(shards=nproc) if base.shards == "auto" else base


def plain(space: Space | Sequence[Point]) -> Any:
    """JSON-ready."""
    if not isinstance(space, dict):
        return list(space)
    return {name: str(one) if isinstance(one, Range) else one for name, one in space.items()}


class Clock:
    """What is done, and how long the rest will take."""

    def __init__(self, count: int, results: Sequence[Result]) -> None:
        self.count, self.begun = count, time.monotonic()
        self.before = done_of(results)

    def tell(self, job: Job, results: Sequence[Result]) -> None:
        """One line about a job that is done."""
        mine = {trial.name for trial in job.trials}
        done = done_of(results)
        scores = [o.val_top1 for o in results if o.trial.name in mine and o.val_top1 is not None]
        what = told(job.trials[0].settings) if len(job.trials) == 1 else f"{len(mine)} trials"
        judged = job.trials[0].judged_on
        came = f"{judged} top-1 {min(scores):.2%}" if scores else "failed"
        if scores and max(scores) > min(scores):
            came += f" to {max(scores):.2%}"
        left = self.count - done
        seconds = (time.monotonic() - self.begun) / max(done - self.before, 1) * left
        rest = f"; about {in_words(seconds)} left" if left > 0 else ""
        say(f"{what}: {came}; {done} of {self.count} trials are done{rest}")


def done_of(results: Sequence[Result]) -> int:
    """How many trials have come to an end, in whatever way."""
    return sum(one.status != "missing" for one in results)
