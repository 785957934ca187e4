"""One training step, the only one: of a network, of a stack of heads, of the learning-rate finder's
copy, and of those that are only timed.

Shapes: B batch, K classes, M models side by side.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from alexnet import ranks
from alexnet.data.store import Batch, Shard, keyed_generator, seed_dropout
from alexnet.fitting.optimization import Loss
from alexnet.fitting.threads import Meeting, on_replicas
from alexnet.network.model import drops_for, normalises_over
from alexnet.runtime import arithmetic

DROPOUT = 1  # sets the generator of dropout apart from that of the augmentation of the same step


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    lr: float | Sequence[float],
    loss: Loss,
    dtype: torch.dtype,
    clip: float,
    key: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """Moves the weights once.

    Args:
        model: in training mode; gives logits (B, K), or (M, B, K) for M models, or logits and a
            term () that is added to the loss.
        optimizer: of its parameters; a group's "lr_share" is its part of the rate, its "model" the
            one of M that it belongs to.
        batch: a batch and its labels, or this process's shards of it.
        lr: the learning rate, or (M,) of them.
        loss: of logits (B, K) float32 and labels (B,), a mean over them.
        dtype: bfloat16 computes products in it.
        clip: largest norm of the gradient, of each model; 0 for none.
        key: (seed, epoch, step), which alone decides what dropout drops.

    Returns:
        The losses () or (M,), without the term, and how many guesses were right, () or (M,); both
        on the device, so that nobody waits for it.
    """
    for group in optimizer.param_groups:
        rate = lr[group["model"]] if isinstance(lr, Sequence) else lr
        group["lr"] = rate * group.get("lr_share", 1.0)
    optimizer.zero_grad(set_to_none=True)
    if batch.sharding.is_whole:
        [shard] = batch.shards
        losses, right = _backward(model, shard, loss, dtype, key)
    else:
        losses, right = _backward_in_shards(model, batch, loss, dtype, key)
    if clip:
        clip_gradients(optimizer, clip)
    optimizer.step()
    return losses, right


def _backward(
    model: nn.Module,
    shard: Shard,
    loss: Loss,
    dtype: torch.dtype,
    key: tuple[int, int, int],
    share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Gives the parameters the gradients of a shard, times its share of the batch; returns the
    losses, not times that, and how many guesses were right."""
    x, y, own = shard.x, shard.y, shard.own
    seed_dropout(x.device, *key, DROPOUT)
    with arithmetic(x.device, dtype):
        output = model(x)
    logits, term = output if isinstance(output, tuple) else (output, 0.0)

    def of_both(logits: Tensor) -> Tensor:
        value = loss(logits.float(), y)
        return value if own == 1 else value * own + loss(logits.float(), y.roll(1)) * (1 - own)

    losses = torch.stack([of_both(one) for one in logits]) if logits.ndim == 3 else None
    value = of_both(logits) if losses is None else losses.sum()
    whole = value + term
    (whole if share == 1 else whole * share).backward()
    right = (logits.detach().argmax(-1) == y).sum(-1)
    return (value if losses is None else losses).detach(), right


def _backward_in_shards(
    model: nn.Module, batch: Batch, loss: Loss, dtype: torch.dtype, key: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Gives the parameters the gradients of a batch, added up from its shards, whichever process
    computes them; returns what `_backward` returns. Batch normalisation looks at each shard by
    itself, unless all meet for it, and remembers the mean of what it saw."""
    sharding = batch.sharding
    meeting = Meeting(sharding) if sharding.sync_norm else None
    own = _Changing(model)
    before = [one.clone() for one in own.seen + own.counts]

    def part(network: nn.Module, piece: tuple[int, Shard]) -> ranks.Part:
        place, shard = piece
        its = _Changing(network)
        _put(its.seen + its.counts, before)
        # threads do not share one, and other devices have theirs
        generator = keyed_generator(*key, DROPOUT) if shard.x.is_cpu else None
        drops_for(network, shard.rows, generator)
        share = (shard.rows.stop - shard.rows.start) / shard.rows.of
        with meeting.or_nobody() if meeting else nullcontext():
            normalises_over(network, partial(meeting.total, place) if meeting else None)
            losses, right = _backward(network, shard, loss, dtype, key, share)
        found = [one.grad for one in its.parameters if one.grad is not None]
        found += [one * share for one in (*its.seen, losses)] + [right]
        for parameter in its.parameters:
            parameter.grad = None
        drops_for(network, None)
        normalises_over(network, None)
        return place, 1, torch.cat([one.reshape(-1) for one in found])

    sizes = [one.numel() for one in own.parameters + own.seen] + [1, 1]
    given = list(zip(sharding.mine, batch.shards, strict=True))
    threads = len(given) if meeting else None  # who waits for the others keeps its thread
    parts = on_replicas(model, part, given, threads)
    whole = ranks.total(parts, sharding.count, own.parameters[0].new_empty(sum(sizes)))
    pieces = whole.split(sizes)
    for parameter, gradient in zip(own.parameters, pieces, strict=False):
        parameter.grad = torch.empty_like(parameter).copy_(gradient.view(parameter.shape))
    _put(own.seen, pieces[len(own.parameters) : -2])
    _put(own.counts, [one + 1 for one in before[len(own.seen) :]])
    return pieces[-2][0], pieces[-1][0].long()


class _Changing:
    """What of a network a step changes: its parameters, and what batch normalisation keeps."""

    def __init__(self, model: nn.Module) -> None:
        buffers = list(model.named_buffers())
        self.parameters = [one for one in model.parameters() if one.requires_grad]
        self.seen = [one for name, one in buffers if name.endswith(("running_mean", "running_var"))]
        self.counts = [one for name, one in buffers if name.endswith("num_batches_tracked")]


def _put(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value.view(tensor.shape))


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float) -> None:
    """Scales the gradient of each model down to the norm `limit`."""
    models: dict[int, list[Tensor]] = {}
    for group in optimizer.param_groups:
        models.setdefault(group.get("model", 0), []).extend(group["params"])
    for parameters in models.values():
        nn.utils.clip_grad_norm_(parameters, limit)
