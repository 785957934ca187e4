"""`fit`, the training loop: a generator that yields one Epoch after each pass over the images."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from alexnet.atomic import is_number
from alexnet.console import progress
from alexnet.data.store import Batches
from alexnet.errors import Interrupted, TrainingError
from alexnet.fitting.optimization import Loss
from alexnet.fitting.step import training_step
from alexnet.network.checkpoint import (
    load_tensors,
    load_weights,
    optimizer_tensors,
    restore_optimizer,
    save_tensors,
)
from alexnet.network.header import unreadable
from alexnet.network.inference import predict_logits
from alexnet.runtime import StopFlag, peak_memory, yielding_as_found
from alexnet.values import Count, Whole, checked_arguments

Keep = Literal["best", "one-se"]


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to. Accuracies are shares from 0 to 1."""

    epoch: int  # from 1
    train_loss: float  # mean over the steps, while the weights moved and with augmentation
    train_top1: float
    val_loss: float  # after the epoch, of the averaged weights if there are any
    val_top1: float
    lr: float  # at the last step
    seconds: float  # training and validation
    train_images_per_second: float
    waiting: (
        float  # share of the training time spent on getting batches: reading, moving, augmenting
    )
    best: bool  # the one to keep, so far: see `is_kept`
    peak_memory: int = 0  # bytes: of the GPU that trains, else of this process; 0: not known


def best_of(history: Sequence[Epoch]) -> Epoch | None:
    """The one whose weights are kept, so far."""
    return next((epoch for epoch in reversed(history) if epoch.best), None)


def is_kept(
    history: Sequence[Epoch], val_top1: float, val_loss: float, *, images: int, keep: Keep
) -> bool:
    """Whether the weights of an epoch with these scores are the ones to keep, after those of
    `history`. "best": of the highest accuracy, on a tie of the lowest loss. "one-se": of the last
    epoch whose accuracy is at most one standard error, of so many `images`, below the highest
    (Breiman et al., Classification and Regression Trees, 1984): of few images, the highest is
    chance."""
    if keep == "best":
        best = best_of(history)
        return best is None or (val_top1, -val_loss) > (best.val_top1, -best.val_loss)
    highest = max([val_top1, *(one.val_top1 for one in history)])
    # as if one more image had been taken rightly and one wrongly: all right is no certainty
    share = (highest * images + 1) / (images + 2)
    return val_top1 >= highest - math.sqrt(share * (1 - share) / images)


class Tally:
    """What the steps of an epoch came to, on their device: the losses, () or (M,) of each step, and
    how many guesses were right.

    One tensor for all steps. A small one for each, kept between the large ones that a step takes
    and gives back, would break up the memory that these want again: a megabyte and more a step.
    """

    def __init__(self, losses: Tensor | None = None, correct: Tensor | None = None) -> None:
        """Args: of the steps that are done, (S, ...) each."""
        self.count = 0 if losses is None else len(losses)
        self._losses, self._correct = losses, correct

    def add(self, losses: Tensor, correct: Tensor) -> None:
        """Takes in a step."""
        self._losses = self._with_room(self._losses, losses)
        self._correct = self._with_room(self._correct, correct)
        self._losses[self.count], self._correct[self.count] = losses, correct
        self.count += 1

    def _with_room(self, kept: Tensor | None, like: Tensor) -> Tensor:
        if kept is not None and self.count < len(kept):
            return kept
        larger = like.new_empty(max(64, 2 * self.count), *like.shape)
        if kept is not None:
            larger[: self.count] = kept
        return larger

    @property
    def losses(self) -> Tensor:
        """(S, ...) of the steps so far."""
        return torch.empty(0) if self._losses is None else self._losses[: self.count]

    @property
    def correct(self) -> Tensor:
        """(S, ...) of the steps so far."""
        return torch.empty(0) if self._correct is None else self._correct[: self.count]


