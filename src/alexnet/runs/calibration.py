"""How a network did on images that it was not trained on, and what it remembers of those that it
was: `Calibration`, with which it says that it does not know."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.console import say
from alexnet.data.store import Batches
from alexnet.errors import DataError, DiskError, RunError
from alexnet.fitting.linear import CrossValidated
from alexnet.network.checkpoint import Trained
from alexnet.network.inference import evaluation_views, predict_logits
from alexnet.network.model import AlexNet
from alexnet.runs.directory import RunDirectory
from alexnet.runs.own_data import own_data
from alexnet.runtime import arithmetic
from alexnet.scoring.conformal import NEIGHBOUR, REMEMBERED, SHORTEST, Calibration
from alexnet.scoring.metrics import Floats, Labels, require_finite, softmax

NOTHING = np.zeros(0, np.float32)
T = TypeVar("T")


@dataclass(frozen=True)
class Looked:
    """What a network makes of N images."""

    logits: Tensor  # (N, K)
    labels: Tensor  # (N,)
    distance: Floats  # (N,); none where nothing is remembered

    @property
    def p(self) -> Floats:
        """(N,) the probability of the true class, as answers have it."""
        p: Floats = softmax(self.logits.numpy()).astype(np.float32)
        true: Floats = p[np.arange(len(p)), self.labels.numpy()]
        return true


class Calibrator:
    """A network, or the part of it above what is frozen, and what it remembers."""

    def __init__(
        self, model: AlexNet, part: nn.Module, training: Batches | None, dtype: torch.dtype
    ) -> None:
        """`training` are the images that are remembered, as the part takes them; what the part
        begins with must not be above the convolutions then."""
        self.model, self.part, self.dtype = model, part, dtype
        self.memory = np.zeros((0, 0), np.float16)
        if training is not None:
            with self._described(lambda descriptors: descriptors) as found:
                predict_logits(part, [training], dtype, "remembering training images")
            self.memory = unit(torch.cat(found)).half().cpu().numpy()

    def look(
        self, views: Sequence[Batches], what: str, memory: NDArray[np.float16] | None = None
    ) -> Looked:
        """Puts it to images; the first of their views is the one whose distance counts. `memory`
        is a part of what is remembered."""
        known = self.memory if memory is None else memory

        def far(descriptors: Tensor) -> Floats:
            return distances(descriptors, known) if len(known) else NOTHING

        with self._described(far) as found:
            logits, labels = predict_logits(self.part, views, self.dtype, what)
        return Looked(logits, labels, np.concatenate([NOTHING, *found[: len(views[0])]]))

    def look_in_folds(
        self, folds: CrossValidated, seen: Labels, views: Callable[[Labels], list[Batches]]
    ) -> Looked:
        """Puts images that were cross-validated each to the head that was solved without it, which
        remembers no image of its fold.

        Args:
            folds: of the head, whose last layer it is, of N images.
            seen: (M,) the fold of each image that is remembered.
            views: some of the N images -> batches for each view.
        """
        last = cast(nn.Linear, cast(nn.Sequential, self.part)[-1])
        parts = [np.flatnonzero(folds.fold == number) for number in range(len(folds.held))]
        found = []
        for number, (rows, head) in enumerate(zip(parts, folds.held, strict=True)):
            head.put(last)
            memory = self.memory[seen != number] if len(self.memory) else self.memory
            found.append(self.look(views(rows), "images of a fold", memory))
        folds.head.put(last)
        order = np.argsort(np.concatenate(parts))
        logits, labels = (
            torch.cat(some)[order]
            for some in ([one.logits for one in found], [one.labels for one in found])
        )
        distance = np.concatenate([one.distance for one in found])
        return Looked(logits, labels, distance[order] if len(distance) else distance)

    @contextlib.contextmanager
    def _described(self, take: Callable[[Tensor], T]) -> Iterator[list[T]]:
        """While the block runs, what `take` makes of the descriptors is collected by batches."""
        found: list[T] = []

        def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            found.append(take(self.model.descriptor(inputs[0].float())))

        handle = self.model.classifier.register_forward_pre_hook(note)
        try:
            yield found
        finally:
            handle.remove()

    def calibration(self, val: Looked, test: Looked | None) -> Calibration:
        """What is kept of validation and test images."""
        p, distance = (np.sort(one) for one in (val.p, val.distance))
        test_p, test_distance = (
            (np.sort(one) for one in (test.p, test.distance)) if test else (NOTHING, NOTHING)
        )
        return Calibration(p, distance, test_p, test_distance, self.memory)


def distances(descriptors: Tensor, memory: NDArray[np.float16]) -> Floats:
    """The cosine distance, 0 to 2, of each of (N, D) descriptors to its NEIGHBOUR-th nearest of
    (M, D), (N,); to the furthest where there are fewer.

    The product is torch's: threads of NumPy's wait busily for the next one, and so keep those of
    the network from their cores, which made each batch four times as slow.
    """
    own, known = unit(descriptors), torch.from_numpy(memory).to(descriptors.device)
    with arithmetic(own.device, torch.float32):
        near = own @ known.float().T
    kth = near.topk(min(NEIGHBOUR, len(memory))).values[:, -1]
    far: Floats = (1 - kth).cpu().numpy()
    return far


def unit(descriptors: Tensor) -> Tensor:
    """(N, D) descriptors, each divided by its length."""
    return F.normalize(descriptors.float(), eps=SHORTEST)


def remembered(rows: Labels, seed: int) -> Labels:
    """Which training images are remembered: all, or so many drawn at random."""
    drawn = np.random.default_rng(seed).permutation(len(rows))[:REMEMBERED]
    return np.sort(rows[drawn])


def calibrate(run: RunDirectory, trained: Trained, dtype: torch.dtype) -> Calibration:
    """The calibration of a run that has none, from its own data; it is kept if the run is
    finished.

    Raises:
        RunError: the data is not there any more, or has changed.
    """
    how, device = trained.preprocessing, next(trained.model.parameters()).device
    try:
        own = own_data(run.settings, how)
    except DataError as error:
        raise RunError(
            f"{run} was not calibrated, so it cannot say that it does not know; and "
            f"{error.message}",
            "Put the data back, or ask without --abstain.",
        ) from error
    say(f"{run} is calibrated, once: its validation and test images are classified")

    def views(rows: Labels) -> list[Batches]:
        return evaluation_views(own.store, rows, how, device)

    splits = own.splits
    if not len(splits.val):
        raise RunError(
            f"{run} was cross-validated, and has no image left by which it could be calibrated.",
            "Train it with --freeze conv, which calibrates it as it goes, or without --folds.",
        )
    memory, *_ = views(remembered(splits.train, run.settings.recipe.seed))
    calibrator = Calibrator(trained.model, trained.model, memory, dtype)
    val = calibrator.look(views(splits.val), "validation images")
    test = calibrator.look(views(splits.test), "test images") if len(splits.test) else None
    require_finite(val.logits.numpy(), run)
    found = calibrator.calibration(val, test)
    if run.evaluated:
        with contextlib.suppress(DiskError):  # it was lent to be read, and has what was asked
            run.write_calibration(found)
    return found
