"""Stores are whole or not there, and their batches are the same whoever asks, in whatever order."""

import errno
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from makers import store_of

from alexnet import atomic
from alexnet.atomic import disk_error, remove_leftovers, replacing, write_json
from alexnet.data.store import LOCK, Batches, Store, StoreWriter, keyed_generator
from alexnet.errors import DataError, DiskError

# -- Stores


def test_a_store_gives_back_what_was_written(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    names = ["a.png", 'quote".png', "new\nline.png", "\udcff.png", "é.png"]
    with StoreWriter(tmp_path, (3, 4, 4), "uint8") as writer:
        writer.append(pixels[:2])
        writer.append(pixels[2:])
        info = {"classes": ["x", "y"], "splits": {"train": (0, 3)}}
        path = writer.finish("one", info, np.array([0, 1, 1, 0, 1]), names)
    store = Store.open(path)
    assert np.array_equal(store.x, pixels)
    assert store.y.tolist() == [0, 1, 1, 0, 1]
    assert store.ids == names
    assert store.split("train").tolist() == [0, 1, 2]
    assert store.split("val").tolist() == []
    assert len(store) == 5
    store.verify()
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


def changed_json(**changes):
    def change(path):
        info = json.loads((path / "store.json").read_text()) | changes
        (path / "store.json").write_text(json.dumps({k: v for k, v in info.items() if v != "-"}))

    return change


@pytest.mark.parametrize(
    "damage, pattern",
    [
        (lambda path: (path / "x.bin").write_bytes(b"12345"), "x.bin has 5 bytes, expected 48"),
        (lambda path: (path / "x.bin").write_bytes(bytes(49)), "x.bin has 49 bytes, expected 48"),
        (lambda path: (path / "x.bin").unlink(), "x.bin has 0 bytes, expected 48"),
        (lambda path: (path / "store.json").unlink(), "is not a Store"),
        (lambda path: (path / "store.json").write_bytes(b"{\xff"), "is not a Store"),
        (lambda path: (path / "store.json").write_text("[1]"), "is not a Store"),
        (lambda path: (path / "store.json").write_text("{}"), "is not a Store"),
        (changed_json(shape="-"), "is not a Store"),
        (changed_json(dtype="no type"), "is not a Store"),
        (changed_json(dtype="01,"), "an array of 01, in blocks"),  # NumPy would read it as Python
        (changed_json(dtype="a1"), "an array of a1 in blocks"),  # and warn of this one
        (changed_json(dtype=["uint8"]), "an array of .'uint8'. in blocks"),
        (changed_json(version=2), "of version 2; this alexnet reads version 1"),
    ],
)
def test_a_damaged_store_is_not_opened(damage, pattern, tmp_path):
    store = store_of(tmp_path, {"all": [0, 0, 1, 1]})
    damage(store.path)
    with pytest.raises(DataError, match=pattern) as caught:
        Store.open(store.path)
    assert str(store.path) in caught.value.message
    assert "Delete this folder; it is packed again" in caught.value.hint


@pytest.mark.parametrize("name", ["x.bin", "y.npy", "ids.txt"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_verify_finds_a_flipped_byte(name, share, tmp_path):
    store = store_of(tmp_path, {"all": [0, 0, 1, 1]})
    store.verify()
    content = bytearray((store.path / name).read_bytes())
    content[int(share * len(content))] ^= 1
    (store.path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} has checksum") as caught:
        Store.open(store.path).verify()
    assert caught.value.hint


def test_of_two_writers_of_a_name_the_first_stays(tmp_path):
    with (
        StoreWriter(tmp_path, (1,), "float16") as first,
        StoreWriter(tmp_path, (1,), "float16") as second,
    ):
        for writer, value in ((first, 1.0), (second, 2.0)):
            writer.append(np.array([[value]]))
        paths = {writer.finish("one", {}, np.array([0]), ["a"]) for writer in (first, second)}
        assert paths == {tmp_path / "one"}
    assert Store.open(tmp_path / "one").x[:].tolist() == [[1.0]]
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_unfinished_store_leaves_nothing(error, tmp_path):
    with pytest.raises(error), StoreWriter(tmp_path, (1,), "float16") as writer:
        writer.append(np.zeros((1, 1)))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_store_does_not_replace_what_is_no_store(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one/mine.txt").write_text("x")
    with pytest.raises(DiskError), StoreWriter(tmp_path, (1,), "float16") as writer:
        writer.append(np.zeros((1, 1)))
        writer.finish("one", {}, np.array([0]), ["a"])
    assert (tmp_path / "one/mine.txt").read_text() == "x"
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="cannot write") as caught:
        StoreWriter(tmp_path / "file/stores", (1,), "float16")
    assert caught.value.hint


def test_what_a_killed_writer_left_is_removed(tmp_path):
    """At once where its lock says that it is not at work; of 0.1.0, without locks, after a day."""
    for name, age in ((".packing-old", 2 * 86_400), (".packing-new", 60), ("old", 2 * 86_400)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.bin").write_bytes(b"x")
        os.utime(tmp_path / name / "x.bin", (time.time() - age,) * 2)
    for name in (".packing-killed", ".packing-at-work"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}{LOCK}").touch()
    (tmp_path / f".packing-hardly-begun{LOCK}").touch()
    (tmp_path / ".packing-empty").mkdir()
    os.utime(tmp_path / ".packing-empty", (0, 0))
    with FileLock(tmp_path / f".packing-at-work{LOCK}"):
        store_of(tmp_path, {"all": [0, 1]})
        left = {".packing-new", ".packing-at-work", f".packing-at-work{LOCK}"}
        assert {file.name for file in tmp_path.iterdir()} == left | {"made", "old"}


# -- Batches


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Forty examples, each of whose pixels is its number."""
    return store_of(tmp_path_factory.mktemp("store"), {"train": [n % 3 for n in range(40)]})


def batches(store, n=40, batch_size=7, transform=lambda x, generator: x, **options):
    return Batches(
        store,
        store.split("train")[:n],
        batch_size=batch_size,
        transform=transform,
        device=torch.device("cpu"),
        **options,
    )


def numbers(some):
    return [number for x, _ in some for number in x[:, 0, 0, 0].tolist()]


@given(st.integers(0, 40), st.integers(1, 45), st.integers(0, 3), st.booleans())
def test_an_epoch_has_every_example_once(store, n, batch_size, epoch, shuffle):
    all_ = batches(store, n, batch_size, shuffle=shuffle)
    found = list(all_.epoch(epoch))
    assert len(found) == len(all_) == -(-n // batch_size)
    assert sorted(numbers(found)) == list(range(n))
    sizes = {len(x) for x, _ in found}
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert max(sizes, default=0) <= batch_size


def test_labels_stay_with_their_images(store):
    for x, y in batches(store, shuffle=True).epoch(1):
        assert x.dtype == torch.uint8
        assert y.tolist() == [n % 3 for n in x[:, 0, 0, 0].tolist()]


def test_without_shuffling_the_order_is_that_of_the_indices(store):
    assert numbers(batches(store).epoch(3)) == list(range(40))


def test_the_order_depends_on_seed_and_epoch_alone(store):
    one, other = batches(store, shuffle=True, seed=1), batches(store, shuffle=True, seed=1)
    list(other.epoch(5))
    assert numbers(one.epoch(2)) == numbers(other.epoch(2)) == numbers(one.epoch(2))
    orders = [
        tuple(numbers(batches(store, shuffle=True, seed=seed).epoch(epoch)))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


@pytest.mark.parametrize("start", [0, 1, 4, 5, 6, 9])
def test_an_epoch_goes_on_where_it_was_left(start, store):
    def noisy(x, generator):
        return x + torch.rand(x.shape, generator=generator)

    all_ = batches(store, transform=noisy, shuffle=True)
    whole, tail = list(all_.epoch(2)), list(all_.epoch(2, start))
    assert len(tail) == max(0, len(whole) - start)
    for (x, y), (again, labels) in zip(whole[start:], tail, strict=True):
        assert torch.equal(x, again)
        assert torch.equal(y, labels)


def test_every_step_of_every_epoch_has_random_numbers_of_its_own(store):
    def only_noise(x, generator):
        return torch.rand(3, generator=generator)

    all_ = batches(store, transform=only_noise, seed=1)
    drawn = {tuple(x.tolist()) for epoch in range(3) for x, _ in all_.epoch(epoch)}
    assert len(drawn) == 3 * len(all_)


def test_keyed_generators_differ_exactly_when_their_keys_do():
    keys = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 2), (0, 1, 3), (2**32, 1, 2)]

    def draw():
        return [tuple(torch.rand(4, generator=keyed_generator(*key)).tolist()) for key in keys]

    drawn = draw()
    torch.rand(3)
    assert draw() == drawn
    assert len(set(drawn)) == len(keys)


# -- whole files


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as aside:
        aside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_disk_error_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(DiskError, match="no space left") as caught, replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "Free some space" in caught.value.hint
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_of_writing_name_the_path(tmp_path):
    error = disk_error(PermissionError(errno.EACCES, "Permission denied"), tmp_path / "a")
    assert isinstance(error, DiskError)
    assert error.message == f"cannot write {tmp_path / 'a'}: Permission denied."
    assert error.hint


def test_a_new_file_takes_its_place_with_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("x")
    with replacing(tmp_path / "deep/new.txt") as aside:
        aside.write_text("new")
        assert not (tmp_path / "deep/new.txt").exists()
    assert (tmp_path / "deep/new.txt").read_text() == "new"
    assert (tmp_path / "deep/new.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


KILLED = """
import os, sys
from pathlib import Path
from alexnet.atomic import replacing
with replacing(Path(sys.argv[1])) as aside:
    aside.write_text("half of it, and longer than what comes after")
    os._exit(9)
"""


def test_what_a_killed_writer_left_of_a_file_is_taken_over(tmp_path):
    path = tmp_path / "a.txt"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, path], check=False)
        assert not path.exists()
        assert len(list(tmp_path.iterdir())) == 1
    # as writers do that do not empty a file first
    with replacing(path) as aside, open(aside, "r+") as file:
        file.write("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_at_once_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
            remove_leftovers(tmp_path)  # nor does who looks for what the killed left
        assert path.read_text() == "second"
        with pytest.raises(ValueError, match="third"), replacing(path):
            raise ValueError("third")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a.txt"], check=False)
    for name in (".a.txt.x_2345678.txt", ".a.12345678.txt", ".hidden", "a.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".b.txt.12345678.txt").touch()  # of 0.1.0
    remove_leftovers(tmp_path)
    left = {".a.txt.x_2345678.txt", ".a.12345678.txt", ".hidden", "a.txt"}
    assert {file.name for file in tmp_path.iterdir()} == left


@pytest.mark.skipif(sys.platform == "win32", reason="other locks, and links need rights")
def test_a_link_in_the_way_is_not_followed(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    name = f".a.txt.{atomic.FIRST}.txt"
    (tmp_path / name).symlink_to(tmp_path / "theirs")
    (tmp_path / "a.txt").write_text("old")
    with replacing(tmp_path / "a.txt") as aside:
        aside.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert {file.name for file in tmp_path.iterdir()} == {"a.txt", "theirs", name}


def test_where_there_are_no_locks_every_writer_has_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_locked", lambda file: None)
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        assert first != second
        for aside in (first, second):
            aside.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_json_that_cannot_be_is_refused(value, tmp_path):
    write_json(tmp_path / "a.json", {"é": [1.5, None]})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"loss": value})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1.5, None]}
    assert len(list(tmp_path.iterdir())) == 1


def test_json_holds_file_names_that_are_no_text(tmp_path):
    write_json(tmp_path / "a.json", {"path": "caf\udce9.jpg"})
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert found == {"path": "caf\udce9.jpg"}
