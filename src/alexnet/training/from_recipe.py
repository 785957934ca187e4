"""What of a recipe trains: phases, loss, optimiser, learning rate, heads side by side. Below this,
functions take plain arguments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from alexnet.fitting.optimization import Loss, learning_rate, make_loss, make_optimizer
from alexnet.fitting.stack import Stack, joined
from alexnet.recipes import Recipe, Resolved


@dataclass(frozen=True)
class Phase:
    """A part of a training: what is frozen in it, for how long, at which rate."""

    freeze: str
    epochs: int
    lr: float


def loss_of(recipe: Recipe) -> Loss:
    """The loss; classes weigh what a Resolved recipe knows."""
    weights = recipe.loss_weights if isinstance(recipe, Resolved) else ()
    return make_loss(recipe.loss, recipe.label_smoothing, weights)


def optimizer_of(
    recipe: Recipe, model: nn.Module, lr: float, fused: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of a network or of a part of it; `fused` as in `make_optimizer`."""
    return make_optimizer(
        model,
        recipe.optimizer,
        lr=lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        decay_all=recipe.decay_all,
        lr_decay_below=recipe.lr_decay_below,
        fused=fused,
    )


def stack_of(
    recipes: Sequence[Recipe], head: nn.Sequential, device: torch.device
) -> tuple[Stack, torch.optim.Optimizer]:
    """Copies of a head, one for each recipe, and their optimiser. The recipes differ in what heads
    that train side by side may differ in (`recipes.STACKABLE`)."""
    stack = Stack([head] * len(recipes)).to(device)
    each = zip(recipes, stack.heads(), strict=True)
    return stack, joined([optimizer_of(recipe, one, 0.0, fused=True) for recipe, one in each])


def rate_of(
    recipe: Recipe, phase: Phase, before: int = 0
) -> Callable[[float, Sequence[float]], float]:
    """The learning rate of a phase that begins after `before` epochs, as a function of (epochs done
    in all, validation scores so far)."""
    warmup = min(recipe.warmup, phase.epochs / 2) if before else recipe.warmup

    def rate(progress: float, scores: Sequence[float]) -> float:
        return learning_rate(
            progress - before,
            scores[before:],
            lr=phase.lr,
            schedule=recipe.schedule,
            epochs=phase.epochs,
            gamma=recipe.gamma,
            step_size=recipe.step_size,
            warmup=warmup,
        )

    return rate
