"""Frozen layers run once: the right numbers, found again, resumed, and never those of others."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from makers import store_of

from alexnet.cache import cache_folder
from alexnet.data import augment, store
from alexnet.data.store import Batches, Store, StoreWriter
from alexnet.errors import DiskError, ModelError
from alexnet.network import frozen as frozen_module
from alexnet.network.description import architecture
from alexnet.network.frozen import (
    FrozenPart,
    Remembered,
    View,
    body_digest,
    feature_batches,
    feature_stores,
)
from alexnet.network.model import AlexNet

CPU = torch.device("cpu")
PLAIN: dict[str, Any] = {
    "image_size": 16,
    "border": 0,
    "crop": 16,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
}
SMALL = architecture("small", width=0.125, pool="max")


def network(seed=0, **changes):
    torch.manual_seed(seed)
    return AlexNet(architecture(SMALL, **changes), 3).eval()


def frozen_part(model=None, dtype=torch.float32, freeze="conv"):
    return FrozenPart((model or network()).split(freeze)[0], CPU, dtype)


@pytest.fixture
def images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 3, 16, 16), dtype=np.uint8)
    info = {
        "source": "made", "classes": ["a", "b"], "names": ["a", "b"], "bad": [],
        "splits": {"train": (0, 50), "test": (50, 70)}, "fingerprint": "f" * 64,
    }  # fmt: skip
    with StoreWriter(tmp_path / "stores", (3, 16, 16), "uint8") as writer:
        writer.append(pixels)
        ids = [f"{place}.png" for place in range(70)]
        return Store.open(writer.finish("made", info, np.arange(70) % 2, ids))


def view(name="centre"):
    transforms = augment.evaluation_views(views=2, **PLAIN)
    return View(name, transforms[name == "mirror"], {**PLAIN, "view": name})


def every(images):
    return np.arange(len(images))


def whole(path):
    """Every file of a folder, by name."""
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("freeze", ["conv", "all-but-last"])
def test_features_are_what_the_network_computes(freeze, images):
    model = network(fc_layers=2, hidden=12)
    found = feature_stores(
        frozen_part(model, freeze=freeze), images, every(images), [view(), view("mirror")], 16
    )
    body, head = model.split(freeze)
    for number, transform in enumerate(augment.evaluation_views(views=2, **PLAIN)):
        x = transform(torch.from_numpy(np.array(images.x)), torch.Generator())
        with torch.inference_mode():
            expected = body(x)
            logits = model(x)
        stored = found.stores[number]
        assert stored.x.dtype == np.float16
        torch.testing.assert_close(
            torch.from_numpy(np.array(stored.x)).float(), expected, rtol=1e-3, atol=1e-4
        )
        with torch.inference_mode():
            from_cache = head(torch.from_numpy(np.array(stored.x)).float())
        torch.testing.assert_close(from_cache, logits, rtol=1e-2, atol=1e-2)
        assert stored.y.tolist() == images.y.tolist()
        assert stored.ids == images.ids
        stored.verify()


def test_a_second_run_computes_nothing(images, monkeypatch, capsys):
    first = feature_stores(frozen_part(), images, every(images), [view()], 16)
    assert "70 images, 1 view, 64 features" in capsys.readouterr().err
    monkeypatch.setattr(frozen_module, "_extract", None)
    second = feature_stores(frozen_part(), images, every(images), [view()], 16)
    assert second.stores[0].path == first.stores[0].path
    assert capsys.readouterr().err == ""
    # a part of the examples is found in the whole
    part = feature_stores(frozen_part(), images, np.array([3, 5]), [view()], 16)
    assert part.stores[0].path == first.stores[0].path
    assert part.place(np.array([5, 3])).tolist() == [5, 3]


def test_a_part_of_the_examples_is_computed_alone(images):
    found = feature_stores(frozen_part(), images, np.array([3, 5, 60]), [view()], 16)
    assert len(found.stores[0]) == 3
    assert found.place(np.array([60, 3])).tolist() == [2, 0]
    assert found.stores[0].ids == ["3.png", "5.png", "60.png"]
    all_of_them = feature_stores(frozen_part(), images, every(images), [view()], 16)
    assert np.allclose(all_of_them.stores[0].x[[3, 5, 60]], found.stores[0].x, atol=1e-3)


def test_what_is_remembered_of_single_images_has_the_same_bits(images, monkeypatch):
    [expected] = feature_stores(frozen_part(), images, every(images), [view()], 16).stores
    shutil.rmtree(cache_folder() / "features")
    memory, frozen = Remembered(), frozen_part()
    x = torch.from_numpy(np.array(images.x))
    for place in range(0, len(x), 3):  # as they come
        memory.features(frozen, view(), x[place : place + 3])
    monkeypatch.setattr(FrozenPart, "by_pieces", None)  # nothing is computed
    frozen.memory = memory
    [found] = feature_stores(frozen, images, every(images), [view()], 16).stores
    assert (np.array(found.x) == np.array(expected.x)).all()


def test_what_decides_the_numbers_decides_the_name(images, tmp_path):
    """Other weights, layers, data, preprocessing or arithmetic never share a cache."""

    def path(model=None, store=images, dtype=torch.float32, freeze="conv", view=view()):  # noqa: B008
        rows = np.arange(len(store))
        part = frozen_part(model, dtype, freeze)
        return feature_stores(part, store, rows, [view], 16).stores[0].path

    other = store_of(tmp_path / "other", {"all": [0, 1, 0]}, side=16)
    changed = network()
    with torch.no_grad():
        changed.features[0].weight[0, 0, 0, 0] += 1e-6
    deep = network(fc_layers=2)
    paths = [
        path(), path(changed), path(network(activation="tanh")), path(network(norm="lrn")),
        path(dtype=torch.bfloat16), path(store=other), path(view=view("mirror")),
        path(deep, freeze="all-but-last"), path(network(pool="average")),
        path(view=View("centre", view().transform, {**PLAIN, "mean": (0.4, 0.5, 0.5)})),
    ]  # fmt: skip
    assert len(set(paths)) == len(paths)
    # what is above the cut, and dropout, do not
    assert path(network(fc_layers=2, dropout=0.1)) == path(network(fc_layers=2, dropout=0.9))


def test_a_head_does_not_change_the_digest_of_what_is_frozen():
    one, two = network(seed=0), network(seed=0, dropout=0.1)
    with torch.no_grad():
        two.classifier[-1].weight.zero_()
    assert body_digest(one.split("conv")[0]) == body_digest(two.split("conv")[0])


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_extraction_goes_on_and_ends_the_same(error, images, monkeypatch):
    monkeypatch.setattr(frozen_module, "CHUNK", 8)
    whole_at_once = feature_stores(frozen_part(), images, every(images), [view()], 16).stores[0]
    expected = whole(whole_at_once.path)
    shutil.rmtree(whole_at_once.path)
    original, calls = StoreWriter.append, []

    def append(self, x):
        calls.append(len(x))
        if len(calls) % 3 == 0:
            raise error
        original(self, x)

    monkeypatch.setattr(StoreWriter, "append", append)
    for _ in range(4):
        with pytest.raises(error):
            feature_stores(frozen_part(), images, every(images), [view()], 16)
    monkeypatch.setattr(StoreWriter, "append", original)
    [unfinished] = (cache_folder() / "features").glob(".unfinished-*")
    assert (unfinished / "x.bin").stat().st_size == 8 * 8 * 64 * 2
    found = feature_stores(frozen_part(), images, every(images), [view()], 16).stores[0]
    assert found.path == whole_at_once.path
    assert whole(found.path) == expected


@pytest.mark.slow
@given(st.data())
def test_a_writer_keeps_exactly_what_is_sound(tmp_path_factory, data):
    """Whatever a crash did to the end of the files, the finished Store is the same."""
    folder = tmp_path_factory.mktemp("writer")
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float16)

    def write(writer):
        for start in range(writer.count, 20, 4):
            writer.append(x[start : start + 4])
        return writer.finish("one", {}, np.zeros(20), ["x"] * 20)

    with StoreWriter(folder / "a", (3,), "float16", "one") as writer:
        expected = whole(write(writer))
    with pytest.raises(KeyboardInterrupt), StoreWriter(folder / "b", (3,), "float16", "one") as w:
        for start in range(0, data.draw(st.integers(0, 5)) * 4, 4):
            w.append(x[start : start + 4])
        raise KeyboardInterrupt
    for file in ("x.bin", "chunks.txt"):
        path = folder / "b/.unfinished-one" / file
        if not path.exists():
            continue
        content = bytearray(path.read_bytes())
        damage = data.draw(st.sampled_from(["none", "cut", "flip", "zeros", "more"]))
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        if damage == "cut":
            content = content[:at]
        elif damage == "flip" and content:
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif damage == "zeros":
            content[at:] = bytes(len(content) - at)
        elif damage == "more":
            content += data.draw(st.binary(max_size=40))
        path.write_bytes(content)
    with StoreWriter(folder / "b", (3,), "float16", "one") as writer:
        assert whole(write(writer)) == expected


def test_a_count_of_more_than_there_is_is_not_taken(tmp_path):
    """One bit of the count changed, and the bytes there still have the noted checksum."""
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float16)
    for count in (b"5", b"9" * 25):
        with pytest.raises(KeyboardInterrupt), StoreWriter(tmp_path, (3,), "float16", "one") as w:
            w.append(x)
            raise KeyboardInterrupt
        chunks = tmp_path / ".unfinished-one/chunks.txt"
        chunks.write_bytes(count + chunks.read_bytes()[1:])
        with StoreWriter(tmp_path, (3,), "float16", "one") as w:
            assert w.count == 0
            assert chunks.read_bytes() == b""


def test_a_finished_store_that_was_cut_short_is_completed(images, monkeypatch, capsys):
    monkeypatch.setattr(frozen_module, "CHUNK", 8)
    path = feature_stores(frozen_part(), images, every(images), [view()], 16).stores[0].path
    expected = whole(path)
    with open(path / "x.bin", "r+b") as file:
        file.truncate(30 * 64 * 2 + 5)
    computed = []
    original = StoreWriter.append

    def append(self, x):
        computed.append(len(x))
        original(self, x)

    monkeypatch.setattr(StoreWriter, "append", append)
    again = feature_stores(frozen_part(), images, every(images), [view()], 16).stores[0].path
    assert sum(computed) == 70 - 24  # three chunks of eight were sound
    assert whole(again) == expected
    assert "What is sound of it is kept" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(images, monkeypatch):
    monkeypatch.setattr(frozen_module, "CHUNK", 8)
    original, calls = StoreWriter.append, []

    def append(self, x):
        calls.append(1)
        if len(calls) == 3:
            raise DiskError("no space left") from OSError(errno.ENOSPC, "full")
        original(self, x)

    monkeypatch.setattr(StoreWriter, "append", append)
    with pytest.raises(DiskError):
        feature_stores(frozen_part(), images, every(images), [view()], 16)
    assert [p for p in (cache_folder() / "features").iterdir() if p.is_dir()] == []


def test_too_little_space_is_known_before_it_starts(images, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    monkeypatch.setattr(frozen_module, "_extract", None)
    with pytest.raises(DiskError, match="0 MiB free"):
        feature_stores(frozen_part(), images, every(images), [view()], 16)


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_features_that_float16_cannot_hold_are_an_error(value, images):
    model = network(norm="none")
    with torch.no_grad():
        last = [one for one in model.features if isinstance(one, torch.nn.Conv2d)][-1]
        last.bias.fill_(value)
    with pytest.raises(ModelError, match="float16 ends at 65,504") as caught:
        feature_stores(frozen_part(model), images, every(images), [view()], 16)
    assert "--no-cache" in caught.value.hint


def test_two_programs_do_not_compute_the_same_twice(images, monkeypatch, capsys):
    original, calls, errors = frozen_module._extract, [], []

    def slow(*arguments):
        calls.append(1)
        time.sleep(0.3)
        original(*arguments)

    monkeypatch.setattr(frozen_module, "_extract", slow)

    frozen = frozen_part()  # its weights are drawn from torch's one generator

    def work():
        try:
            feature_stores(frozen, images, every(images), [view()], 16)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(calls) == 1


KILLED = """
import sys, time
import numpy as np
sys.path[:0] = {path!r}
import test_features as t
from alexnet.data.store import Store, StoreWriter
t.frozen_module.CHUNK = 4
original = StoreWriter.append
def append(self, x):
    original(self, x)
    time.sleep(0.05)
