"""A run directory while it is being written: phases of training, what each epoch came to, and the
figures at the end."""

import contextlib
import copy
import dataclasses
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from alexnet import ranks
from alexnet.console import fitted, heard, in_words, say, warn
from alexnet.data.finding import lasting
from alexnet.data.reading import title_of
from alexnet.data.sources import Data
from alexnet.data.store import Batches
from alexnet.errors import Interrupted, RecipeError, RunError, TrainingError
from alexnet.fitting.distillation import Student
from alexnet.fitting.linear import CrossValidated, cross_validated, solve
from alexnet.fitting.loop import Epoch, State, best_of, fit
from alexnet.fitting.lr_finder import draw_suggestion, find_lr
from alexnet.network import inference
from alexnet.network.checkpoint import Network, load_weights, save_network
from alexnet.network.header import load_description
from alexnet.network.model import AlexNet, parameter_count
from alexnet.runs.calibration import Calibrator, Looked, remembered
from alexnet.runs.directory import (
    Predictions,
    RunDirectory,
    Settings,
    new_run_directory,
    require_named,
)
from alexnet.runs.evaluation import show
from alexnet.runs.imbalance import evened_out
from alexnet.runs.inputs import Inputs
from alexnet.runs.leaks import leak_figures, told_leaks
from alexnet.runs.own_data import count_seen, label_changes, trained_on, training_folds
from alexnet.runtime import SAVED_AFTER, Pace, differences, environment, peak_memory, stop_on_signal
from alexnet.scoring.conformal import USUAL, Calibration, abstaining, images_needed
from alexnet.scoring.metrics import Labels, metrics, require_finite, supported_temperature
from alexnet.training.events import EventFiles
from alexnet.training.from_recipe import Phase, loss_of, optimizer_of, rate_of
from alexnet.training.timing import median_seconds, over_and_over, training_steps

MORE = {"epochs", "finetune_epochs", "patience"}  # what a run may go on with
WORTH_TIMING, TIMED_STEPS = 100, 3  # steps
VERIFIED_IMAGES = 4  # on which the saved network must agree with its cached features


@dataclasses.dataclass
class Ahead:
    """Epochs of one kind."""

    left: int
    planned: float  # seconds of one
    told: list[float] = dataclasses.field(default_factory=list)  # of the last three

    @property
    def seconds(self) -> float:
        """Of one epoch; the middle one, since the lid may have been closed during another."""
        return statistics.median(self.told) if self.told else self.planned


class Clock:
    """How long what is left will take: as was planned for each kind of epoch, until the epochs
    themselves say it better."""

    def __init__(self) -> None:
        self.phases: list[Ahead] = []

    def plan(self, epochs: int, seconds: float) -> None:
        """So many epochs are to come, each of so many seconds."""
        self.phases.append(Ahead(epochs, seconds))

    def tell(self, seconds: float) -> None:
        """An epoch is over."""
        for phase in self.phases:
            if phase.left:
                phase.left -= 1
                phase.told = [*phase.told[-2:], seconds]
                return

    @property
    def left(self) -> float:
        """Seconds."""
        return sum(phase.left * phase.seconds for phase in self.phases)


