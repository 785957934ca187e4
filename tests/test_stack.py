"""Heads trained side by side end where each would have ended alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from alexnet.data.store import Batches, Store, StoreWriter
from alexnet.errors import Interrupted, ModelError
from alexnet.fitting.loop import State, fit
from alexnet.fitting.optimization import learning_rate, make_loss, make_optimizer
from alexnet.fitting.stack import Stack, StackState, fit_stack, joined, stack_logits
from alexnet.runtime import StopFlag

CPU = torch.device("cpu")
KINDS = {
    "linear": lambda: nn.Sequential(nn.Linear(10, 3)),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.4), nn.Linear(10, 3)),
    "hidden": lambda: nn.Sequential(
        nn.Dropout(0.3), nn.Linear(10, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
    ),
    "dropout first": lambda: nn.Sequential(nn.Dropout(0.4), nn.BatchNorm1d(10), nn.Linear(10, 3)),
    "batch norm": lambda: nn.Sequential(
        nn.BatchNorm1d(10), nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)
    ),
}
SETTINGS: list[dict[str, Any]] = [
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant", "gamma": 0.1},
    {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1, "schedule": "exponential", "gamma": 0.5},
    {"lr": 0.3, "momentum": 0.0, "weight_decay": 0.01, "schedule": "one-cycle", "gamma": 0.1},
]


@pytest.fixture
def data(tmp_path):
    """Batches of features of three classes that overlap."""
    generator = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = generator.normal(size=(90, 10))
    x[np.arange(90), y] += 1.5
    with StoreWriter(tmp_path, (10,), "float16") as writer:
        writer.append(x)
        store = Store.open(writer.finish("features", {"splits": {}}, y, [""] * 90))

    def batches(indices, shuffle):
        return Batches(
            store, indices, batch_size=16, transform=lambda x, g: x.float(), device=CPU,
            shuffle=shuffle, seed=5,
        )  # fmt: skip

    return batches(np.arange(60), True), batches(np.arange(60, 90), False)


def head(kind):
    torch.manual_seed(7)
    return KINDS[kind]()


def rate_of(settings, epochs=4):
    how = {name: settings[name] for name in ("lr", "schedule", "gamma")}
    return lambda progress, scores: learning_rate(
        progress, scores, epochs=epochs, step_size=1, warmup=1.0, **how
    )


def optimizer_for(model, settings, name, nesterov, fused=False):
    return make_optimizer(
        model, name, lr=0.1, momentum=settings["momentum"],
        nesterov=nesterov and settings["momentum"] > 0, weight_decay=settings["weight_decay"],
        decay_all=False, fused=fused,
    )  # fmt: skip


def alone(kind, settings, data, optimizer, nesterov, clip, loss, keep, epochs=4):
    model = head(kind)
    state = State(model, optimizer_for(model, settings, optimizer, nesterov))
    history = list(
        fit(
            state, *data, epochs=epochs, rate=rate_of(settings), loss=loss, clip=clip, keep=keep,
            seed=5,
        )
    )  # fmt: skip
    return model, history


def together(kind, data, optimizer="sgd", nesterov=False, settings=SETTINGS):
    stack = Stack([head(kind)] * len(settings))
    each = [
        optimizer_for(one, settings, optimizer, nesterov, fused=True)
        for one, settings in zip(stack.heads(), settings, strict=True)
    ]
    return StackState(stack, joined(each), [[] for _ in settings], [{} for _ in settings])


def run(state, data, loss, epochs=4, clip=0.0, settings=SETTINGS, **options):
    return list(
        fit_stack(
            state, *data, epochs=epochs, rates=[rate_of(one) for one in settings], loss=loss,
            clip=clip, seed=5, **options,
        )
    )  # fmt: skip


CASES = [
    ("linear", "sgd", False, 0.0, "cross-entropy"), ("dropout", "sgd", True, 0.0, "cross-entropy"),
    ("hidden", "sgd", False, 0.5, "bce"), ("batch norm", "sgd", True, 0.0, "cross-entropy"),
    ("dropout first", "sgd", False, 0.0, "cross-entropy"),
    ("hidden", "muon", False, 0.0, "cross-entropy"),
    ("hidden", "adam", False, 0.0, "cross-entropy"), ("batch norm", "adamw", False, 0.1, "bce"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "optimizer", "nesterov", "clip", "loss"), CASES)
def test_a_stacked_model_is_the_model_alone(kind, optimizer, nesterov, clip, loss, data):
    loss = make_loss(loss, 0.1)
    settings = SETTINGS if not nesterov else SETTINGS[:2]
    if optimizer != "sgd":
        settings = [one | {"lr": one["lr"] / 10} for one in settings]
    state = together(kind, data, optimizer, nesterov, settings)
    keep = "one-se" if clip else "best"
    found = run(state, data, loss, clip=clip, settings=settings, keep=keep)
    for m, one in enumerate(settings):
        model, history = alone(kind, one, data, optimizer, nesterov, clip, loss, keep)
        for theirs, ours in zip(history, (epochs[m] for epochs in found), strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)
            assert ours.val_loss == pytest.approx(theirs.val_loss, rel=1e-3)
            # Adam makes full steps of what is rounding, and so shifts a bias that batch norm takes
            # out again only while training: an image on the edge may fall to either side
            slack = 1 / len(data[1].indices) if (kind, optimizer) == ("batch norm", "adamw") else 0
            assert ours.val_top1 == pytest.approx(theirs.val_top1, abs=slack * 1.01)
            assert ours.lr == pytest.approx(theirs.lr)
            assert ours.best == theirs.best
        weights = state.stack.head(m)
        assert list(weights) == list(model.state_dict())
        for name, tensor in model.state_dict().items():
            if kind == "batch norm" and name in ("0.bias", "1.bias", "2.running_mean"):
                continue  # a shift before batch norm has no effect, and rounding for a gradient
            torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_best_epoch_is_kept_for_each(data):
    state = together("linear", data)
    run(state, data, make_loss("cross-entropy", 0.0))
    for m, weights in enumerate(state.best):
        best = next(one for one in reversed(state.history[m]) if one.best)
        single = KINDS["linear"]()
        single.load_state_dict(weights)
        logits, labels = stack_logits(Stack([single]), data[1], torch.float32)
        assert (logits[0].argmax(1) == labels).float().mean() == pytest.approx(best.val_top1)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_going_on_from_a_file_gives_the_same_bits(optimizer, data, tmp_path):
    loss = make_loss("cross-entropy", 0.0)
    whole = together("batch norm", data, optimizer)
    run(whole, data, loss)
    half = together("batch norm", data, optimizer)
    run(half, data, loss, epochs=2)
    half.save(tmp_path / "state.safetensors")
    again = together("batch norm", data, optimizer)
    again.load(tmp_path / "state.safetensors")
    run(again, data, loss)
    for m in range(3):
        assert [e.val_loss for e in again.history[m]] == [e.val_loss for e in whole.history[m]]
        for name, tensor in whole.best[m].items():
            assert torch.equal(again.best[m][name], tensor)


def test_a_model_that_explodes_does_not_stop_the_others(data):
    settings = [SETTINGS[0], SETTINGS[0] | {"lr": 1e30}, SETTINGS[1]]
    loss = make_loss("cross-entropy", 0.0)
    state = together("hidden", data, settings=settings)
    run(state, data, loss, settings=settings)
    assert set(state.failed) == {1}
    assert "no longer a number" in state.failed[1]
    assert [len(one) for one in state.history] == [4, 0, 4]
    calm = together("hidden", data, settings=[SETTINGS[0], SETTINGS[1]])
    run(calm, data, loss, settings=[SETTINGS[0], SETTINGS[1]])
    for m, other in ((0, 0), (2, 1)):
        torch.testing.assert_close(state.stack.head(m), calm.stack.head(other))


def test_each_has_its_own_patience(data):
    settings = [SETTINGS[0], SETTINGS[0] | {"lr": 1e-12}]
    state = together("linear", data, settings=settings)
    run(state, data, make_loss("cross-entropy", 0.0), epochs=12, settings=settings, patience=2)
    for history in state.history:
        best = next(one.epoch for one in reversed(history) if one.best)
        assert len(history) == min(12, best + 2)
    assert len(state.history[1]) < 12


def test_it_stops_when_asked(data):
    stop = StopFlag()
    stop.raised = True
    with pytest.raises(Interrupted):
        run(together("linear", data), data, make_loss("bce", 0.0), stop=stop)


def test_a_layer_that_cannot_be_stacked_is_named():
    with pytest.raises(ModelError, match="kind Conv2d"):
        Stack([nn.Sequential(nn.Conv2d(3, 4, 3))])
