"""What threads compute at the same time is what one computes."""

import os
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from alexnet.data.store import Batches
from alexnet.fitting import threads
from alexnet.fitting.optimization import make_loss, make_optimizer
from alexnet.fitting.step import training_step
from alexnet.network.model import Dropout
from alexnet.ranks import Sharding


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trained(shards: int, count: int, *, frozen: bool = False) -> dict[str, torch.Tensor]:
    """A network after two epochs, by so many threads."""
    torch.set_num_threads(count)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 40, 3), nn.BatchNorm2d(40), nn.ReLU(), Dropout(0.3), nn.Flatten(),
        nn.Linear(40 * 36, 70), nn.ReLU(), Dropout(0.5), nn.Linear(70, 3),
    )  # fmt: skip
    optimizer = make_optimizer(
        model, "muon", lr=0.1, momentum=0.6, nesterov=False, weight_decay=0.01, decay_all=False
    )
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((60, 3, 8, 8)), generator.integers(0, 3, 60)
    batches = Batches.of_arrays(x.astype(np.float32), y, batch_size=20, shuffle=True)
    batches.sharding = Sharding(shards, range(shards))
    for epoch in range(2):
        if frozen and epoch:  # a phase that begins later
            model[0].requires_grad_(False)
        for step, batch in enumerate(batches.shards(epoch)):
            training_step(
                model, optimizer, batch, lr=0.1, loss=make_loss("cross-entropy", 0.1),
                dtype=torch.float32, clip=0.5, key=(0, epoch, step),
            )  # fmt: skip
    return model.state_dict()


@pytest.mark.slow
def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    alone = trained(4, 1)
    for count in (2, 3):
        for name, value in trained(4, count).items():
            assert torch.equal(value, alone[name]), (count, name)
    # on the network itself, one shard after the other
    monkeypatch.setattr(
        "alexnet.fitting.step.on_replicas",
        lambda model, call, given, threads: [call(model, a) for a in given],
    )
    for name, value in trained(4, 1).items():
        assert torch.equal(value, alone[name]), name


def test_what_is_frozen_later_stays_as_it_is():
    before, after = trained(2, 2), trained(2, 2, frozen=True)
    assert not torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["8.weight"], after["8.weight"])


def test_operations_within_are_of_one_thread():
    torch.set_num_threads(2)
    both = threading.Barrier(2, timeout=10)  # which one thread alone would not pass

    def look(_):
        both.wait()
        return torch.get_num_threads()

    assert list(threads.at_once(look, range(4))) == [1] * 4
    assert torch.get_num_threads() == 2
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [2]


def test_an_error_within_is_an_error():
    with pytest.raises(ZeroDivisionError):
        list(threads.at_once(lambda one: 1 / one, [1, 0]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    torch.set_num_threads(2)
    assert list(threads.at_once(abs, [-1, -2])) == [1, 2]
    child = os.fork()
    if not child:
        right = list(threads.at_once(abs, [-1, -2])) == [1, 2]
        sys.stdout.flush()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
