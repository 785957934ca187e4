"""Trials -> run directories, each evaluated on validation; alone or side by side, from where they
were left."""

import hashlib
import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from filelock import FileLock

from alexnet import ranks
from alexnet.atomic import writing
from alexnet.console import say, warn
from alexnet.errors import AlexNetError, DiskError, Interrupted, RankError, want_of_memory
from alexnet.fitting.loop import Epoch
from alexnet.fitting.stack import StackState, fit_stack, stack_logits
from alexnet.network.inference import average_views
from alexnet.runs.directory import STATE, RunDirectory
from alexnet.runtime import SAVED_AFTER, Pace, stop_on_signal
from alexnet.sweeping.directory import SweepDirectory
from alexnet.sweeping.trials import Trial, stacks, told
from alexnet.training.events import EventFiles
from alexnet.training.from_recipe import Phase, loss_of, rate_of, stack_of
from alexnet.training.run import Run
from alexnet.training.train import set_up, twin


@dataclass(frozen=True)
class Job:
    """Trials that one process runs together."""

    data: str
    sweep: SweepDirectory
    trials: tuple[Trial, ...]
    draw: str = "content"  # how the images of the splits are drawn
    number: int = -1  # of a trial in an Optuna study
    nproc: int = 1  # how many processes train a trial together

    @property
    def name(self) -> str:
        """What its lock and its log are called."""
        return name_of(self.trials)

    @property
    def missing(self) -> list[Trial]:
        """Its trials that have not come to an end."""
        return [trial for trial in self.trials if self.sweep.trial(trial.name).status == "missing"]


def name_of(trials: Sequence[Trial]) -> str:
    """One name for several trials: equal recipes, equal names."""
    return hashlib.sha256(" ".join(trial.name for trial in trials).encode()).hexdigest()[:16]


# whether a trial is to be given up after an epoch
Judge = Callable[[Epoch], bool]


def run_alone(job: Job, trial: Trial, judge: Judge | None = None) -> None:
    """Trains one trial, in this process or with others that have joined."""
    directory = job.sweep.trial(trial.name)
    say(f"trial {told(trial.settings)}")
    begun = ranks.any_of(directory.begun)
    if not begun:  # killed while the directory was being made
        ranks.on_first(partial(shutil.rmtree, directory.path, ignore_errors=True))
    try:
        with ranks.directory_of_first(directory.path, STATE if begun else ()) as place:
            run = set_up(job.data, trial.recipe, job.draw)
            run.swept = trial.settings
            with run.opened(place, resume=begun):
                run.introduce()
                # the last epoch once more: perhaps it was killed before it was judged
                for epoch in itertools.chain(run.history[-1:], run.train()):
                    if ranks.any_of(judge is not None and judge(epoch)):
                        say("this trial is given up: others were better by then")
                        ranks.on_first(directory.write_pruned, epoch.epoch)
                        return
                if ranks.leave():
                    run.evaluate("val")
    except Interrupted as error:
        raise Interrupted(error.message, "The same command goes on.") from error
    except (DiskError, RankError):  # not this trial's fault
        raise
    except (AlexNetError, MemoryError, RuntimeError) as error:
        if not isinstance(error, AlexNetError) and not want_of_memory(error):
            raise
        ranks.on_first(fail, directory, error)


def run_job(
    job: Job,
    judge: Judge | None = None,
    alone: Callable[[Job, Trial, Judge | None], None] = run_alone,
) -> None:
    """Runs the trials of a job that are missing, those that train alone by `alone`. While another
    program runs the same ones, waits: several programs may work on one sweep."""
    lock = job.sweep.lock(job.name)
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire()
    with held:
        missing = {trial.name for trial in job.missing}
        for stack in stacks(job.trials):
            if not any(trial.name in missing for trial in stack):
                continue
            if len(stack) > 1:
                run_stack(job, stack)
            else:
                alone(job, stack[0], judge)


def fail(directory: RunDirectory, error: BaseException | str) -> None:
    """Notes why a trial failed."""
    reason = error if isinstance(error, str) else f"{type(error).__name__} {error}"
    if isinstance(error, AlexNetError):
        reason = error.message
    warn(f"this trial failed: {reason}")
    directory.write_failed(reason.strip())


def run_stack(job: Job, trials: Sequence[Trial]) -> None:
    """Trains heads side by side on the same cached features, and writes a run directory
    for each."""
    first = trials[0].recipe
    run = set_up(job.data, first, job.draw)
    for line in run.introduction:
        say(line)
    say(f"{len(trials)} heads side by side")
    _, head = run.model.split(first.freeze)
    stack, optimizer = stack_of([trial.recipe for trial in trials], head, run.inputs.device)
    phases = [Phase(first.freeze, first.epochs, float(trial.recipe.lr)) for trial in trials]
    state = StackState(stack, optimizer, [[] for _ in trials], [{} for _ in trials])
    saved = job.sweep.stack(name_of(trials))
    if saved.exists():
        state.load(saved)
        say(f"going on after epoch {max(map(len, state.history))}")
    [val, *_] = run.inputs.views(run.inputs.splits.val, first.freeze)
    pace = Pace(SAVED_AFTER)
    with stop_on_signal() as stop:
        for epochs in fit_stack(
            state,
            run.inputs.training_batches(first.freeze),
            val,
            epochs=first.epochs,
            rates=[rate_of(t.recipe, phase) for t, phase in zip(trials, phases, strict=True)],
            loss=loss_of(run.recipe),
            dtype=run.inputs.dtype,
            clip=first.clip,
            patience=first.patience,
            keep=first.keep,
            seed=first.seed,
            stop=stop,
        ):
            if pace.is_due():
                state.save(saved)
            scores = [one.val_top1 for one in epochs if one]
            if scores:
                done = max(map(len, state.history))
                say(
                    f"epoch {done}/{first.epochs}  validation top-1 {min(scores):.2%} to "
                    f"{max(scores):.2%}  {sum(one.seconds for one in epochs if one):.1f} s"
                )
    write_stack(job, trials, run, state)
    with writing(saved):
        saved.unlink(missing_ok=True)


def write_stack(job: Job, trials: Sequence[Trial], run: Run, state: StackState) -> None:
    """One run directory per head of a stack, as if it had been trained alone."""
    freeze = run.recipe.freeze
    for model, weights in enumerate(state.best):  # back to each one's best epoch
        for name, tensor in weights.items():
            state.stack.tensor(name)[model].data.copy_(tensor)
    views = [
        stack_logits(state.stack, batches, run.inputs.dtype)
        for batches in run.inputs.views(run.inputs.splits.val, freeze)
    ]
    logits, labels = average_views([one for one, _ in views]), views[0][1]
    steps = len(run.inputs.training_batches(freeze))
    for model, trial in enumerate(trials):
        directory = job.sweep.trial(trial.name)
        if directory.status != "missing":
            continue
        each = twin(run, job.data, trial.recipe)
        each.history, each.swept = state.history[model], trial.settings
        with directory.held():
            each.begin(directory)
            each.write_epochs(each.history)
            if model in state.failed:
                directory.write_failed(state.failed[model])
                continue
            each.save_best(state.best[model], freeze)
            with EventFiles(each.events_path, steps, 0) as events:
                for epoch in each.history:
                    events.write(epoch)
            each.write_figures(logits[model], labels, "val")  # last: with them the trial is done