@dataclass
class State:
    """Everything that changes while training, and so everything needed to go on."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None = None
    history: list[Epoch] = field(default_factory=list)
    phase: int = 0  # of a training that changes what it trains
    before: int = 0  # epochs of the phases before this one
    # weights of the best epoch, where they are kept here and not in a file of their own
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    # the epoch under way; right after an epoch, `tally` and `rates` still are those of its steps
    step: int = 0
    tally: Tally = field(default_factory=Tally)
    rates: list[float] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def kept(self) -> nn.Module:
        """The weights to validate and keep: the average if there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def best(self) -> Epoch | None:
        """The one whose weights are kept, so far."""
        return best_of(self.history)

    def save(self, path: Path) -> None:
        """Writes all of it to one file, whole or not at all."""
        optimizer, numbers = optimizer_tensors(self.optimizer)
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {
                f"average.{name}": value for name, value in self.average.state_dict().items()
            }
        tensors |= {f"optimizer.{name}": value for name, value in optimizer.items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        if self.step:
            tensors["epoch.losses"] = self.tally.losses
            tensors["epoch.correct"] = self.tally.correct
        about = {
            "optimizer": numbers,
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
            "phase": self.phase,
            "before": self.before,
            "step": self.step,
            "rates": self.rates if self.step else [],
            "seconds": self.seconds,
            "waited": self.waited,
        }
        save_tensors(path, tensors, about)

    def load(self, path: Path) -> None:
        """The reverse of `save`, bit for bit.

        Raises:
            WeightsError: the file is damaged, or of another training.
        """
        tensors, about = load_tensors(path)
        try:
            self._take(tensors, about, str(path))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise unreadable(path, f"its state is incomplete: {error}") from error

    def _take(self, tensors: dict[str, Tensor], about: dict[str, Any], where: str) -> None:
        def part(name: str) -> dict[str, Tensor]:
            return {
                key.partition(".")[2]: value
                for key, value in tensors.items()
                if key.startswith(f"{name}.")
            }

        load_weights(self.model, part("model"), where)
        if self.average is not None:
            load_weights(self.average, part("average"), where)
        restore_optimizer(self.optimizer, part("optimizer"), about["optimizer"])
        self.best_weights = part("best")
        self.history = [Epoch(**epoch) for epoch in about["history"]]
        self.phase, self.before = about["phase"], about["before"]
        self.step, self.rates = about["step"], about["rates"]
        self.seconds, self.waited = about["seconds"], about["waited"]
        counters = [self.phase, self.before, self.step, self.seconds, self.waited, *self.rates]
        for one in self.history:
            counters += dataclasses.astuple(one)
        if not all(map(is_number, counters)):
            raise ValueError("what should be numbers is not")
        device = next(self.model.parameters()).device
        steps = [tensors[f"epoch.{name}"].to(device) for name in ("losses", "correct") if self.step]
        self.tally = Tally(*steps)


@checked_arguments
@yielding_as_found
def fit(
    state: State,
    train: Batches,
    val: Batches,
    *,
    epochs: Whole,
    rate: Callable[[float, Sequence[float]], float],
    loss: Loss,
    dtype: torch.dtype = torch.float32,
    clip: float = 0.0,
    keep: Keep = "best",
    seed: int = 0,
    check_every: Count = 50,
    stop: StopFlag | None = None,
) -> Iterator[Epoch]:
    """Trains `state` from where it stands, and yields one Epoch after each pass and its validation.
    `break` ends it.

    Args:
        state: model, optimiser and counters, changed in place; after each yield, and after
            Interrupted, it is what must be saved to go on bit for bit.
        train, val: batches of x (B, ...) and labels (B,).
        epochs: how many there are to be in the end, those of `state.history` included.
        rate: learning rate from (epochs done as a fraction, validation scores so far).
        loss: of logits (B, K) float32 and labels (B,).
        dtype: bfloat16 computes products in it (autocast); weights stay float32.
        clip: largest norm of the gradient; 0 for none.
        keep: which epoch is marked as the best, see `is_kept`.
        seed: dropout in a step depends on (seed, epoch, step) alone.
        check_every: steps between two looks at whether the loss still is a number.
        stop: once true, Interrupted is raised between two steps.

    Raises:
        TrainingError: the loss is not finite; says at which step, and why that is likely.
        Interrupted: `stop` became true.
    """
    model, optimizer = state.model, state.optimizer
    for epoch in range(len(state.history), epochs):
        scores = [done.val_top1 for done in state.history]
        model.train()
        later = (epochs - epoch - 1) * len(train)
        name = f"epoch {epoch + 1}/{epochs}"
        with progress(name, len(train), lines=False, done=state.step, after=later) as advance:
            last = time.perf_counter()
            for step, batch in enumerate(train.shards(epoch, start=state.step), state.step):
                if stop:
                    raise Interrupted("stopped.")
                state.waited += time.perf_counter() - last
                lr = rate(epoch + (step + 0.5) / len(train), scores)
                key = (seed, epoch, step)
                value, right = training_step(
                    model, optimizer, batch, lr=lr, loss=loss, dtype=dtype, clip=clip, key=key
                )
                if state.average is not None:
                    state.average.update_parameters(model)
                state.tally.add(value, right)
                state.rates.append(lr)
                state.step = step + 1
                if state.step % check_every == 0 or state.step == len(train):
                    check_losses(state, epoch)
                now = time.perf_counter()
                state.seconds += now - last
                last = now
                advance(1)
        state.history.append(finish_epoch(state, train, val, epoch, loss, dtype, keep))
        state.step, state.seconds, state.waited = 0, 0.0, 0.0
        yield state.history[-1]
        state.tally, state.rates = Tally(), []
        if stop:
            raise Interrupted("stopped.")


def finish_epoch(
    state: State,
    train: Batches,
    val: Batches,
    epoch: int,
    loss: Loss,
    dtype: torch.dtype,
    keep: Keep,
) -> Epoch:
    """Validates, and sums up the epoch under way."""
    start = time.perf_counter()
    logits, labels = predict_logits(state.kept, [val], dtype, "validation")
    val_top1 = float((logits.argmax(1) == labels).float().mean())
    val_loss = float(loss(logits, labels))
    if not math.isfinite(val_loss):
        raise TrainingError(
            f"the validation loss is no longer a number in epoch {epoch + 1}, although the "
            "training loss is.",
            "Try --precision fp32, a lower --lr, or --clip 1.",
        )
    n = len(train.indices)
    return Epoch(
        epoch=epoch + 1,
        train_loss=float(state.tally.losses.cpu().double().mean()),
        train_top1=int(state.tally.correct.sum()) / n,
        val_loss=val_loss,
        val_top1=val_top1,
        lr=state.rates[-1],
        seconds=state.seconds + time.perf_counter() - start,
        train_images_per_second=n / state.seconds,
        waiting=state.waited / state.seconds,
        best=is_kept(state.history, val_top1, val_loss, images=len(labels), keep=keep),
        peak_memory=peak_memory(val.device),
    )


def check_losses(state: State, epoch: int) -> None:
    """TrainingError if a loss of the epoch under way is not finite; names the first such step."""
    bad = (~torch.isfinite(state.tally.losses)).nonzero()
    if not len(bad):
        return
    step = int(bad[0])
    lr = state.rates[step]
    if epoch == 0 and step == 0:
        cause = (
            "It was so before the first update: the initial weights or the inputs (--mean, "
            "--std) are out of range."
        )
    else:
        cause = (
            f"Most likely the learning rate, {lr:.3g} at that step, is too high. "
            f"Try --lr {lr / 10:.2g}, --warmup 1 or --clip 1."
        )
    raise TrainingError(
        f"the loss is no longer a number since epoch {epoch + 1}, step {step + 1}.", cause
    )
