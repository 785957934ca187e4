"""`alexnet bench`: what this machine can do, and how long each recipe will take."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from makers import store_of

import alexnet
from alexnet.cli import main
from alexnet.fitting.linear import steps_of_solving
from alexnet.presets import RECIPES
from alexnet.runs.own_data import splits_of
from alexnet.sweeping import bench, estimates, limits
from alexnet.sweeping.estimates import Images, Speed


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Limits that are measured in a blink."""
    for name, value in {"SIDES": (32,), "COPIED": 2**12, "PICTURES": 2, "LOOKED": 0.02}.items():
        monkeypatch.setattr(limits, name, value)


@pytest.mark.parametrize(
    ("splits", "extent"),
    [
        ({"all": 100}, bench.Extent(4, 100, apart=False)),
        ({"train": 80, "test": 20}, bench.Extent(4, 80, 20)),
        ({"train": 80, "val": 20}, bench.Extent(4, 80, val=20)),
        ({"train": 60, "val": 20, "test": 20}, bench.Extent(4, 60, 20, 20)),
    ],
)
def test_images_are_counted_as_they_are_split(tmp_path, splits, extent):
    recipe = alexnet.recipe("digits", val_size=0.25, test_size=0.2)
    store = store_of(tmp_path, {name: np.arange(n) % 4 for name, n in splits.items()})
    found = splits_of(store, recipe)
    assert extent.images(recipe) == Images(*map(len, (found.train, found.val, found.test)))


def test_every_recipe_has_data_of_known_size():
    assert all(bench.made_for(name) in {*bench.EXTENTS, bench.FOLDER} for name in RECIPES)
    assert bench.suitable("digits") == ["digits"]
    assert bench.suitable("photos") == ["folder", "scratch", "finetune"]
    assert bench.suitable("") == list(RECIPES)


def test_a_training_is_its_epochs_and_its_evaluation():
    recipe = alexnet.recipe("finetune", epochs=3, finetune_epochs=2)
    assert Speed(100.0, 10.0, 20.0, 1.0, "").training(recipe) == 3 * 10 + 2 * 20 + 1


def test_a_head_that_is_solved_takes_looks_at_all_images():
    assert next(steps_of_solving(30, 8, 5)) == pytest.approx(math.log(5))
    recipe = alexnet.recipe("folder", head="logistic", folds=5, finetune_epochs=0)
    assert Speed(100.0, 10.0, 20.0, 1.0, "").training(recipe) == 10 + 1
    torch.set_num_threads(2)
    of_100: dict[str, Any] = {
        "images": 100, "features": 8, "classes": 5, "views": 2, "timed": lambda steps: 0.001,
    }  # fmt: skip
    assert estimates.solving(folds=0, **of_100) == pytest.approx(6 * 75 * 0.001 / 2)
    # five folds by two threads are three rounds; the head of all images after that, by both
    assert estimates.solving(folds=5, **of_100) == pytest.approx((4 * 3 + 2 / 2) * 75 * 0.001)
    of_many = of_100 | {"images": 100_000}
    assert estimates.solving(folds=0, **of_many) == pytest.approx(50 * 6 * 75 * 0.001 / 2)


@pytest.mark.slow
def test_what_is_found(monkeypatch, capsys):
    monkeypatch.setattr(bench, "share_of_processor", lambda threads: 0.5)
    found = alexnet.bench(recipes=["digits", "folder"], images=40, classes=3, seconds=0)
    assert "about 7 s" in (said := capsys.readouterr().err)
    assert "other programs take 50% of the processor" in said
    assert found["processor_share"] == 0.5
    assert all(rate > 0 for rates in found["limits"].values() for rate in rates.values())
    digits, folder = found["recipes"]
    assert (digits["images"], digits["classes"]) == (1294, 10)
    assert digits["images_per_second"] * digits["epoch"] == pytest.approx(1294)
    assert digits["seconds"] >= 12 * digits["epoch"] and digits["memory"] > 2**27
    assert digits["features"] == digits["finetune_epoch"] == 0
    assert (folder["images"], folder["classes"]) == (32, 3)  # cross-validated
    assert folder["seconds"] > folder["features"] > 0
    assert folder["finetune_epoch"] == 0  # with so few images only the head is trained


def test_the_command_prints_a_table_or_json(monkeypatch, capsys):
    timed = bench.Timed("digits", 1294, 10, 6470.0, 0.0, 0.2, 0.0, 2.5, 2**30)
    found = {
        "environment": {"processor": "A", "device": "cpu", "versions": {"torch": "2"}},
        "limits": {"copying memory, GB/s": {1: 5.0, 2: 10.0}},
        "recipes": [dataclasses.asdict(timed)],
    }
    monkeypatch.setattr(bench, "bench", lambda *given, **named: found)
    assert main("bench digits --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["recipes"] == found["recipes"]
    assert main("bench digits".split()) == 0
    out = capsys.readouterr().out
    assert "  copying memory, GB/s         5         10" in out
    assert out.splitlines()[-1].split() == "digits 1,294 6,470 0.2 s 2.5 s 1.0 GiB".split()


@pytest.mark.parametrize(
    "words",
    [
        "--recipe digitz", "--images 0", "--classes 1", "no-such-data",
        "digits --images 5", "--recipe cifar10 --classes 3",
    ],
)  # fmt: skip
def test_wrong_words_are_refused_at_once(words, capsys):
    assert main(["bench", *words.split()]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    "cifar10-fast backbone finetune tiny-imagenet-frozen tiny-imagenet-frozen-as-run".split(),
)
def test_recipes_of_every_kind_are_timed(name):
    made = bench.bench(recipes=[name], seconds=0)["recipes"][0]
    assert made["seconds"] > made["epoch"] > 0


def test_limits_are_of_the_threads_asked_for():
    assert limits.counts(1) == [1]
    assert limits.counts(6) == [1, 2, 4, 6]
    assert 0 < limits.share_of_processor(1) <= 1
    before = torch.get_num_threads()
    rates = limits.machine_rates(torch.device("cpu"), [torch.float32])
    assert set(rates) == {
        "matrix product, float32, GFLOP/s", "copying memory, GB/s", "decoding JPEGs, pictures/s"
    }  # fmt: skip
    assert torch.get_num_threads() == before
