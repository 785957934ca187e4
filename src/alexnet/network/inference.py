"""Running a network over images: views of them, batches, logits."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet import ranks
from alexnet.console import progress
from alexnet.data import augment
from alexnet.data.store import Batches, Store
from alexnet.network.description import Preprocessing
from alexnet.runtime import arithmetic
from alexnet.scoring.metrics import Labels

EVALUATION_BATCH = 256


def predict_logits(
    model: nn.Module, views: Sequence[Batches], dtype: torch.dtype, what: str
) -> tuple[Tensor, Tensor]:
    """Runs a model in evaluation mode over batches of each view of the same examples: logits (N, K)
    float32, averaged over the views, and labels (N,) int64, both on the CPU.

    Of several ranks each computes some of the batches, and all get all. Progress is shown under the
    name `what`. The model's mode is as before afterwards.
    """
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    with evaluating(model), progress(what, sum(map(len, views))) as advance:
        for batches in views:
            per_batch, labels = [], []
            mine = ranks.part(len(batches))
            for x, y in islice(batches.epoch(start=mine.start), len(mine)):
                per_batch.append(forward(model, x, dtype))
                labels.append(y)
                advance(1)
            logits.append(ranks.concatenated(per_batch, torch.float32))
    return average_views(logits), ranks.concatenated(labels, torch.int64)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """While the block runs the model is in evaluation mode; afterwards in the one it had."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.inference_mode()
def forward(model: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Logits (B, K) float32."""
    with arithmetic(x.device, dtype):
        return cast(Tensor, model(x)).float()


def average_views(logits: Sequence[Tensor]) -> Tensor:
    """Of one view its logits (..., K); of several the logarithm of their averaged probabilities, as
    the 2012 paper averages its views."""
    if len(logits) == 1:
        return logits[0]
    return torch.logsumexp(F.log_softmax(torch.stack(list(logits)), -1), 0) - math.log(len(logits))


def evaluation_transforms(how: Preprocessing) -> list[augment.Transform]:
    """What happens to stored images before a network sees them, wherever nothing is random; one
    transform per view."""
    return augment.evaluation_views(
        image_size=how.image_size,
        border=how.border,
        crop=how.crop,
        mean=how.mean,
        std=how.std,
        views=how.views,
    )


def evaluation_views(
    store: Store, indices: Labels, how: Preprocessing, device: torch.device
) -> list[Batches]:
    """Batches of a Store as a network sees them, in order; one sequence per view."""
    return [
        Batches(store, indices, batch_size=EVALUATION_BATCH, transform=transform, device=device)
        for transform in evaluation_transforms(how)
    ]
