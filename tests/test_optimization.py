"""Losses, optimisers and schedules against torch's."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

from alexnet.fitting.optimization import (
    learning_rate,
    make_loss,
    make_optimizer,
    orthogonal,
    plateau_drops,
)
from alexnet.network.description import architecture
from alexnet.network.model import AlexNet

PLAIN: dict[str, Any] = {"lr": 0.4, "epochs": 20, "gamma": 0.3, "step_size": 4, "warmup": 0.0}


def rates(schedule, scores=(), **changes):
    """The learning rate during each epoch."""
    fields: dict[str, Any] = {**PLAIN, **changes, "schedule": schedule}
    return [learning_rate(epoch + 0.5, scores[:epoch], **fields) for epoch in range(20)]


def torchs(make, scores=()):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.4)
    scheduler = make(optimizer)
    found = []
    for epoch in range(20):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(scores[epoch]) if scores else scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ("constant", lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        ("exponential", lambda o: lr_scheduler.ExponentialLR(o, 0.3)),
        ("step", lambda o: lr_scheduler.StepLR(o, 4, 0.3)),
    ],
)
def test_schedules_by_epoch_equal_torchs(schedule, make):
    assert rates(schedule) == pytest.approx(torchs(make))


def test_plateau_equals_torchs():
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        scores = torch.rand(20, generator=generator).mul(10).round().div(10).tolist()
        theirs = torchs(
            lambda o: lr_scheduler.ReduceLROnPlateau(o, mode="max", factor=0.3, patience=2, eps=0),
            scores,
        )
        assert rates("plateau", scores, step_size=2) == pytest.approx(theirs)
    assert plateau_drops([], 3) == 0


def test_cosine_equals_its_formula_and_torchs():
    at_starts = [learning_rate(epoch, (), **PLAIN, schedule="cosine") for epoch in range(20)]
    assert at_starts == pytest.approx(torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, 20)))
    assert learning_rate(20, (), **PLAIN, schedule="cosine") == pytest.approx(0, abs=1e-12)


def test_one_cycle_rises_to_the_rate_and_falls_to_zero():
    fields: dict[str, Any] = {**PLAIN, "schedule": "one-cycle", "warmup": 6}
    found = [learning_rate(p, (), **fields) for p in (0, 3, 6, 13, 20)]
    assert found == pytest.approx([0, 0.2, 0.4, 0.2, 0])
    # without a warm-up of its own it rises over a quarter of the epochs
    assert learning_rate(5, (), **{**fields, "warmup": 0}) == pytest.approx(0.4)


@pytest.mark.parametrize("schedule", ["constant", "exponential", "step", "plateau", "cosine"])
def test_warm_up_is_a_straight_line(schedule):
    fields: dict[str, Any] = {**PLAIN, "schedule": schedule, "warmup": 2.0, "gamma": 1.0}
    found = [learning_rate(p, (), **fields) for p in (0, 0.5, 1, 2)]
    assert found == pytest.approx([0, 0.1, 0.2, 0.4])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(5, 4, generator=generator), torch.tensor([0, 1, 2, 3, 0])
    ours = make_loss("cross-entropy", smoothing)(logits, labels)
    assert ours == nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels)
    target = F.one_hot(labels, 4) * (1 - smoothing) + smoothing / 4
    p = torch.sigmoid(logits)
    by_hand = -(target * p.log() + (1 - target) * (1 - p).log()).sum() / 5
    torch.testing.assert_close(make_loss("bce", smoothing)(logits, labels), by_hand)


def optimizer_of(name="sgd", **changes):
    model = AlexNet(architecture("small", width=0.1), 3)
    fields = {
        "lr": 0.1,
        "momentum": 0.8,
        "nesterov": False,
        "weight_decay": 0.01,
        "decay_all": False,
    }
    return model, make_optimizer(model, name, **{**fields, **changes})


def test_biases_and_norms_do_not_decay():
    model, optimizer = optimizer_of()
    decayed, others = (group["params"] for group in optimizer.param_groups)
    assert all(p.ndim > 1 for p in decayed)
    assert all(p.ndim == 1 for p in others)
    assert len(decayed) + len(others) == len(list(model.parameters()))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    _, everything = optimizer_of(decay_all=True)
    assert [group["weight_decay"] for group in everything.param_groups] == [0.01]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_optimisers_are_torchs(name, kind):
    _, optimizer = optimizer_of(name)
    assert isinstance(optimizer, kind) and optimizer.__class__.__name__ == kind.__name__
    group = optimizer.param_groups[0]
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.8


def test_sgd_follows_the_papers_rule():
    """v <- 0.9 v - 5e-4 lr w - lr grad; w <- w + v."""
    weight = nn.Parameter(torch.tensor([[2.0]]))
    module = nn.Module()
    module.weight = weight
    optimizer = make_optimizer(
        module, "sgd", lr=0.1, momentum=0.9, nesterov=False, weight_decay=5e-4, decay_all=False
    )
    w, v = 2.0, 0.0
    for gradient in (0.3, -0.2, 0.7):
        weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        v = 0.9 * v - 5e-4 * 0.1 * w - 0.1 * gradient
        w += v
        assert math.isclose(float(weight.detach()), w, rel_tol=1e-6)


def test_muons_steps_go_equally_far_in_all_directions():
    generator = torch.Generator().manual_seed(2)
    for shape in ((8, 30), (30, 8), (6, 6)):
        matrix = torch.randn(shape, generator=generator)
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        found = u.T @ orthogonal(matrix) @ v.T  # diagonal: the same singular vectors
        apart = found - found.diag().diag()
        assert apart.abs().max() < 0.03
        assert found.diag()[s > s.norm() / 50].sub(0.945).abs().max() < 0.3


def test_muon_turns_all_layers_but_the_last():
    torch.manual_seed(3)
    model = AlexNet(architecture("fast", width=0.125), 3)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    optimizer = make_optimizer(
        model, "muon", lr=0.1, momentum=0.6, nesterov=False, weight_decay=0.5, decay_all=False
    )
    velocity = {name: torch.zeros_like(one) for name, one in before.items()}
    for lr in (0.1, 0.2):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for one in model.parameters():
            one.grad = torch.randn_like(one)
        for name, one in model.named_parameters():
            assert one.grad is not None
            velocity[name] = 0.6 * velocity[name] + one.grad
            direction = one.grad + 0.6 * velocity[name]
            if one.ndim == 4:
                direction = orthogonal(direction.flatten(1)).view(one.shape)
            before[name] = before[name] * (1 - lr * 0.5 * (one.ndim > 1)) - lr * direction
        optimizer.step()
        for name, one in model.named_parameters():
            torch.testing.assert_close(one.detach(), before[name], msg=name)
