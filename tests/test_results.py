"""What README, pages and recipes say was measured is what results/ says."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from alexnet import presets
from alexnet.runs.directory import Predictions, RunDirectory

ROOT = Path(__file__).parent.parent


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import results

    return results


@pytest.fixture
def elsewhere(results, monkeypatch, tmp_path):
    """A copy of what the script reads and writes."""
    shutil.copytree(ROOT / "results", tmp_path / "results")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "src" / "alexnet").mkdir(parents=True)
    shutil.copy(presets.__file__, tmp_path / "src" / "alexnet")
    shutil.copy(Path(presets.__file__).with_name("measured.json"), tmp_path / "src" / "alexnet")
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "commit", lambda: "0123456")
    return tmp_path


def test_everything_is_what_would_be_written_now(results, capsys):
    assert results.main(["--check"]) == 0, capsys.readouterr().out


def test_no_recipe_has_figures_of_its_own(results):
    known = results.measured()
    for kind, named in (("recipes", presets.RECIPES), ("studies", presets.STUDIES)):
        for name, one in named.items():
            assert one.measured == known[kind].get(name, "not run"), name


@pytest.mark.slow
def test_a_figure_that_drifted_is_shown_and_written_again(results, elsewhere, capsys):
    path = elsewhere / "results" / "cifar10.json"
    path.write_text(path.read_text("utf-8").replace('"top1": 0.886,', '"top1": 0.9,'))
    assert results.main(["--check"]) == 1
    shown = capsys.readouterr().out
    for page in ("README.md", "results.md", "measured.json"):
        assert f"{page}\n" in shown
    assert "+| CIFAR-10" in shown and "90.00 %" in shown
    assert results.main([]) == 0
    assert results.main(["--check"]) == 0


def run_with(folder, seed, ids, hits, usual):
    """A run directory of which only what a summary reads is there; `usual` is a whole one."""
    run = RunDirectory(folder / f"{seed}-{ids[0]}")
    shutil.copytree(usual, run.path)
    about = json.loads((run.path / "recipe.json").read_text("utf-8"))
    for one in ("recipe", "asked"):
        about[one]["seed"] = seed
    (run.path / "recipe.json").write_text(json.dumps(about))
    labels = np.zeros(len(ids), np.int64)
    logits = np.stack([np.array(hits, np.float32), np.full(len(ids), 0.5, np.float32)], 1)
    figures = run.metrics() | {"n": len(ids), "top1": float(np.mean(hits))}
    run.write_figures(figures, Predictions(logits, labels, list(ids), ["a", "b"]))
    return run


def test_seeds_on_the_same_images_count_images_and_trainings(
    results, elsewhere, photos_run, tmp_path
):
    ids = [f"{number}.png" for number in range(40)]
    every = [run_with(tmp_path, seed, ids, [1] * (30 + seed) + [0] * (10 - seed), photos_run)
             for seed in range(3)]  # fmt: skip
    one = results.summary_of(every[:1], {})
    assert (one.covers, one.n, one.trainings) == ("images", 40, 1)
    three = results.summary_of(every, {"what": "three"})
    assert three.covers == "images and trainings"
    assert three.each == [0.75, 0.775, 0.8]
    assert three.interval[0] < 0.7 and three.interval[1] > 0.85
    assert three.counted == "40 images, 3 seeds"
    # in two folds: the images are the same though each run has half of them
    folds = [run_with(tmp_path / "folds", seed, part, [1] * 15 + [0] * 5, photos_run)
             for seed in range(2) for part in (ids[:20], ids[20:])]  # fmt: skip
    two = results.summary_of(folds, {})
    assert (two.n, two.trainings, two.covers) == (40, 4, "images and trainings")
    assert two.counted == "40 images, 2 seeds of 2 folds"


def test_seeds_with_splits_of_their_own_count_splits(results, elsewhere, photos_run, tmp_path):
    runs = [run_with(tmp_path, seed, [f"{seed}-{n}" for n in range(10)], [1] * 7 + [0] * 3 if seed
            else [1] * 9 + [0], photos_run) for seed in range(3)]  # fmt: skip
    found = results.summary_of(runs, {})
    assert found.covers == "splits and trainings"
    assert found.interval[0] < 0.7 and found.interval[1] == 1.0


def test_runs_are_added_and_their_words_stay(results, elsewhere, photos_run, capsys):
    assert (
        results.main(["add", "new", str(photos_run), "--what", "drawings", "--seconds", "7"]) == 0
    )
    assert "drawings: " in capsys.readouterr().out
    assert results.main(["add", "new", str(photos_run)]) == 0
    found = results.summaries()["new"]
    assert (found.what, found.commit, found.timed) == ("drawings", "0123456", "its epochs")
    assert found.top1 == pytest.approx(RunDirectory(photos_run).metrics()["top1"], abs=1e-6)
    assert results.about(found) == "recipes scratch"  # as the width asks for
    assert "--width 0.1" in found.command and "--epochs 1" in found.command


def test_a_recipe_that_changed_since_is_said(results):
    known = results.summaries()["cifar10"]
    assert not known.changed
    before = dataclasses.replace(known, digest="00000000")
    assert "the recipe has changed since" in before.told()
