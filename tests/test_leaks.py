"""Copies on both sides of a split: a figure that is memory is not taken for more, and `--group
copies` keeps them together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import textures
from PIL import Image

import alexnet
from alexnet.data.datasets import open_data
from alexnet.data.duplicates import find_duplicates, leaks
from alexnet.data.handed import labelled
from alexnet.data.splits import folds_of, make_splits
from alexnet.runs.evaluation import evaluate_run
from alexnet.scoring.metrics import leak_free, wilson_interval

CLASSES, EACH = 2, 12


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """Textures of two classes, each a second time, darker."""
    pictures = iter(textures(CLASSES * EACH, 32, seed=5))
    for name in ("bark", "moss"):
        (tmp_path / "doubled" / name).mkdir(parents=True)
        for number in range(EACH):
            picture = next(pictures)
            for word, image in {"a": picture, "b": picture.point(lambda v: v * 3 // 4)}.items():
                image.save(tmp_path / "doubled" / name / f"{number * 7919 % 100}{word}.png")
    return tmp_path / "doubled"


def sides(store: Any) -> list[np.ndarray]:
    splits = make_splits(store, val_size=0.2, test_size=0.25, fraction=1, seed=0, folds=0)
    return [splits.train, splits.val, splits.test]


@pytest.mark.parametrize("handed", [False, True])
def test_copies_stand_on_one_side_where_that_is_asked(
    doubled: Path, handed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = open_data(str(doubled), image_size=32)
    data: Any = doubled
    if handed:
        data = [(np.array(Image.open(one)), one.parent.name) for one in doubled.glob("*/*.png")]
    store = open_data(labelled(data, group="copies"), image_size=32)
    assert f"{CLASSES * EACH} groups of equal or nearly equal images" in capsys.readouterr().err
    assert store.fingerprint != plain.fingerprint
    train, val, test = sides(store)
    assert min(len(train), len(val), len(test)) > 0
    for one, other in ((train, test), (val, test), (train, val)):
        assert not len(leaks(store, other, one))
    train, _, test = sides(plain)
    assert len(leaks(plain, test, train))
    fold = folds_of(store, np.arange(len(store)), 5, 0)
    assert all(len({*fold[group]}) == 1 for group in find_duplicates(store).groups)


def test_without_copies_there_are_no_groups(tmp_path: Path) -> None:
    for number, picture in enumerate(textures(8, 32, seed=6)):
        folder = tmp_path / "alone" / f"class {number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number}.png")
    alone = open_data(labelled(tmp_path / "alone", group="copies"), image_size=32)
    assert alone.groups is None


def test_images_judged_in_folds_leak_from_other_folds(doubled: Path) -> None:
    store = open_data(str(doubled), image_size=32)
    rows = np.arange(len(store))
    fold = np.zeros(len(store), np.int64)
    first, second = find_duplicates(store).groups[:2]
    fold[first[0]] = 1
    assert leaks(store, rows, rows, fold).tolist() == sorted(first)
    fold[second] = 1
    assert leaks(store, rows, rows, fold).tolist() == sorted(first)
    assert leaks(store, rows, rows, np.zeros_like(fold)).tolist() == []


def test_the_figure_without_leaks() -> None:
    hits, leaked = np.array([1, 1, 1, 0, 1, 0], bool), np.array([1, 1, 1, 0, 0, 0], bool)
    found = leak_free(hits, leaked)
    assert found == {"top1": 1 / 3, "top1_interval": list(wilson_interval(1, 3)), "n": 3}
    assert leak_free(hits, leaked & False) is leak_free(hits, leaked | True) is None


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "val"])
def test_a_training_says_what_of_its_figure_is_memory(
    doubled: Path, split: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = alexnet.train(doubled, out=tmp_path / "run", split=split, tensorboard=False)
    said = " ".join(capsys.readouterr().err.split())
    figures = json.loads((run / "metrics.json").read_text())
    state = json.loads((run / "data.json").read_text())
    assert figures["solved"]["folds"] == 5 and figures["split"] == split
    assert figures["leaks"] == len(state["leaks"]) > 0
    assert f"{figures['leaks']} of these {figures['n']} images have a duplicate" in said
    assert 'group="copies" keeps such images on one side' in said
    page = " ".join((run / "report.html").read_text().split())
    assert f"{figures['leaks']} of these images have a duplicate or near-duplicate among" in page
    shown = alexnet.load(run)._repr_html_()
    assert f"<td>{figures['leaks']}; of the other " in shown or f"<td>{figures['leaks']}, " in shown
    if found := figures.get("without_leaks"):
        assert found["n"] == figures["n"] - figures["leaks"]
        assert f"of the other {found['n']} images {found['top1']:.2%} (" in shown
    if split == "test":
        again = evaluate_run(run)
        assert [again["leaks"], again.get("without_leaks")] == [figures["leaks"], found]
        assert "have a duplicate or near-duplicate" in capsys.readouterr().err


@pytest.mark.slow
def test_so_does_a_sweep_whose_trials_have_no_report(
    doubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alexnet.sweep(doubled, grid={"image_size": [32, 48]}, out=tmp_path / "sweep")
    assert "have a duplicate or near-duplicate among those that it learned from" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.slow
def test_other_data_has_copies_of_what_was_learned_from(
    doubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = alexnet.train(doubled, out=tmp_path / "run", report=False, tensorboard=False)
    fresh = iter(textures(2, 32, seed=9))
    for name in ("bark", "moss"):
        (tmp_path / "other" / name).mkdir(parents=True)
        next(fresh).save(tmp_path / "other" / name / "new.png")
        for number, path in enumerate(sorted((doubled / name).glob("*a.png"))):
            with Image.open(path) as picture:
                picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
                    tmp_path / "other" / name / f"{number}.png"
                )
    capsys.readouterr()
    figures = evaluate_run(run, tmp_path / "other")
    said = " ".join(capsys.readouterr().err.split())
    assert figures["n"] == CLASSES * (EACH + 1) and "seen_in_training" not in figures
    assert CLASSES * EACH * 0.5 < figures["leaks"] <= CLASSES * EACH
    assert "have a duplicate or near-duplicate" in said and "copies" not in said
    assert figures["without_leaks"]["n"] == figures["n"] - figures["leaks"]
