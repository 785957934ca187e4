"""M heads of one shape trained side by side, as one batched product; each with its own learning
rate, momentum, weight decay and schedule.

Shapes: M models, B batch, D features, H units, K classes. All models see the same batches and the
same dropout masks, which are those that each would see alone with the same seed: a stacked model
ends where it would have ended alone, up to rounding.
"""

import copy
import dataclasses
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.console import progress
from alexnet.data.store import Batches
from alexnet.errors import Interrupted, ModelError
from alexnet.fitting.loop import Epoch, Keep, Tally, best_of, is_kept
from alexnet.fitting.optimization import Loss
from alexnet.fitting.step import training_step
from alexnet.network.checkpoint import load_tensors, save_tensors
from alexnet.network.inference import forward
from alexnet.runtime import StopFlag, peak_memory


def _hand_out(parts: Sequence[nn.Parameter], whole: Tensor) -> None:
    """Gives the parts of a parameter their gradients, and takes its own."""
    assert whole.grad is not None  # noqa: S101  this is called when there is one
    for part, gradient in zip(parts, whole.grad, strict=True):
        part.grad = gradient
    whole.grad = None


class Stack(nn.Module):
    """M networks of the same fully connected layers: features (B, D) in, logits (M, B, K) out."""

    def __init__(self, heads: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.count = len(heads)
        self.names = [name for name, _ in heads[0].named_children()]
        self.layers: list[nn.Module] = list(
            heads[0]
        )  # what they are; their own weights are not used
        self.parts: list[list[nn.Parameter]] = []  # of each parameter, where `heads` were made
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
        kept, own = torch.ones_like(x), None  # what dropout makes of ones; batch norm's (M, D)
        for name, kind in zip(self.names, self.layers, strict=True):
            if isinstance(kind, nn.BatchNorm1d) and x.ndim == 2 and self.training:
                (x, own), kept = self._normalised(x, name, kind), torch.ones_like(x)
            elif isinstance(kind, nn.Dropout):
                if self.training and kind.p:
                    mask = F.dropout(torch.ones_like(x if x.ndim == 2 else x[0]), kind.p)
                    x, kept = x * mask, mask
            elif isinstance(kind, nn.Linear):
                weight, bias = self._of(name, "weight"), self._of(name, "bias")
                if own and weight.shape[1] < len(x):  # weights are fewer than what they look at
                    scale, shift = (one[:, None] * weight for one in own)
                    x, own = self._linear(x, scale, bias) + self._linear(kept, shift, None), None
                else:
                    x, own = self._linear(each(x, kept, own), weight, bias), None
            elif isinstance(kind, nn.BatchNorm1d):
                x = self._batch_norm(x, name, kind)
            else:
                x, own = kind(each(x, kept, own)), None
        return x

    def _of(self, layer: str, name: str) -> Tensor:
        key = f"{layer}_{name}"
        found: Tensor = self.tensors[key] if key in self.tensors else getattr(self, f"buffer_{key}")
        return found

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.ndim == 3:
            assert bias is not None  # noqa: S101  what the models do not share has one
            return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
        m, units, d = weight.shape  # one product serves all models
        flat = bias if bias is None else bias.reshape(-1)
        y = F.linear(x, weight.reshape(m * units, d), flat)  # (B, M * H)
        return y.view(len(x), m, units).transpose(0, 1)

    def _normalised(
        self, x: Tensor, name: str, kind: nn.BatchNorm1d
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Batch norm of what all models see (B, D), once for all; and the scales and shifts (M, D)
        that each has for it."""
        mean, variance = self._of(name, "running_mean"), self._of(name, "running_var")
        self._of(name, "num_batches_tracked").add_(1)
        y = F.batch_norm(x, mean[0], variance[0], None, None, True, kind.momentum or 0.0, kind.eps)
        mean[1:], variance[1:] = mean[0], variance[0]
        return y, (self._of(name, "weight"), self._of(name, "bias"))

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

    def heads(self) -> list[nn.Sequential]:
        """The models one by one, for optimisers: their parameters are parts of the stack's, not
        copies of them, and are handed their parts of its gradients. To be called once, on the
        device that the stack stays on."""
        named = dict(zip(self.names, self.layers, strict=True))
        heads = [nn.Sequential(OrderedDict(copy.deepcopy(named))) for _ in range(self.count)]
        for layer, kind in named.items():
            for name, _ in kind.named_parameters():
                whole = self.tensors[f"{layer}_{name}"]
                parts = [nn.Parameter(one) for one in whole.detach()]
                for head, part in zip(heads, parts, strict=True):
                    setattr(head.get_submodule(layer), name, part)
                whole.register_post_accumulate_grad_hook(partial(_hand_out, parts))
                self.parts.append(parts)
        return heads


def each(x: Tensor, kept: Tensor, own: tuple[Tensor, Tensor] | None) -> Tensor:
    """What models make of what they share (B, D), of which dropout has `kept` that part: by `own`
    scales and shifts, (M, B, D)."""
    return x if own is None else torch.addcmul(kept * own[1][:, None], x, own[0][:, None])


def joined(optimizers: Sequence[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """One optimiser of all models of a stack, from that of each; a group's "model" is the one whose
    rate it takes."""
    whole, *others = optimizers
    for model, one in enumerate(optimizers):
        for group in one.param_groups:
            group["model"] = model
    for one in others:
        for group in one.param_groups:
            whole.add_param_group(group)
    return whole


@dataclass
class StackState:
    """Everything that changes while a stack trains."""

    stack: Stack
    optimizer: torch.optim.Optimizer  # of its heads, joined
    history: list[list[Epoch]]  # of each model
    best: list[dict[str, Tensor]]  # weights of each model's best epoch
    failed: dict[int, str] = field(default_factory=dict)  # models whose loss is no number any more

    def save(self, path: Path) -> None:
        """Writes all of it to one file, whole or not at all."""
        tensors = {f"stack.{name}": one for name, one in self.stack.state_dict().items()}
        for place, parts in enumerate(self.stack.parts):
            for number, key in enumerate(self._slots):
                slots = [self.optimizer.state[one].get(key, torch.zeros_like(one)) for one in parts]
                tensors[f"slot.{place}.{number}"] = torch.stack(slots)
        for model, weights in enumerate(self.best):
            tensors |= {f"best.{model}.{name}": one for name, one in weights.items()}
        steps = [one.get("step", 0) for one in self.optimizer.state.values()]
        about: dict[str, Any] = {
            "steps": int(max(steps, default=0)),
            "history": [[dataclasses.asdict(one) for one in each] for each in self.history],
            "failed": {str(model): reason for model, reason in self.failed.items()},
        }
        save_tensors(path, tensors, about)

    @property
    def _slots(self) -> tuple[str, ...]:
        """What the optimiser keeps of a parameter, in the order of the file."""
        group = self.optimizer.param_groups[0]
        if "betas" in group:
            return "exp_avg", "exp_avg_sq"
        return ("velocity" if "orthogonal" in group else "momentum_buffer",)

    def load(self, path: Path) -> None:
        """The reverse of `save`."""
        tensors, about = load_tensors(path)
        self.stack.load_state_dict(
            {name[6:]: one for name, one in tensors.items() if name.startswith("stack.")}
        )
        for place, parts in enumerate(self.stack.parts):
            for number, key in enumerate(self._slots):
                slots = tensors[f"slot.{place}.{number}"].to(parts[0].device)
                for part, slot in zip(parts, slots, strict=True):
                    self.optimizer.state[part][key] = slot.clone()
                    if key == "exp_avg":
                        self.optimizer.state[part]["step"] = slot.new_tensor(float(about["steps"]))
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
                passed.lr = [
                    rates[m](now, scores[m]) if m in going else 0.0 for m in range(stack.count)
                ]
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
                passed.tally.add(values, right)
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
    lr: list[float] = field(default_factory=list)  # (M,) of the last step
    tally: Tally = field(default_factory=Tally)  # (M,) for each step
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
    train_loss = passed.tally.losses.cpu().double().mean(0)
    train_top1 = passed.tally.correct.sum(0).cpu() / passed.n
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
            lr=passed.lr[m],
            seconds=whole / len(going),
            train_images_per_second=passed.n * len(going) / passed.seconds,
            waiting=passed.waited / passed.seconds,
            best=is_kept(
                state.history[m], float(val_top1[m]), val_loss, images=len(labels), keep=keep
            ),
            peak_memory=peak_memory(next(state.stack.parameters()).device),
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
