"""One training step, the only one: of a network, of a stack of heads, of the learning-rate finder's
copy, and of those that are only timed.

Shapes: B batch, K classes, M models side by side.
"""

from typing import Any

import torch
from torch import Tensor, nn

from alexnet.data.store import seed_dropout
from alexnet.fitting.optimization import Loss
from alexnet.runtime import arithmetic

DROPOUT = 1  # sets the generator of dropout apart from that of the augmentation of the same step


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    *,
    lr: float | Tensor,
    loss: Loss,
    dtype: torch.dtype,
    clip: float,
    key: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """Moves the weights once.

    Args:
        model: in training mode; gives logits (B, K), or (M, B, K) for M models, or logits and a
            term () that is added to the loss.
        optimizer: of its parameters; a group's "lr_share" is its part of the rate.
        x, y: a batch and its labels (B,).
        lr: the learning rate, or (M,) of them.
        loss: of logits (B, K) float32 and labels (B,).
        dtype: bfloat16 computes products in it.
        clip: largest norm of the gradient, of each model; 0 for none.
        key: (seed, epoch, step), which alone decides what dropout drops.

    Returns:
        The losses () or (M,), without the term, and how many guesses were right, () or (M,); both
        on the device, so that nobody waits for it.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_share", 1.0)
    seed_dropout(x.device, *key, DROPOUT)
    with arithmetic(x.device, dtype):
        output = model(x)
    logits, term = output if isinstance(output, tuple) else (output, 0.0)
    stacked = logits.ndim == 3
    losses = torch.stack([loss(one.float(), y) for one in logits]) if stacked else None
    value = loss(logits.float(), y) if losses is None else losses.sum()
    optimizer.zero_grad(set_to_none=True)
    (value + term).backward()
    if clip:
        clip_gradients(optimizer, clip, stacked)
    optimizer.step()
    right = (logits.detach().argmax(-1) == y).sum(-1)
    return (value if losses is None else losses).detach(), right


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float, stacked: bool) -> None:
    """Scales the gradient down to the norm `limit`; of a stack, whose parameters are (M, ...), that
    of each model."""
    parameters: list[Any] = [one for group in optimizer.param_groups for one in group["params"]]
    if not stacked:
        nn.utils.clip_grad_norm_(parameters, limit)
        return
    gradients = [one.grad for one in parameters if one.grad is not None]
    squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
    factor = (limit / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))
