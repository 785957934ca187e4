"""A run once more: on with it from where it stands, or all of it again, to compare every bit."""

from pathlib import Path
from typing import Any

import torch

from alexnet.console import say
from alexnet.errors import CheckError, RunError
from alexnet.runs.directory import RunDirectory
from alexnet.runtime import as_found, differences
from alexnet.training.train import carried_out
from alexnet.values import Count, checked_arguments

TIMES = {"seconds", "train_images_per_second", "waiting", "peak_memory"}  # of an epoch


@checked_arguments
@as_found()
def resume(
    run: str | Path,
    *,
    epochs: Count | None = None,
    finetune_epochs: int | None = None,
    patience: int | None = None,
) -> Path:
    """Goes on with a run: where it was stopped, bit for bit on a CPU; or, where it was finished,
    with more epochs. Returns the run directory.

    With more epochs the learning rate is, from here on, that of a training of so many epochs from
    the beginning. So with the schedules constant, exponential, step and plateau the run becomes
    what it would have been; one-cycle and cosine, which had come down to 0, begin again with the
    rate that they have at this place of the longer training.

    Args:
        run: a run directory.
        epochs, finetune_epochs: how many there are to be in all, in the first and in the second
            phase; None for as many as it was asked for.
        patience: as the recipe's field, instead of its value.

    Raises:
        RunError: not a run, nothing to go on from, fewer epochs than it has, or data or weights
            that have changed. Interrupted: after Ctrl-C; the state of the last step is saved.
    """
    directory = RunDirectory(run)
    settings = directory.settings
    given = {"epochs": epochs, "finetune_epochs": finetune_epochs, "patience": patience}
    changes = {
        name: value
        for name, value in given.items()
        if value is not None and value != getattr(settings.asked, name)
    }
    asked, more = settings.asked.replace(**changes), bool(changes)
    reported = directory.page.exists() or not asked.report  # else it was stopped before that
    if directory.evaluated and reported and not more:
        done = f"after {len(directory.epochs())} epochs; --epochs asks for more"
        say(f"{run} is finished{', its head solved' if asked.solved else f', {done}'}")
        return directory.path
    if more:
        _require_more(directory, changes)
    return carried_out(settings.data, asked, out=directory.path, resume=True, more=more)


def _require_more(directory: RunDirectory, given: dict[str, int]) -> None:
    """RunError unless a run can go on with these fields changed."""
    recipe, done = directory.settings.asked, len(directory.epochs())
    if recipe.solved and not recipe.finetune_epochs:
        raise RunError(
            f"the head of {directory} was solved at once: there are no epochs to go on with.",
            "Train one: alexnet train DATA --head trained; of few images that is seldom better.",
        )
    if not directory.stopped:
        raise RunError(
            f"{directory} holds no state to go on from.",
            f"Start a new run with its weights: alexnet train DATA --weights {directory}",
        )
    second = recipe.finetune_epochs and done > recipe.epochs
    if "epochs" in given and second:
        raise RunError(
            f"{directory} is in its second phase, which begins after {recipe.epochs} epochs.",
            "Use --finetune-epochs.",
        )
    name, passed = ("finetune_epochs", done - recipe.epochs) if second else ("epochs", done)
    if given.get(name, passed) < passed:
        raise RunError(f"{name} is {given[name]}, but {passed} are done.", "Ask for more.")
    if "patience" not in given and directory.evaluated and passed < getattr(recipe, name):
        raise RunError(
            f"{directory} stopped early, after {recipe.patience} epochs that were no better, and "
            "would stop again.",
            "Use --patience 0, or a larger one.",
        )
    schedule = recipe.schedule
    if schedule in ("one-cycle", "cosine"):
        say(f"the schedule {schedule} is from here on that of the longer training")


@checked_arguments
@as_found()
def repeat(run: str | Path, *, out: str | Path | None = None) -> Path:
    """Trains a run again from its own files, into a new run directory, which it returns, and
    compares the two: weights, what each epoch came to, predictions.

    Raises:
        CheckError: something differs; says what, and what may be the reason. RunError: not a
            finished run, or its data or weights have changed.
    """
    before = RunDirectory(run)
    before.require_trained()
    settings, split = before.settings, before.metrics()["split"]
    [first, *later] = [*settings.continued, _continued(before)]
    how: dict[str, Any] = {"split": "val" if split == "val" else "test", "like": before}
    path = carried_out(settings.data, settings.asked.replace(**first), out=out, **how)
    for fields in later:
        resume(path, **fields)
    after = RunDirectory(path)
    differ = differing(before, after)
    if differ:
        around = differences(settings.surroundings[0], after.settings.surroundings[0])
        raise CheckError(
            f"{path} is not the same as {run}: {'; '.join(differ)}.",
            f"It was trained elsewhere ({'; '.join(around)}), where sums come out in other bits."
            if around
            else "Both say the same of machine, threads and torch. On CUDA, --deterministic is "
            "needed; elsewhere this is a mistake of this program.",
        )
    say(f"the same as {run} in every bit: weights, {len(after.epochs())} epochs, predictions")
    return path


def _continued(run: RunDirectory) -> dict[str, int]:
    """The fields that a run went on with last."""
    names = run.settings.continued[0] if run.settings.continued else ()
    return {name: getattr(run.settings.asked, name) for name in names}


def differing(before: RunDirectory, after: RunDirectory) -> list[str]:
    """What of two runs is not the same, in words."""
    found = []
    one, other = before.network().tensors, after.network().tensors
    names = [name for name in one if name not in other or not torch.equal(one[name], other[name])]
    if names or one.keys() != other.keys():
        found.append(f"{len(names)} of {len(one)} weights, {', '.join(names[:2])} among them")
    epochs = [
        [{key: n for key, n in epoch.items() if key not in TIMES} for epoch in run.epochs()]
        for run in (before, after)
    ]
    if epochs[0] != epochs[1]:
        apart = next(
            (place for place, (a, b) in enumerate(zip(*epochs, strict=False)) if a != b),
            min(map(len, epochs)),
        )
        found.append(f"what was reached, from epoch {apart + 1} on")
    if before.predictions().logits.tobytes() != after.predictions().logits.tobytes():
        found.append("predictions")
    return found
