"""Which pictures to label next."""

import csv
import shutil

import numpy as np
import pytest
from makers import noise, textures

import alexnet
from alexnet.checking.suggestions import TABLE, chosen, doubt
from alexnet.cli import main
from alexnet.errors import DataError, InputError, RunError


def test_what_is_nearly_two_classes_is_doubted():
    p = np.array([[0.5, 0.5, 0], [1, 0, 0], [0.4, 0.35, 0.25]], np.float32)
    assert doubt(p) == pytest.approx([1, 0, 0.95])


def clusters(counts, seed=0):
    """Points around as many corners, and the corner of each."""
    corners = np.eye(len(counts), 8, dtype=np.float32)
    places = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).normal(0, 0.02, (len(places), 8))
    return (corners[places] + noise).astype(np.float32), places


def test_those_chosen_are_unlike_each_other_and_what_is_known():
    x, corner = clusters([30, 30, 30, 30])
    known, _ = clusters([5], seed=1)  # at the first corner
    doubts = np.where(corner == 2, 0.9, np.where(corner == 1, 0.5, 0.2))
    found = chosen(np.where(corner == 0, 1.0, doubts), x, known, 3)
    assert len(found) == 3 and corner[found[0][0]] == 2
    assert 0 not in corner[[place for place, _ in found]]


def test_as_many_as_are_asked_for_and_none_twice():
    x, _ = clusters([4, 3])
    for count in (1, 5, 7, 50):
        places = [place for place, _ in chosen(np.ones(7), x, x[:0], count)]
        assert len(places) == len(set(places)) == min(count, 7)


@pytest.fixture
def pile(photos_run, tmp_path):
    """New pictures, in folders without a meaning; among them one of the run's, one twice, one that
    is blank and one that is no picture."""
    folder = tmp_path / "pile"
    (folder / "deep/er").mkdir(parents=True)
    for number, image in enumerate(textures(8, 48, seed=5)):
        image.save(folder / f"deep/er/{number}.png")
    shutil.copy(folder / "deep/er/0.png", folder / "again.png")
    noise(0, (40, 40)).point(lambda _: 90).save(folder / "blank.png")
    shutil.copy(photos_run.parent / "photos/cat/3.png", folder / "known.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_a_table_and_a_sheet(photos_run, pile, tmp_path, capsys):
    out = tmp_path / "next"
    words = ["suggest", str(photos_run), str(pile), "--count", "5", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "not used:" in said.err and "broken.png" in said.err
    assert "3 of 11 pictures are left out" in said.err
    with open(out / TABLE, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(said.out.splitlines()) == 5
    assert {row["image"] for row in rows} <= {str(one) for one in (pile / "deep/er").iterdir()} | {
        str(pile / "again.png")
    }
    assert all(row["class"] in ("cat", "dog", "eel") and row["why"] for row in rows)
    assert all(float(row["p"]) >= float(row["second_p"]) for row in rows)
    assert (out / "sheet-001.jpg").exists()


def test_fewer_where_there_are_no_more(photos_run, pile, capsys):
    found = alexnet.suggest(photos_run, [str(pile)], count=20)
    assert len(found) == 8 and "no more than 8" in capsys.readouterr().err
    assert len({one.file for one in found}) == 8


def test_what_cannot_be_suggested_from(photos_run, pile, tmp_path):
    photos = photos_run.parent / "photos"
    with pytest.raises(DataError, match="there is no new picture among these"):
        alexnet.suggest(photos_run, [str(photos)])
    with pytest.raises(DataError, match="none of the pictures can be used"):
        alexnet.suggest(photos_run, [str(pile / "broken.png")])
    with pytest.raises(InputError, match="count is 0"):
        alexnet.suggest(photos_run, [str(pile)], count=0)
    with pytest.raises(RunError, match="not a run directory"):
        alexnet.suggest(pile, [str(pile)])
    for words in (["suggest", str(photos_run)], ["suggest", str(photos_run), str(tmp_path / "x")]):
        assert main(words) == 2


def test_a_run_without_its_data_suggests_all_the_same(photos_run, pile, tmp_path, capsys):
    moved = tmp_path / "run"
    shutil.copytree(photos_run, moved)
    recipe = (moved / "recipe.json").read_text(encoding="utf-8").strip()
    (moved / "recipe.json").write_text(recipe.replace('/photos"', '/gone"'), encoding="utf-8")
    assert len(alexnet.suggest(moved, [str(pile)], count=9)) == 9
    assert "not compared with the images of the run" in capsys.readouterr().err
