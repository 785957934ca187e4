"""M heads of one shape trained side by side, as one batched product; each with its own learning
rate, momentum, weight decay and schedule.

Shapes: M models, B batch, D features, H units, K classes. All models see the same batches and the
same dropout masks, which are those that each would see alone with the same seed: a stacked model
ends where it would have ended alone, up to rounding.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.console import progress
from alexnet.data.store import Batches
from alexnet.errors import Interrupted, ModelError
from alexnet.fitting.loop import Epoch, Keep, best_of, is_kept
from alexnet.fitting.optimization import Loss
from alexnet.fitting.step import training_step
from alexnet.network.checkpoint import load_tensors, save_tensors
from alexnet.network.inference import forward
from alexnet.runtime import StopFlag, peak_memory


class Stack(nn.Module):
    """M networks of the same fully connected layers: features (B, D) in, logits (M, B, K) out."""

    def __init__(self, heads: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.count = len(heads)
        self.names = [name for name, _ in heads[0].named_children()]
        self.layers: list[nn.Module] = list(
            heads[0]
        )  # what they are; their own weights are not used
        for kind in self.layers:
            if not isinstance(
                kind, nn.Linear | nn.BatchNorm1d | nn.Dropout | nn.ReLU | nn.LeakyReLU | nn.Tanh
            ):
                raise ModelError(f"a layer of kind {type(kind).__name__} cannot be stacked.")
        trained = dict(heads[0].named_parameters())
        self.tensors = nn.ParameterDict()  # "1.weight": (M, ...)
        for name in heads[0].state_dict():
            stacked = torch.stack([head.state_dict()[name] for head in heads]).clone()
            if name in trained:
                self.tensors[name.replace(".", "_")] = nn.Parameter(stacked)
            else:
                self.register_buffer("buffer_" + name.replace(".", "_"), stacked)

    def forward(self, x: Tensor) -> Tensor:  # (B, D) -> (M, B, K)
        for name, kind in zip(self.names, self.layers, strict=True):
            if isinstance(kind, nn.Linear):
                x = self._linear(x, self._of(name, "weight"), self._of(name, "bias"))
            elif isinstance(kind, nn.BatchNorm1d):
                x = self._batch_norm(x, name, kind)
            elif isinstance(kind, nn.Dropout):
                if self.training and kind.p:
                    x = x * F.dropout(torch.ones_like(x if x.ndim == 2 else x[0]), kind.p)
            else:
                x = kind(x)
        return x

    def _of(self, layer: str, name: str) -> Tensor:
        key = f"{layer}_{name}"
        found: Tensor = self.tensors[key] if key in self.tensors else getattr(self, f"buffer_{key}")
        return found

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if x.ndim == 3:
            return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
        m, units, d = weight.shape  # one product serves all models
        y = F.linear(x, weight.reshape(m * units, d), bias.reshape(-1))  # (B, M * H)
        return y.view(len(x), m, units).transpose(0, 1)

    def _batch_norm(self, x: Tensor, name: str, kind: nn.BatchNorm1d) -> Tensor:
        if x.ndim == 2:
            x = x.expand(self.count, -1, -1)
        m, batch, units = x.shape
        if self.training:
            self._of(name, "num_batches_tracked").add_(1)
        y = F.batch_norm(
            x.transpose(0, 1).reshape(batch, m * units),
            self._of(name, "running_mean").view(-1),
            self._of(name, "running_var").view(-1),
            self._of(name, "weight").reshape(-1),
            self._of(name, "bias").reshape(-1),
            self.training,
            kind.momentum or 0.0,
            kind.eps,
        )
        return y.view(batch, m, units).transpose(0, 1)

    def tensor(self, name: str) -> Tensor:
        """The weights (M, ...) that a head calls `name`."""
        layer, _, key = name.rpartition(".")
        return self._of(layer, key)

    def head(self, model: int) -> dict[str, Tensor]:
        """The weights of one model, named as in the head it came from."""
        return {
            f"{layer}.{key}": self._of(layer, key)[model].detach().clone()
            for layer, kind in zip(self.names, self.layers, strict=True)
            for key in kind.state_dict()
        }


class StackOptimizer(torch.optim.Optimizer):
    """SGD, Adam or AdamW with a learning rate, a momentum and a weight decay for each model. One
    step does what torch's optimisers do, model by model."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        name: str,
        *,
        momentum: Sequence[float],
        weight_decay: Sequence[float],
        nesterov: bool,
        decay_all: bool,
    ) -> None:
        """Parameters are (M, ...); momentum is beta1 of Adam."""
        super().__init__(parameters, {"lr": torch.zeros(len(momentum))})
        self.parameters: list[nn.Parameter] = self.param_groups[0]["params"]
        self.name, self.nesterov = name, nesterov
        self.momentum = torch.tensor(momentum, device=self.parameters[0].device)
        self.weight_decay = torch.tensor(weight_decay, device=self.parameters[0].device)
        self.decays = [decay_all or parameter.ndim > 2 for parameter in self.parameters]
        self.steps = 0
        count = 1 if name == "sgd" else 2
        self.slots = [[torch.zeros_like(p) for _ in range(count)] for p in self.parameters]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step with the rates (M,) of its group."""
        self.steps += 1
        lr = self.param_groups[0]["lr"].to(self.momentum.device)
        for parameter, decays, slots in zip(self.parameters, self.decays, self.slots, strict=True):
            if parameter.grad is None:
                continue
            shape = (-1, *[1] * (parameter.ndim - 1))
            rate, momentum = lr.view(shape), self.momentum.view(shape)
            decay = self.weight_decay.view(shape) * decays
            gradient = parameter.grad
            if self.name == "adamw":
                parameter.mul_(1 - rate * decay)
            elif decays:
                gradient = gradient + decay * parameter
            if self.name == "sgd":
                [velocity] = slots
                if self.steps == 1:
                    velocity.copy_(gradient)
                else:
                    velocity.mul_(momentum).add_(gradient)
                direction = gradient + momentum * velocity if self.nesterov else velocity
                parameter.sub_(rate * direction)
            else:
                first, second = slots
                first.lerp_(gradient, 1 - momentum.expand_as(first))
                second.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
                correction = 1 - self.momentum.double().pow(self.steps)
                step_size = (lr / correction).view(shape).to(first.dtype)
                scale = math.sqrt(1 - 0.999**self.steps)
                parameter.sub_(step_size * first / (second.sqrt() / scale + 1e-8))


@dataclass
class StackState:
    """Everything that changes while a stack trains."""

    stack: Stack
    optimizer: StackOptimizer
    history: list[list[Epoch]]  # of each model
    best: list[dict[str, Tensor]]  # weights of each model's best epoch
    failed: dict[int, str] = field(default_factory=dict)  # models whose loss is no number any more

    def save(self, path: Path) -> None:
        """Writes all of it to one file, whole or not at all."""
        tensors = {f"stack.{name}": one for name, one in self.stack.state_dict().items()}
        for place, slots in enumerate(self.optimizer.slots):
            tensors |= {f"slot.{place}.{number}": one for number, one in enumerate(slots)}
        for model, weights in enumerate(self.best):
            tensors |= {f"best.{model}.{name}": one for name, one in weights.items()}
        about: dict[str, Any] = {
            "steps": self.optimizer.steps,
            "history": [[dataclasses.asdict(one) for one in each] for each in self.history],
            "failed": {str(model): reason for model, reason in self.failed.items()},
        }
        save_tensors(path, tensors, about)

    def load(self, path: Path) -> None:
        """The reverse of `save`."""
        tensors, about = load_tensors(path)
        self.stack.load_state_dict(
            {name[6:]: one for name, one in tensors.items() if name.startswith("stack.")}
        )
        for place, slots in enumerate(self.optimizer.slots):
            for number, slot in enumerate(slots):
                slot.copy_(tensors[f"slot.{place}.{number}"])
        self.optimizer.steps = about["steps"]
        self.history = [[Epoch(**one) for one in each] for each in about["history"]]
        self.failed = {int(model): reason for model, reason in about["failed"].items()}
        for model, weights in enumerate(self.best):
            prefix = f"best.{model}."
            weights |= {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}


Rate = Callable[[float, Sequence[float]], float]


def fit_stack(
    state: StackState,
    train: Batches,
    val: Batches,
    *,
    epochs: int,
    rates: Sequence[Rate],
    loss: Loss,
    dtype: torch.dtype = torch.float32,
    clip: float = 0.0,
    patience: int = 0,
    keep: Keep = "best",
    seed: int = 0,
    stop: StopFlag | None = None,
) -> Iterator[list[Epoch | None]]:
    """`loop.fit` for a stack: yields after each pass one Epoch per model, None for those that have
    failed or have stopped early. Arguments as there; `rates` are M functions, and patience is each
    model's own.

    Raises:
        Interrupted: `stop` became true; the epoch under way is lost.
    """
    stack = state.stack
    done = max((len(each) for each in state.history), default=0)
    for epoch in range(done, epochs):
        going = [m for m in range(stack.count) if _goes_on(state, m, patience, epoch)]
        if not going:
            return
        scores = [[one.val_top1 for one in each] for each in state.history]
        passed = _Pass(len(train.indices), time.perf_counter())
        stack.train()
        name, later = f"epoch {epoch + 1}/{epochs}", (epochs - epoch - 1) * len(train)
        with progress(name, len(train), lines=False, after=later) as advance:
            last = passed.started
            for step, batch in enumerate(train.shards(epoch)):
                if stop:
                    raise Interrupted("stopped.")
                passed.waited += time.perf_counter() - last
                now = epoch + (step + 0.5) / len(train)
                rate = [rates[m](now, scores[m]) if m in going else 0.0 for m in range(stack.count)]
                passed.lr = torch.tensor(rate)
                values, right = training_step(
                    stack,
                    state.optimizer,
                    batch,
                    lr=passed.lr,
                    loss=loss,
                    dtype=dtype,
                    clip=clip,
                    key=(seed, epoch, step),
                )
                passed.losses.append(values)
                passed.correct.append(right)
                last = time.perf_counter()
                advance(1)
        passed.seconds = time.perf_counter() - passed.started
        logits = stack_logits(stack, val, dtype)
        yield _judged(state, passed, logits, loss, going, epoch + 1, keep)


@dataclass
class _Pass:
    """One pass of a stack over n training images."""

    n: int
    started: float
    lr: Tensor = field(default_factory=Tensor)  # (M,) of the last step
    losses: list[Tensor] = field(default_factory=list)  # (M,) for each step
    correct: list[Tensor] = field(default_factory=list)  # (M,) for each step
    waited: float = 0.0
    seconds: float = 0.0


def _judged(
    state: StackState,
    passed: _Pass,
    val: tuple[Tensor, Tensor],
    loss: Loss,
    going: Sequence[int],
    number: int,
    keep: Keep,
) -> list[Epoch | None]:
    """What epoch `number` came to for each model that is `going` on, from its logits (M, N, K) and
    labels (N,) of validation; kept in the state."""
    train_loss = torch.stack(passed.losses).cpu().double().mean(0)
    train_top1 = torch.stack(passed.correct).sum(0).cpu() / passed.n
    logits, labels = val
    val_top1 = (logits.argmax(2) == labels).float().mean(1)
    whole = time.perf_counter() - passed.started
    found: list[Epoch | None] = [None] * state.stack.count
    for m in going:
        val_loss = float(loss(logits[m], labels))
        if not math.isfinite(val_loss) or not math.isfinite(float(train_loss[m])):
            state.failed[m] = f"the loss is no longer a number in epoch {number}"
            continue
        found[m] = one = Epoch(
            epoch=number,
            train_loss=float(train_loss[m]),
            train_top1=float(train_top1[m]),
            val_loss=val_loss,
            val_top1=float(val_top1[m]),
            lr=float(passed.lr[m]),
            seconds=whole / len(going),
            train_images_per_second=passed.n * len(going) / passed.seconds,
            waiting=passed.waited / passed.seconds,
            best=is_kept(
                state.history[m], float(val_top1[m]), val_loss, images=len(labels), keep=keep
            ),
            peak_memory=peak_memory(state.optimizer.momentum.device),
        )
        if one.best:
            state.best[m] = state.stack.head(m)
        state.history[m].append(one)
    return found


def _goes_on(state: StackState, model: int, patience: int, epoch: int) -> bool:
    history = state.history[model]
    if model in state.failed or len(history) < epoch:
        return False
    best = best_of(history)
    return not patience or len(history) - (best.epoch if best else 0) < patience


def stack_logits(stack: Stack, val: Batches, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits (M, N, K) float32 and labels (N,) in evaluation mode, on the CPU."""
    stack.eval()
    logits, labels = [], []
    for x, y in val.epoch():
        logits.append(forward(stack, x, dtype).cpu())
        labels.append(y.cpu())
    return torch.cat(logits, 1), torch.cat(labels)
