"""The order in which an epoch goes through its examples, all at once or within a window."""

import mmap
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alexnet.data.store import PIECE, Arrays, Batches, CheckedArray, Store, StoreWriter, block_of
from alexnet.recipes import Recipe
from alexnet.runtime import memory_limit
from alexnet.training.introduction import beyond_memory

CPU = torch.device("cpu")
N, ROW = 4_000, PIECE // 16  # 16 examples lie together


class Rows(np.ndarray[Any, Any]):
    """As large as it says, without the memory."""

    nbytes = N * ROW


def batches(window, indices=None, size=100, **how):
    arrays = Arrays(np.arange(N)[:, None].view(Rows), np.arange(N) % 7)
    return Batches(
        arrays, np.arange(N) if indices is None else indices, batch_size=size,
        transform=lambda x, generator: x, device=CPU, shuffle=True, seed=3, window=window, **how,
    )  # fmt: skip


def order(made, epoch=0, start=0):
    return np.concatenate([x[:, 0].numpy() for x, _ in made.epoch(epoch, start)])


@given(window=st.integers(0, 5_000), epoch=st.integers(0, 3), part=st.integers(2, N))
def test_every_example_comes_once_and_the_same_seed_gives_the_same_order(window, epoch, part):
    indices = np.random.default_rng(part).choice(N, part, replace=False)
    indices.sort()
    found = order(batches(window, indices), epoch)
    assert np.array_equal(np.sort(found), indices)
    assert np.array_equal(found, order(batches(window, indices), epoch))


def test_no_window_and_a_large_one_are_a_full_shuffle():
    for epoch in range(2):
        whole = order(batches(0), epoch)
        assert np.array_equal(whole, order(batches(N), epoch))
        assert np.array_equal(whole, order(batches(10 * N), epoch))
    assert not np.array_equal(order(batches(0), 0), order(batches(0), 1))


def test_a_window_holds_whole_blocks_in_an_order_of_chance_that_is_mixed():
    assert block_of(ROW, PIECE) == 16
    found = order(batches(800))
    first = found[:800]
    blocks, count = np.unique(first // 16, return_counts=True)
    assert len(blocks) == 50 and set(count) == {16}
    assert np.diff(blocks).max() > 10  # from all over
    assert (np.diff(first // 16) == 0).mean() < 0.1  # and mixed: 1 in 50 by chance
    assert not np.array_equal(first, order(batches(800), 1)[:800])


def test_an_epoch_goes_on_where_it_was_left():
    whole = order(batches(800), 2)
    assert np.array_equal(order(batches(800), 2, start=13), whole[1300:])


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no advice")
def test_what_is_wanted_next_is_read_before(tmp_path, monkeypatch):
    with StoreWriter(tmp_path, (PIECE // 4,), "uint8") as writer:  # 4 in a block
        writer.append(np.zeros((40, PIECE // 4), np.uint8))
        store = Store.open(writer.finish("images", {"splits": {}}, np.arange(40) % 2, [""] * 40))
    asked: list[list[int]] = []
    monkeypatch.setattr(CheckedArray, "ahead", lambda self, rows: asked.append(rows.tolist()))
    made = Batches(
        store, np.arange(40), batch_size=2, transform=lambda x, generator: x[:, :1], device=CPU,
        shuffle=True, window=8,
    )  # fmt: skip
    seen = []
    for step, (_, chosen) in enumerate(made._chosen(0, 0)):
        seen += chosen.tolist()
        assert len(asked) == 1 + (2 * step + 4) // 8 if step < 18 else 5
    assert [sorted(seen[start : start + 8]) for start in range(0, 40, 8)] == asked
    monkeypatch.undo()  # and the system takes it
    store.x.ahead(np.array([0, 1, 2, 7, 39]))  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(mmap, "MADV_RANDOM"), reason="this system takes no advice")
@pytest.mark.parametrize("shuffle", [True, False])
def test_beyond_memory_each_batch_is_asked_for_before_and_nothing_else_read(
    shuffle, tmp_path, monkeypatch
):
    with StoreWriter(tmp_path, (PIECE // 4,), "uint8") as writer:
        writer.append(np.arange(40 * PIECE // 4).astype(np.uint8).reshape(40, -1))
        store = Store.open(writer.finish("images", {"splits": {}}, np.arange(40) % 2, [""] * 40))

    def made():
        return Batches(
            store, np.arange(40), batch_size=6, transform=lambda x, generator: x, device=CPU,
            shuffle=shuffle, seed=3,
        )  # fmt: skip

    asked: list[Any] = []
    monkeypatch.setattr(CheckedArray, "ahead", lambda self, rows: asked.append(rows.tolist()))
    monkeypatch.setattr(CheckedArray, "only_what_is_wanted", lambda self: asked.append("only"))
    expected = list(made().epoch(1))
    assert not asked  # it fits
    monkeypatch.setattr("alexnet.data.store.memory_limit", lambda: 2**20)
    smaller = made()
    assert asked.pop() == "only"
    for step, (place, chosen) in enumerate(smaller._chosen(1, 0)):
        assert place == step
        assert asked[step] == sorted(chosen.tolist())
        assert len(asked) == min(step + 2, len(smaller))
    asked.clear()
    found = list(made().epoch(1, start=3))
    assert len(asked) == 1 + len(smaller) - 3
    for (x, y), (want, label) in zip(found, expected[3:], strict=True):
        assert torch.equal(x, want)
        assert torch.equal(y, label)
    monkeypatch.undo()  # and the system takes it
    store.x.only_what_is_wanted()  # type: ignore[attr-defined]
    assert torch.equal(next(made().epoch(1))[0], expected[0][0])


@pytest.mark.parametrize(
    ("line", "file", "text", "limit"),
    [
        ("4:cpu,cpuacct:/\n5:memory:/mine", "memory/mine/memory.limit_in_bytes", "5000\n", 5000),
        ("5:memory:/elsewhere", "memory/memory.limit_in_bytes", "5000\n", 5000),  # of a container
        ("0::/mine", "mine/memory.max", "5000\n", 5000),
        ("0::/mine", "mine/memory.max", "max\n", 0),
        ("nonsense", "memory.max", "5000", 0),
    ],
)
def test_a_control_group_limits_memory(line, file, text, limit, tmp_path):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    (tmp_path / "cgroup").write_text(line)
    bare = memory_limit(tmp_path / "nowhere", tmp_path / "nowhere")
    found = memory_limit(tmp_path, tmp_path / "cgroup")
    assert found == (limit or bare)
    assert bare == 0 or bare > 2**28


def test_data_beyond_memory_is_said(tmp_path, monkeypatch):
    with StoreWriter(tmp_path, (3, 8, 8), "uint8") as writer:
        writer.append(np.zeros((160, 3, 8, 8), np.uint8))
        store = Store.open(writer.finish("images", {"splits": {}}, np.arange(160) % 2, [""] * 160))
    assert beyond_memory(store, Recipe()) == []
    monkeypatch.setattr("alexnet.training.introduction.memory_limit", lambda: 192 * 80)
    [said] = beyond_memory(store, Recipe())
    assert "--shuffle-window 10 " in said
    assert beyond_memory(store, Recipe(shuffle_window=5)) == []