StoreWriter.append = append
images = Store.open(__import__("pathlib").Path({store!r}))
t.feature_stores(t.frozen_part(), images, np.arange(len(images)), [t.view()], 16)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(images, monkeypatch, tmp_path):
    """kill -9, three times, as a laptop whose battery ends."""
    monkeypatch.setattr(frozen_module, "CHUNK", 4)
    path = feature_stores(frozen_part(), images, every(images), [view()], 16).stores[0].path
    expected = whole(path)
    shutil.rmtree(path)
    here = os.path.dirname(__file__)
    code = KILLED.format(path=[here], store=str(images.path))
    chunk = 4 * 64 * 2  # bytes
    for chunks in (2, 7, 11):  # of 18
        child = subprocess.Popen([sys.executable, "-c", code])
        while (
            sum(x.stat().st_size for x in path.parent.glob(".unfinished-*/x.bin")) < chunks * chunk
        ):
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not path.exists()
    again = feature_stores(frozen_part(), images, every(images), [view()], 16).stores[0].path
    assert whole(again) == expected


def test_an_image_and_its_mirror_take_turns(images):
    found = feature_stores(frozen_part(), images, every(images), [view(), view("mirror")], 16)
    batches = feature_batches(
        found, np.arange(50), batch_size=10, device=CPU, views=(0, 1), shuffle=True, seed=3
    )
    sources = [np.array(one.x).astype(np.float32) for one in found.stores]
    used = []
    for epoch in range(2):
        order = batches_order(batches, epoch)
        x = torch.cat([x for x, _ in batches.epoch(epoch)]).numpy()
        y = torch.cat([y for _, y in batches.epoch(epoch)]).numpy()
        assert y.tolist() == images.y[order].tolist()
        is_centre, is_mirror = ((x == source[order]).all(1) for source in sources)
        assert (is_mirror != is_centre).all()
        used.append(is_mirror[order.argsort()])
    assert (used[0] != used[1]).all()  # in the next epoch, the other
    assert 10 < used[0].sum() < 40  # and no epoch has only one kind


def batches_order(batches, epoch):
    """The examples of an epoch in order, read off a Store of numbers."""
    plain = Batches(
        batches.stores[0], batches.indices, batch_size=10, transform=lambda x, g: x, device=CPU,
        shuffle=True, seed=batches.seed,
    )  # fmt: skip
    generator = store.keyed_generator(plain.seed, epoch)
    return plain.indices[torch.randperm(len(plain.indices), generator=generator).numpy()]


def test_the_json_says_what_it_is(images):
    path = feature_stores(frozen_part(), images, every(images), [view()], 16).stores[0].path
    info = json.loads((path / "store.json").read_text())
    assert info["layout"] == "features"
    assert info["images"] == images.fingerprint
    assert info["shape"] == [70, 64]
    assert info["splits"] == {"train": [0, 50], "test": [50, 70]}
    sums = [line.split()[1] for line in (path / "chunks.txt").read_text().splitlines()]
    assert sums == [hashlib.sha256((path / "x.bin").read_bytes()).hexdigest()]
