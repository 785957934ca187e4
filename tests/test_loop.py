"""The loop: the same bits every time, interrupted or not; and what stops it."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from alexnet.data.store import Batches, Store, StoreWriter
from alexnet.errors import Interrupted, TrainingError, WeightsError
from alexnet.fitting.loop import Epoch, State, Tally, best_of, fit, is_kept
from alexnet.fitting.optimization import Muon, make_loss
from alexnet.fitting.step import training_step
from alexnet.ranks import Sharding
from alexnet.runtime import StopFlag


@pytest.fixture
def store(tmp_path):
    """Three classes of noisy 4x4 images that a small network can tell apart."""
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = generator.integers(0, 100, (60, 3, 4, 4))
    x[np.arange(60), y] += 100
    with StoreWriter(tmp_path, (3, 4, 4), "uint8") as writer:
        writer.append(x.astype(np.uint8))
        info = {"classes": ["r", "g", "b"], "names": ["r", "g", "b"], "splits": {"all": (0, 60)}}
        path = writer.finish("noise", info, y, [str(i) for i in range(60)])
    return Store.open(path)


def batches(store, indices, shuffle=False, scale=1.0):
    return Batches(
        store,
        indices,
        batch_size=8,
        transform=lambda x, generator: x.float() / 255 * scale,
        device=torch.device("cpu"),
        shuffle=shuffle,
    )


def new_state(average=False, optimizer="sgd", lr=0.1):
    torch.manual_seed(0)
    hidden = [nn.Linear(48, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)]
    model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 3))
    kinds = {
        "sgd": lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9),
        "adamw": lambda p: torch.optim.AdamW(p, lr=lr),
        "muon": lambda p: Muon(
            [{"params": [one], "orthogonal": one.ndim > 1, "weight_decay": 0.1} for one in p],
            momentum=0.9,
        ),
    }
    averaged = None
    if average:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    return State(model, kinds[optimizer](model.parameters()), averaged)


def run(state, store, epochs=3, scale=1.0, **more):
    train = batches(store, np.arange(48), shuffle=True, scale=scale)
    val = batches(store, np.arange(48, 60))
    more.setdefault("rate", lambda progress, scores: 0.1)
    return fit(state, train, val, epochs=epochs, loss=make_loss("cross-entropy", 0.0), **more)


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def without_time(history):
    return [
        (e.epoch, e.train_loss, e.train_top1, e.val_loss, e.val_top1, e.lr, e.best) for e in history
    ]


def chosen(right, images, keep):
    """The epochs that were kept at their time, of a history with so many images right."""
    rest: dict[str, Any] = dict.fromkeys(
        ("train_loss", "train_top1", "lr", "seconds", "train_images_per_second", "waiting"), 0.0
    )
    history: list[Epoch] = []
    for number, count in enumerate(right, 1):
        scores = (count / images, 1.0 - number / 100)
        best = is_kept(history, *scores, images=images, keep=keep)
        one = Epoch(epoch=number, val_top1=scores[0], val_loss=scores[1], best=best, **rest)
        history.append(one)
    found = best_of(history)
    assert found is not None
    return found.epoch


@given(st.lists(st.integers(0, 15), min_size=1, max_size=12))
def test_the_epoch_that_is_kept(right):
    highest = max(right)
    assert right[chosen(right, 15, "best") - 1] == highest
    share = (highest + 1) / 17
    enough = highest - 15 * math.sqrt(share * (1 - share) / 15)
    within = [number for number, count in enumerate(right, 1) if count >= enough - 1e-9]
    assert chosen(right, 15, "one-se") == within[-1]


def test_of_many_images_little_is_chance():
    assert chosen([9_000, 8_990], 10_000, "one-se") == 2  # 0.3 points are one standard error
    assert chosen([9_000, 8_900], 10_000, "one-se") == 1
    assert chosen([9, 6], 10, "one-se") == 1 and chosen([9, 8], 10, "one-se") == 2


def test_it_learns_and_yields_one_epoch_after_each_pass(store):
    epochs = list(run(new_state(), store, epochs=6))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1].val_top1 > 0.9
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert all(
        e.seconds > 0 and e.train_images_per_second > 0 and 0 <= e.waiting <= 1 for e in epochs
    )


def test_break_ends_it_and_the_state_goes_on(store):
    state = new_state()
    for _ in itertools.islice(run(state, store, epochs=3), 1):
        pass
    assert len(state.history) == 1
    assert len(list(run(state, store, epochs=3))) == 2


def test_the_same_seed_gives_the_same_bits(store):
    first, second, other = new_state(), new_state(), new_state()
    for state, seed in ((first, 1), (second, 1), (other, 2)):
        list(run(state, store, seed=seed))
    assert same(first.model, second.model)
    assert without_time(first.history) == without_time(second.history)
    assert not same(first.model, other.model)  # the seed decides the dropout


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("steps", [1, 6, 9])
def test_resuming_gives_the_bits_of_an_unbroken_run(store, tmp_path, optimizer, average, steps):
    whole = new_state(average, optimizer)
    list(run(whole, store))
    stop, broken = StopFlag(), new_state(average, optimizer)

    def rate(progress, scores):
        stop.raised = progress * 6 > steps
        return 0.1

    with pytest.raises(Interrupted):
        list(run(broken, store, rate=rate, stop=stop))
    broken.save(tmp_path / "last.safetensors")
    taken_up = new_state(average, optimizer)
    nn.init.zeros_(taken_up.model[1].weight)  # whatever it held before
    taken_up.load(tmp_path / "last.safetensors")
    assert len(taken_up.history) < 3
    list(run(taken_up, store))
    assert same(whole.model, taken_up.model)
    assert same(whole.kept, taken_up.kept)
    assert without_time(whole.history) == without_time(taken_up.history)


def test_the_average_follows_the_weights(store):
    state = new_state(average=True)
    list(run(state, store, epochs=1))
    assert state.kept is not state.model
    assert not same(state.kept, state.model)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shards", [1, 3])
def test_mixed_images_have_mixed_labels(smoothing, shards):
    """Against torch's cross entropy of probabilities, each shard mixed in itself."""
    x, y = torch.randn(12, 5), torch.arange(12) % 3
    batches = Batches.of_arrays(x, y, batch_size=12)
    batches.mix = lambda x, generator: (torch.lerp(x.roll(1, 0), x, 0.7), 0.7)
    batches.sharding = Sharding(shards, range(shards))
    [batch] = batches.shards()
    model = torch.nn.Linear(5, 3)
    expected = torch.zeros(())
    for own, labels in zip(x.chunk(shards), y.chunk(shards), strict=True):
        target = F.one_hot(labels, 3).float()
        target = 0.7 * target + 0.3 * target.roll(1, 0)
        logits = model(0.7 * own + 0.3 * own.roll(1, 0))
        expected = expected + F.cross_entropy(logits, target, label_smoothing=smoothing) / shards
    gradient = torch.autograd.grad(expected, model.weight)[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.weight.detach().clone()
    value, _ = training_step(
        model, optimizer, batch, lr=1.0, loss=make_loss("cross-entropy", smoothing),
        dtype=torch.float32, clip=0.0, key=(0, 0, 0),
    )  # fmt: skip
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(before - model.weight.detach(), gradient)


def test_gradients_are_clipped(store):
    state = new_state()
    start = [p.detach().clone() for p in state.model.parameters()]
    list(run(state, store, epochs=1, clip=1e-9))
    for before, after in zip(start, state.model.parameters(), strict=True):
        torch.testing.assert_close(before, after.detach(), atol=1e-8, rtol=0)


def test_a_rate_that_is_too_high_is_named_with_its_step(store):
    state = new_state()
    with pytest.raises(TrainingError, match=r"since epoch 1, step \d") as info:
        list(run(state, store, rate=lambda progress, scores: 1e38))
    assert "learning rate" in info.value.hint
    assert "1e+37" in info.value.hint


def test_inputs_that_are_no_numbers_are_told_from_a_high_rate(store):
    with pytest.raises(TrainingError, match="epoch 1, step 1") as info:
        list(run(new_state(), store, scale=float("nan"), check_every=3))
    assert "--mean" in info.value.hint


def test_a_validation_loss_that_is_no_number_stops_too(store):
    state = new_state()
    list(run(state, store, epochs=1))

    class Broken(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x) if self.training else self.net(x) * float("nan")

    broken = Broken(state.model)
    with pytest.raises(TrainingError, match="validation loss"):
        list(run(State(broken, state.optimizer), store, epochs=1))


def test_a_state_of_another_network_is_refused(store, tmp_path):
    state = new_state()
    state.save(tmp_path / "last.safetensors")
    other = State(nn.Linear(2, 2), state.optimizer)
    with pytest.raises(WeightsError, match="do not fit"):
        other.load(tmp_path / "last.safetensors")


def test_bfloat16_learns_too(store):
    epochs = list(run(new_state(), store, epochs=6, dtype=torch.bfloat16))
    assert epochs[-1].val_top1 > 0.9


@pytest.mark.parametrize("rate", [0, np.float32(0.0)])
def test_a_rate_may_be_any_number(store, rate):
    [epoch] = run(new_state(), store, epochs=1, rate=lambda progress, scores: rate)
    assert epoch.lr == 0


@pytest.mark.parametrize("shape", [(), (3,)])
def test_what_steps_came_to_lies_in_one_piece(shape):
    """Small tensors kept between the large ones of steps would break up the memory."""
    losses, correct = torch.rand(200, *shape), torch.randint(9, (200, *shape))
    tally = Tally()
    assert len(tally.losses) == len(tally.correct) == 0
    pieces = set()
    for loss, right in zip(losses, correct, strict=True):
        tally.add(loss, right)
        pieces.add(tally.losses.untyped_storage().data_ptr())
    assert torch.equal(tally.losses, losses) and torch.equal(tally.correct, correct)
    assert len(pieces) <= 3 and tally.correct.dtype == torch.int64
    again = Tally(tally.losses, tally.correct)
    again.add(losses[0], correct[0])
    assert torch.equal(again.losses, torch.cat([losses, losses[:1]]))
