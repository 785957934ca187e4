"""A grid of recipes -> trials -> results that say what is signal and what is noise.

SWEEP/
    sweep.json          what is swept over which data; another sweep is refused this folder
    trials/NAME/        one run directory per trial, evaluated on validation; failed.jso
    stacks/NAME.safetensors     the state of trials that train side by side
    results.csv         one row per trial
    summary.json        configurations, which cannot be told apart, what mattered, the winner's test

Validation chooses. The test split is looked at once, for the winner.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alexnet.atomic import write_json
from alexnet.console import say
from alexnet.errors import AlexNetError, Interrupted, RunError
from alexnet.evaluation import average_views
from alexnet.optimization import make_loss
from alexnet.recipes import Recipe
from alexnet.results import result, status, summarise, write_results
from alexnet.run import Phase, Run, rate_of
from alexnet.runtime import stop_on_signal
from alexnet.stack import Stack, StackOptimizer, StackState, fit_stack, stack_logits
from alexnet.training import open_store, resolved, set_up, train, twin
from alexnet.trials import Grid, Trial, plan, stacks, told
from alexnet.weights import find_weights


def sweep(
    data: str | Path,
    base: Recipe,
    grid: Grid,
    *,
    out: str | Path = "",
    seeds: int = 1,
    random: int = 0,
    max_trials: int = 200,
) -> Path:
    """Runs every trial that is not done yet, chooses on validation, and evaluates the winner once
    on the test split. Returns the sweep directory.

    Args:
        data: as for `train`.
        base: the recipe; the grid replaces some of its fields.
        grid: field: values.
        out: the sweep directory. One that is there is gone on with: what is done stays.
        seeds: how many seeds for each point, from the recipe's own upwards.
        random: how many points, drawn from the grid; 0 for all.
        max_trials: refuse more than these.

    Raises:
        RecipeError: the grid cannot be swept. RunError: `out` holds another sweep.
        Interrupted: after Ctrl-C; the same command goes on.
    """
    trials = plan(base, grid, seeds=seeds, random=random, max_trials=max_trials)
    first = trials[0].recipe
    weights = find_weights(first.weights) if first.weights else None
    definition = {
        "fingerprint": open_store(data, resolved(first, weights)[0]).fingerprint,
        "data": str(Path(data).resolve()) if Path(data).exists() else str(data),
        "recipe": base.to_dict(),
        "grid": grid,
        "seeds": seeds,
        "random": random,
    }
    definition = json.loads(json.dumps(definition))
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(out) if out else Path("runs") / f"sweep-{Path(str(data)).stem}-{digest}"
    take_up(folder, definition)
    say(f"{len(trials)} trials of {Path(str(data)).name}; writing to {folder}")
    for stack in stacks(trials):
        missing = [trial for trial in stack if status(folder, trial) == "missing"]
        if not missing:
            continue
        if len(stack) > 1:
            run_stack(data, folder, stack)
        else:
            run_alone(data, folder, stack[0])
        finished = [result(folder, trial) for trial in trials]
        write_results(folder, finished)
        left = sum(one.status == "missing" for one in finished)
        if left:
            say(f"{len(trials) - left} of {len(trials)} trials are done")
    summarise(folder, [result(folder, trial) for trial in trials])
    return folder


def take_up(folder: Path, definition: dict[str, Any]) -> None:
    """Makes the sweep directory, or checks that the one that is there is of the same sweep."""
    path = folder / "sweep.json"
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder} holds other files.", "Choose another --out.")
        write_json(path, definition)
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}).", "Choose another --out.") from error
    differing = [
        f"{name}: {there.get(name)!r} there, {value!r} now"
        for name, value in definition.items()
        if name != "recipe" and there.get(name) != value
    ]
    differing += [
        f"{name}: {there.get('recipe', {}).get(name)!r} there, {value!r} now"
        for name, value in definition["recipe"].items()
        if there.get("recipe", {}).get(name) != value
    ]
    if differing:
        raise RunError(
            f"{folder} holds another sweep ({'; '.join(differing)}).", "Choose another --out."
        )


def run_alone(data: str | Path, folder: Path, trial: Trial) -> None:
    """Trains one trial, from where it was left."""
    path = folder / "trials" / trial.name
    say(f"trial {told(trial.settings)}")
    begun = (path / "recipe.json").exists() and (path / "environment.json").exists()
    if not begun:  # killed while the directory was being made
        shutil.rmtree(path, ignore_errors=True)
    try:
        train(data, trial.recipe, out=path, resume=begun, split="val")
    except Interrupted as error:
        raise Interrupted(error.message, "The same command goes on.") from error
    except (AlexNetError, MemoryError, torch.OutOfMemoryError) as error:
        fail(path, error)


def fail(path: Path, error: BaseException) -> None:
    """Notes why a trial failed."""
    reason = error.message if isinstance(error, AlexNetError) else f"{type(error).__name__} {error}"
    say(f"this trial failed: {reason}")
    write_json(path / "failed.json", {"reason": reason.strip()})


def run_stack(data: str | Path, folder: Path, trials: Sequence[Trial]) -> None:
    """Trains heads side by side on the same cached features, and writes a run directory
    for each."""
    first = trials[0].recipe
    run = set_up(data, first)
    for line in run.introduction:
        say(line)
    say(f"{len(trials)} heads side by side")
    _, head = run.model.split(first.freeze)
    stack = Stack([head] * len(trials)).to(run.device)
    phases = [Phase(first.freeze, first.epochs, float(trial.recipe.lr)) for trial in trials]
    optimizer = StackOptimizer(
        list(stack.parameters()),
        first.optimizer,
        momentum=[trial.recipe.momentum for trial in trials],
        weight_decay=[trial.recipe.weight_decay for trial in trials],
        nesterov=first.nesterov,
        decay_all=first.decay_all,
    )
    state = StackState(stack, optimizer, [[] for _ in trials], [{} for _ in trials])
    names = hashlib.sha256(" ".join(trial.name for trial in trials).encode()).hexdigest()[:16]
    saved = folder / "stacks" / f"{names}.safetensors"
    if saved.exists():
        state.load(saved)
        say(f"going on after epoch {max(map(len, state.history))}")
    [val, *_] = run.inputs.views(run.inputs.splits.val, first.freeze)
    with stop_on_signal() as stop:
        for epochs in fit_stack(
            state,
            run.inputs.training_batches(first.freeze),
            val,
            epochs=first.epochs,
            rates=[rate_of(t.recipe, phase) for t, phase in zip(trials, phases, strict=True)],
            loss=make_loss(first.loss, first.label_smoothing),
            dtype=run.dtype,
            clip=first.clip,
            patience=first.patience,
            seed=first.seed,
            stop=stop,
        ):
            state.save(saved)
            scores = [one.val_top1 for one in epochs if one]
            if scores:
                done = max(map(len, state.history))
                say(
                    f"epoch {done}/{first.epochs}  validation top-1 {min(scores):.2%} to "
                    f"{max(scores):.2%}  {sum(one.seconds for one in epochs if one):.1f} s"
                )
    write_stack(data, folder, trials, run, state)
    saved.unlink(missing_ok=True)


def write_stack(
    data: str | Path, folder: Path, trials: Sequence[Trial], run: Run, state: StackState
) -> None:
    """One run directory per head of a stack, as if it had been trained alone."""
    freeze = run.recipe.freeze
    for model, weights in enumerate(state.best):  # back to each one's best epoch
        for name, tensor in weights.items():
            state.stack.tensor(name)[model].data.copy_(tensor)
    views = [
        stack_logits(state.stack, batches, run.dtype)
        for batches in run.inputs.views(run.inputs.splits.val, freeze)
    ]
    logits, labels = average_views([one for one, _ in views]), views[0][1]
    for model, trial in enumerate(trials):
        path = folder / "trials" / trial.name
        if status(folder, trial) != "missing":
            continue
        each = twin(run, data, trial.recipe)
        each.write_beginning(path)
        each.history = state.history[model]
        each.write_epochs(each.history)
        if model in state.failed:
            write_json(path / "failed.json", {"reason": state.failed[model]})
            continue
        each.save_best(state.best[model], freeze)
        each.write_figures(logits[model], labels, "val")