class Run:
    """A run directory while it is being written."""

    directory: RunDirectory
    state: State

    def __init__(self, data: Data, inputs: Inputs) -> None:
        self.data = lasting(str(data))
        self.inputs, self.model = inputs, inputs.model
        self.recipe, self.asked = inputs.recipe, inputs.resolution.asked
        self.surroundings = environment(inputs.device, inputs.dtype, inputs.store.fingerprint)
        self.surroundings["weights_sha256"] = inputs.resolution.weights_sha256
        self.introduction: list[str] = []
        self.resumed_phase = -1
        self.history: list[Epoch] = []  # of the phases that are over, or as found on disk
        self.epochs = 0  # of all phases; a solved head counts as one
        self.fitted: dict[str, Any] = {}  # a solved head's penalty, the temperature
        self.clock = Clock()
        self.continued: list[Mapping[str, int]] = []  # what was asked before it went on with more
        self.swept: Mapping[str, Any] = {}  # fields that a sweep set
        self.folds: CrossValidated | None = None  # of a solved head that has no validation split
        # of each class the share of validation images that an equal training without class weights
        # and balanced sampling finds, where there was one
        self.plain_recall: list[float | None] | None = None

    @contextlib.contextmanager
    def opened(self, out: str | Path, resume: bool, more: bool = False) -> Iterator[None]:
        """Makes the run directory, or takes up the one that is there, also with `more` epochs than
        it was asked for; while the block runs nobody else writes to it."""
        if resume:
            require_named(out)
        name = f"{title_of(self.data)}-{self.asked.digest}"
        directory = RunDirectory(out) if out else new_run_directory(name)
        with directory.held():
            if resume and not directory.just_begun:
                self._take_up(directory, more)
            else:
                if not resume:
                    directory.require_empty()
                self.begin(directory)
            yield

    def begin(self, directory: RunDirectory) -> None:
        """Makes the run directory."""
        self.directory = directory
        directory.begin(self.data, self.asked, self.recipe, self.surroundings)

    def introduce(self) -> None:
        """Says what is about to happen."""
        for line in self.introduction:
            say(line)
        say(f"writing to {self.directory}")

    def _take_up(self, directory: RunDirectory, more: bool) -> None:
        there = directory.settings
        changed = self._changes(there)
        if set(changed) - (MORE if more else set()):
            raise RunError(
                f"{directory} was trained with another recipe ({'; '.join(changed.values())}).",
                "Give the same recipe and flags, or start a new run (--weights RUN begins with its "
                "weights).",
            )
        self.require_same_inputs(directory)
        self.directory = directory
        self.continued = [*there.continued]
        if changed:
            self.continued.append({name: getattr(there.asked, name) for name in sorted(MORE)})
            directory.forget_figures()
            directory.write_recipe(self.data, self.asked, self.recipe, self.continued)
        if directory.stopped:
            about = load_description(directory.last)
            self.resumed_phase = about["phase"]
            self.history = [Epoch(**epoch) for epoch in about["history"]]
            say(f"going on with {directory} after epoch {len(self.history)}, step {about['step']}")
            self._note_surroundings(there.surroundings[-1])

    def require_same_inputs(self, directory: RunDirectory) -> None:
        """RunError unless data and weights are those that another run had."""
        there = directory.settings
        for what, before, now in (
            ("on other data: fingerprint", there.fingerprint, self.inputs.store.fingerprint),
            (
                "from other weights: checksum",
                there.weights_sha256,
                self.surroundings["weights_sha256"],
            ),
        ):
            if before != now:
                raise RunError(
                    f"{directory} was trained {what} {before[:12]} there, {now[:12]} now.",
                    "Restore them, or start a new run (--weights RUN begins with its weights).",
                )

    def _changes(self, there: Settings) -> dict[str, str]:
        """The fields in which this run's recipe differs from that of a directory, and how, in
        words: in what was asked, and in what that comes to. (0.1.0 wrote only the latter.)"""
        before, now = there.asked.to_dict(), self.asked.to_dict()
        came_to_before, comes_to = there.recipe.to_dict(), self.recipe.to_dict()
        return {
            name: f"{name}: {before[name]!r} there, {value!r} now"
            for name, value in now.items()
            if before[name] != value and came_to_before[name] != comes_to[name]
        }

    def _note_surroundings(self, there: dict[str, Any]) -> None:
        """Says, and writes down, when a run goes on where other bits come out."""
        differing = differences(there, self.surroundings)
        if differing:
            warn(f"not bit for bit what it would have been: {'; '.join(differing)}")
            self.directory.note_going_on(self.surroundings)

    def facts(self) -> dict[str, Any]:
        """What must be the same on all ranks that train together."""
        return {
            "data (fingerprint)": self.inputs.store.fingerprint,
            "weights (checksum)": self.surroundings["weights_sha256"],
            **{name: one for name, one in self.recipe.to_dict().items() if name != "device"},
        }

    # -- training ----------------------------------------------------------------------------------

    def train(self) -> Iterator[Epoch]:
        """Goes through the phases, writes down what each epoch came to, and yields it. `break` ends
        the training; what is written is then that of an unfinished run.

        Raises:
            Interrupted: after Ctrl-C; the state of the last step is saved.
        """
        recipe = self.recipe
        if not recipe.solved and not recipe.epochs:
            self.save_best(self.model.state_dict(), "none")
            return
        solved = recipe.solved
        phases = [] if solved else [Phase(recipe.freeze, recipe.epochs, self._rate())]
        if solved and self.resumed_phase < 0:
            self.history = [self._solve()]
        if recipe.finetune_epochs:
            phases.append(Phase("none", recipe.finetune_epochs, recipe.finetune_lr))
        self.epochs = solved + sum(phase.epochs for phase in phases)
        self.write_epochs(self.history)
        self._say_how_long(phases)
        for number, phase in enumerate(phases):
            if number < self.resumed_phase:
                continue
            if number or solved:  # from the best so far
                ranks.from_first(self.model, self._load_best)
            self.state = self._begin(phase, number)
            self._say_what_is_trained(phase)
            if number == self.resumed_phase:
                self.state.load(self.directory.last)
            yield from self._run(phase)
            self.history = self.state.history

    def _load_best(self) -> None:
        best = self.directory.network()
        load_weights(self.model, best.tensors, str(best.path))

    def _begin(self, phase: Phase, number: int) -> State:
        """The state at the start of a phase."""
        recipe = self.recipe
        model = self.trained_part(phase.freeze)
        average = None
        if recipe.average:
            average = AveragedModel(
                model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True
            )
        optimizer = optimizer_of(recipe, model, phase.lr)
        history = list(self.history)
        return State(model, optimizer, average, history, phase=number, before=len(history))

    def trained_part(self, freeze: str) -> nn.Module:
        """What of the network is trained while that is frozen: its head, all of it, or all of it
        with its teacher."""
        if freeze != "none":
            return self.model.split(freeze)[1]
        teacher = self.inputs.teacher()
        if teacher is None:
            return self.model
        student = Student(self.model, teacher, self.recipe.teacher_weight)
        return student.to(self.inputs.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _say_how_long(self, phases: Sequence[Phase]) -> None:
        """Says how long the phases that are left will take, from a few timed steps of each."""
        done, begun = len(self.history), 0
        for phase in phases:
            left = phase.epochs - min(max(done - begun, 0), phase.epochs)
            begun += phase.epochs
            steps = left * len(self.inputs.splits.train) / self.recipe.batch_size
            if steps >= WORTH_TIMING and ranks.any_of(heard()):
                self.clock.plan(left, self._seconds(phase))
        if self.clock.left:
            say(f"about {in_words(self.clock.left)} of training on this machine")

    def _seconds(self, phase: Phase) -> float:
        """What an epoch of a phase will take: steps of a copy are timed. Validation only looks,
        which takes a third of the time for each image."""
        model = copy.deepcopy(self.trained_part(phase.freeze))
        batches = self.inputs.training_batches(phase.freeze)
        steps = training_steps(self.recipe, model, over_and_over(batches), self.inputs.dtype)
        each = median_seconds(steps, TIMED_STEPS)
        looked = len(self.inputs.splits.val) / len(self.inputs.splits.train) / 3
        return len(batches) * each * (1 + looked)

    def _say_what_is_trained(self, phase: Phase) -> None:
        if self.recipe.freeze == "none":
            return
        trained, total = parameter_count(self.state.model), parameter_count(self.model)
        names = {
            "none": "everything is trained",
            "conv": "the convolutions are frozen, the fully connected layers are trained",
            "all-but-last": "everything but the last layer is frozen",
        }
        say(f"{names[phase.freeze]}: {trained:,} of {total:,} parameters")
        if phase.freeze != "none" and self.recipe.cache and self.inputs.augmented():
            held = [view.name for view in self.inputs.cached_views() if self.inputs.trains_on(view)]
            if not any(name.startswith("augmented") for name in held):
                say(
                    f"crops and colours do not vary: the cache holds {' and '.join(held)}; "
                    "--cached-views 6 keeps augmented views too, --no-cache augments afresh in "
                    "each epoch"
                )

    def _rate(self) -> float:
        """The learning rate of the first phase; where the recipe says auto, as found before."""
        lr = self.recipe.lr
        if lr == "auto":
            found = self.directory.suggested_lr()
            lr = self.find_lr() if found is None else found
            self.recipe = self.recipe.replace(lr=lr)  # nothing is left open any more
            self.directory.write_recipe(self.data, self.asked, self.recipe, self.continued)
        return lr

    def find_lr(self) -> float:
        """Runs the learning-rate finder; its curve and suggestion go into the run directory."""
        recipe = self.recipe
        phase = Phase(recipe.freeze, recipe.epochs, 0.1)
        state = self._begin(phase, 0)
        found = find_lr(
            state.model,
            state.optimizer,
            self.inputs.training_batches(phase.freeze),
            loss=loss_of(recipe),
            dtype=self.inputs.dtype,
            clip=recipe.clip,
            seed=recipe.seed,
        )
        draw_suggestion(self.directory.lr_curve, found)
        self.directory.write_suggestion(vars(found))
        say(f"learning rate {found.lr:g}: {found.reason} (curve: {self.directory.lr_curve})")
        return found.lr

    def _run(self, phase: Phase) -> Iterator[Epoch]:
        recipe, state = self.recipe, self.state
        train_batches = self.inputs.training_batches(phase.freeze)
        [val_batches, *_] = self.inputs.views(self.inputs.splits.val, phase.freeze)
        last = state.before + phase.epochs

        pace = Pace(SAVED_AFTER)
        events_of_phase = EventFiles(self.events_path, len(train_batches), len(state.history))

        with stop_on_signal() as stop, events_of_phase as events:
            try:
                for epoch in fit(
                    state,
                    train_batches,
                    val_batches,
                    epochs=last if not self._patience_over() else 0,
                    rate=rate_of(recipe, phase, state.before),
                    loss=loss_of(recipe),
                    dtype=self.inputs.dtype,
                    clip=recipe.clip,
                    keep=recipe.keep,
                    seed=recipe.seed,
                    stop=stop,
                ):
                    kept = state.kept.network if isinstance(state.kept, Student) else state.kept
                    if epoch.best and phase.freeze == "none":
                        self.save_best(kept.state_dict(), phase.freeze)
                    elif epoch.best:  # a head: the whole network is written at the end
                        weights = kept.state_dict()
                        state.best_weights = {name: one.clone() for name, one in weights.items()}
                    events.write(epoch)
                    events.write_steps(epoch, state, recipe.log_every)
                    over = epoch.epoch == last or self._patience_over()
                    if pace.is_due(over):
                        self.write_epochs(state.history)
                        # last: from here on a run that goes on does not come back to this epoch
                        if over or epoch.epoch % recipe.save_every == 0:
                            ranks.on_first(state.save, self.directory.last)
                    self.clock.tell(epoch.seconds)
                    say(epoch_line(epoch, self.epochs, self.clock.left))
                    yield epoch
                    if self._patience_over():
                        say(
                            f"no better validation accuracy for {recipe.patience} epochs: stopped "
                            "early"
                        )
                        break
            except GeneratorExit:  # given up after an epoch
                self.write_epochs(state.history)
                raise
            except Interrupted as error:
                self.write_epochs(state.history)
                ranks.on_first(state.save, self.directory.last)
                raise Interrupted(
                    f"stopped in epoch {len(state.history) + 1} after step {state.step}; "
                    "everything up to there is saved.",
                    f"Go on with it: alexnet resume {self.directory}",
                ) from error
        if phase.freeze != "none":
            self.save_best(state.best_weights, phase.freeze)

    @property
    def events_path(self) -> Path | None:
        """Where TensorBoard's files go, if there are to be any."""
        wanted = self.recipe.tensorboard and ranks.is_first()
        return self.directory.path if wanted else None

    def _patience_over(self) -> bool:
        state = self.state
        best = max(state.best.epoch if state.best else 0, state.before)
        return bool(self.recipe.patience and len(state.history) - best >= self.recipe.patience)

    def _solve(self) -> Epoch:
        """Solves the last layer, instead of training it; what it comes to counts as an epoch."""
        freeze, start = self.recipe.freeze, time.perf_counter()
        _, head = self.model.split(freeze)
        last = cast(nn.Linear, head[-1])
        if any(parameter_count(layer) for layer in head[:-1]):
            raise RecipeError(
                f"head is {self.recipe.head}, which solves one layer, but "
                f"{parameter_count(head[:-1]):,} parameters below it are not frozen.",
                "Use --freeze all-but-last, or --freeze conv --fc-layers 1 --fc-norm none.",
            )
        views = self.inputs.views(self.inputs.splits.train, freeze)
        centre, classes = views[0], len(self.inputs.store.classes)
        if self.recipe.folds:
            fold = training_folds(self.inputs.store, self.inputs.splits, self.recipe)
            self.folds = cross_validated(self.recipe.head, views, fold, classes)
            found, what = self.folds.head, f"{self.recipe.folds}-fold cross-validation"
        else:
            [val, *_] = self.inputs.views(self.inputs.splits.val, freeze)
            found, what = solve(self.recipe.head, centre, val, classes), "validation"
        found.put(last)
        say(
            f"{self.recipe.head}: {what} top-1 {found.val_top1:.2%} with a penalty of "
            f"{found.penalty:g} ("
            + ", ".join(f"{penalty:g}: {top1:.2%}" for penalty, top1 in found.tried.items())
            + ")"
        )
        self.fitted = {
            "penalty": found.penalty,
            "solved": {
                "folds": self.recipe.folds,
                "images": len(self.validated),
                "tried": sorted(found.tried.items()),
            },
        }
        self.save_best(head.state_dict(), freeze)
        train_loss, train_top1 = self._scores(head, centre)
        if self.folds:
            val_loss, val_top1 = self.folds.val_loss, found.val_top1
        else:
            val_loss, val_top1 = self._scores(head, val)
        seconds = time.perf_counter() - start
        return Epoch(
            epoch=1,
            train_loss=train_loss,
            train_top1=train_top1,
            val_loss=val_loss,
            val_top1=val_top1,
            lr=0.0,
            seconds=seconds,
            train_images_per_second=len(centre.indices) / seconds,
            waiting=0.0,
            best=True,
            peak_memory=peak_memory(centre.device),
        )

    def _scores(self, head: nn.Module, batches: Batches) -> tuple[float, float]:
        """Loss and accuracy of a head on batches of features."""
        logits, labels = inference.predict_logits(head, [batches], self.inputs.dtype, "the head")
        right = (logits.argmax(1) == labels).float().mean()
        return float(loss_of(self.recipe)(logits, labels)), float(right)

    def evaluate(self, split: str = "test") -> None:
        """Evaluates the best weights once on the test split, or on validation where there is
        none or `split` says so."""
        trained = self.directory.load()
        model = trained.model.to(self.inputs.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        splits, whole = self.inputs.splits, split == "test"
        split = "val" if not len(splits.test) else split
        freeze = "none" if self.recipe.finetune_epochs else self.recipe.freeze
        part = model if freeze == "none" else model.split(freeze)[1]

        def views(rows: Labels) -> list[Batches]:
            return self.inputs.views(rows, freeze)

        # by the last map; a run that froze more looks at it when it is asked to abstain
        calibrates = whole and freeze != "all-but-last"
        rows = remembered(splits.train, self.recipe.seed)
        training = views(rows)[0] if calibrates else None
        calibrator = Calibrator(model, part, training, self.inputs.dtype)
        held = self.validated
        if self.folds:
            seen = self.folds.fold[np.searchsorted(held, rows)]
            val = calibrator.look_in_folds(self.folds, seen, lambda some: views(held[some]))
        else:
            val = calibrator.look(views(held), "looking at validation images")
        looked = val
        if split == "test":  # the temperature is never fitted to the images that are evaluated
            looked = calibrator.look(views(splits.test), "evaluating test")
            found = supported_temperature(val.logits.numpy(), val.labels.numpy())
            self.fitted["temperature"] = found.value
            self.fitted["temperature_interval"] = list(found.interval)
        if self.recipe.evens_out:
            self.fitted["evened_out"] = evened_out(
                self.inputs.store,
                splits,
                self.recipe,
                val.logits.argmax(1).numpy(),
                self.plain_recall,
            )
        if calibrates:
            test = looked if split == "test" else None
            self._calibrate(calibrator.calibration(val, test), looked)
        if freeze != "none":
            some = (splits.test if split == "test" else held)[:VERIFIED_IMAGES]
            logits = looked.logits[:VERIFIED_IMAGES]
            if self.folds:  # what was looked at came from other heads
                logits = calibrator.look(views(some), "verifying").logits
            self._verify(model, some, logits)
        show(*self.write_figures(looked.logits, looked.labels, split))

    @property
    def validated(self) -> Labels:
        """The images that choose: of the validation split, or those of the training split that are
        cross-validated."""
        splits = self.inputs.splits
        return splits.train if self.recipe.folds else splits.val

    def _calibrate(self, calibration: Calibration, looked: Looked) -> None:
        """Keeps a calibration; what the usual rate comes to on the test split becomes a figure."""
        require_finite(looked.logits.numpy(), self.directory)
        self.directory.write_calibration(calibration)
        if len(calibration.test_p) and len(calibration.p) >= images_needed(USUAL):
            logits, labels = looked.logits.numpy(), looked.labels.numpy()
            self.fitted["abstain"] = abstaining(calibration, logits, labels, USUAL)

    def write_figures(
        self, logits: torch.Tensor, labels: torch.Tensor, split: str
    ) -> tuple[dict[str, Any], str]:
        """Writes the figures and the predictions; returns the figures and what is to be said of
        them."""
        require_finite(logits.numpy(), self.directory)
        indices = self.inputs.splits.test if split == "test" else self.validated
        figures = metrics(logits.numpy(), labels.numpy(), self.inputs.store.names, split)
        best = best_of(self.history)
        figures |= {
            "classes": self.inputs.store.classes,
            "best_epoch": best.epoch if best else 0,
            "val_top1": best.val_top1 if best else None,
            "seconds": sum(epoch.seconds for epoch in self.history),
            "chose_epoch_on_it": split == "val" and bool(self.recipe.epochs) and not self.folds,
            **self._seen_by_weights(indices),
            **label_changes(self.inputs.store, indices),
            **self.fitted,
        }
        hits = logits.argmax(1).numpy() == labels.numpy()
        figures |= self._leaks(indices, hits, split) if self.recipe.report else {}
        ids = [self.inputs.store.ids[place] for place in indices]
        found = Predictions(logits.numpy(), labels.numpy(), ids, self.inputs.store.classes)
        if self.swept:
            with EventFiles(self.events_path) as events:
                events.write_settings(self.swept, figures["top1"])
        self.directory.write_figures(figures, found)
        notes = []
        if figures["chose_epoch_on_it"]:
            notes.append(
                "These images also chose the best epoch, so the figure is a little too good."
            )
        if figures.get("seen_by_weights"):
            notes.append(
                f"{figures['seen_by_weights']:,} of these {figures['n']:,} images are images that "
                f"the weights {self.recipe.weights} were trained on: the figure is too good."
            )
        elif figures.get("seen_by_weights", 0) is None:
            notes.append(
                f"Whether the weights {self.recipe.weights} were trained on some of these images "
                "is not known: their data is not in the cache any more."
            )
        if figures.get("leaks"):
            notes.append(told_leaks(figures, "all" in self.inputs.store.info["splits"]))
        return figures, "\n".join(notes)

    def _leaks(self, indices: Labels, hits: NDArray[np.bool_], split: str) -> dict[str, Any]:
        """How many evaluated images have a duplicate, or nearly one, among those that were learned
        from, and the figure without them. The report shows them, too: one search is for both."""
        from alexnet.data.duplicates import leaks  # SciPy

        inputs = self.inputs
        fold = self.folds.fold if self.folds and split == "val" else None
        leaked = np.isin(indices, leaks(inputs.store, indices, inputs.splits.train, fold))
        return leak_figures(hits, leaked)

    def _seen_by_weights(self, indices: Labels) -> dict[str, int | None]:
        """How many evaluated images the weights of another run, from which this one started, were
        trained on; None where that is not known, nothing where it started from no run."""
        before = RunDirectory(self.recipe.weights)
        if not before.begun:
            return {}
        seen = trained_on(before)
        count = None if seen is None else count_seen(seen, self.inputs.store, indices)
        return {"seen_by_weights": count}

    def _verify(self, model: AlexNet, indices: Labels, logits: torch.Tensor) -> None:
        """TrainingError unless the saved network, run whole over some images, gives what its head
        gave on their cached features."""
        views = inference.evaluation_views(
            self.inputs.store, indices, self.inputs.preprocessing, self.inputs.device
        )
        whole, _ = inference.predict_logits(model, views, self.inputs.dtype, "verifying")
        apart = float((whole.softmax(1) - logits.softmax(1)).abs().max())
        if not apart < 0.1:  # bf16 and float16 account for about 0.01
            raise TrainingError(
                f"the saved network and its cached features disagree: probabilities of the same "
                f"images are {apart:.2f} apart.",
                "This is a mistake of this program, or the cache is damaged: `alexnet doctor` says "
                "where it is; delete its folder `features` and train again.",
            )

    def save_best(self, kept: Mapping[str, torch.Tensor], freeze: str) -> None:
        """Writes the whole network with the weights `kept`, of all of it or of the part above what
        is frozen."""
        prefix = "" if freeze == "none" else "classifier."
        trained = {prefix + name: value for name, value in kept.items()}
        network = Network(
            self.directory.best,
            self.model.architecture,
            self.model.state_dict() | trained,
            self.inputs.store.classes,
            self.inputs.store.names,
            self.inputs.preprocessing,
        )
        ranks.on_first(save_network, network.path, network)

    def write_epochs(self, history: Sequence[Epoch]) -> None:
        self.directory.write_epochs([dataclasses.asdict(epoch) for epoch in history])


def epoch_line(epoch: Epoch, epochs: int, left: float) -> str:
    """One epoch in one line; `left` are the seconds that all epochs still to come will take."""
    return fitted(
        f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}",
        f"val top-1 {epoch.val_top1:6.2%}{'*' if epoch.best else ' '}",
        f"train top-1 {epoch.train_top1:6.2%}",
        f"about {in_words(left)} left" if left else "",
        f"{epoch.seconds:.1f} s",
        f"loss {epoch.train_loss:.3f}, val {epoch.val_loss:.3f}",
        f"lr {epoch.lr:.2g}",
        f"{epoch.train_images_per_second:,.0f} images/s",
    )
