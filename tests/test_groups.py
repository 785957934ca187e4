"""Groups: what belongs together never stands on two sides of a split."""

import csv
import itertools
from typing import Any

import numpy as np
import pytest
from makers import noise, write_image
from PIL import Image

from alexnet.cli import main
from alexnet.data.datasets import open_data
from alexnet.data.finding import find_data, listed
from alexnet.data.groups import USUAL, burst_codes, codes_of
from alexnet.data.handed import labelled
from alexnet.data.splits import make_splits
from alexnet.data.store import Store
from alexnet.errors import DataError, InputError

FRAMES = list(itertools.product(("beach", "street"), range(5), range(4)))


class Made:
    """What splits are drawn from, without images."""

    def __init__(self, y, groups, seed=0):
        self.y, self.groups = np.array(y), np.array(groups)
        self.drawn = self.y
        self.classes = [f"class {label}" for label in range(self.y.max() + 1)]
        self.content = np.random.default_rng(seed).integers(0, 256, (len(self.y), 8), np.uint8)
        self.ids: list[str] = []
        self.info: dict[str, Any] = {"source": "made", "splits": {"all": (0, len(self.y))}}

    def split(self, name):
        return np.arange(*self.info["splits"].get(name, (0, 0)))


def drawn(store, **fields):
    sizes = {"val_size": 0.1, "test_size": 0.2, "fraction": 1, "seed": 0} | fields
    return make_splits(store, **sizes)


@pytest.mark.parametrize("cases", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_draws_part_no_group(cases):
    random = np.random.default_rng(cases)
    parted = refused = 0
    for case in range(cases):
        classes, count = random.integers(2, 7), int(random.integers(6, 60))
        sizes = random.geometric(0.3, count) + (random.random(count) < 0.1) * 20
        of_class = random.integers(0, classes, count)
        groups = np.repeat(np.arange(count), sizes)
        mixed = random.random(len(groups)) < random.choice([0, 0.3])  # groups of several classes
        y = np.where(mixed, random.integers(0, classes, len(groups)), of_class[groups])
        y = np.unique(y, return_inverse=True)[1]
        if y.max() < 1:
            continue
        store = Made(y, groups, seed=case)
        how = {"seed": case, "fraction": random.choice([1, 0.7])}
        try:
            splits = drawn(store, draw=random.choice(["content", "position"]), **how)
        except DataError as error:
            refused += 1
            assert "group" in error.message or "1 image left" in error.message
            continue
        parts = (splits.train, splits.val, splits.test)
        sides = [set(groups[part]) for part in parts]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert all(set(y[part]) == set(y) for part in parts)
        if how["fraction"] == 1:
            assert sum(map(len, parts)) == len(y)
        parted += 1
    assert parted > 0.7 * cases, refused


def test_the_share_of_each_class_is_near_what_is_asked():
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(200), 5)
    y = np.repeat(random.integers(0, 4, 200), 5)
    splits = drawn(Made(y, groups))
    for label in range(4):
        share = (y[splits.test] == label).sum() / (y == label).sum()
        assert abs(share - 0.2) < 0.03
    assert "whole groups, of which there are 200" in splits.note
    others = drawn(Made(y, groups), seed=1)
    assert set(groups[others.test]) != set(groups[splits.test])


def test_one_more_group_moves_few():
    groups, y = np.repeat(np.arange(100), 4), np.repeat(np.arange(100) % 2, 4)
    before = Made(y, groups)
    after = Made(np.append(y, [0] * 4), np.append(groups, [100] * 4))
    after.content = np.concatenate([before.content, after.content[-4:]])
    moved = set(groups[drawn(before).test]) ^ set(after.groups[drawn(after).test]) - {100}
    assert len(moved) <= 4


def test_a_group_that_is_a_whole_class_is_refused():
    with pytest.raises(DataError, match=r"the 5 images of the class 'class 1' .* of one group"):
        drawn(Made([0] * 9 + [1] * 5, [*range(9), *[9] * 5]))


def test_groups_that_stand_in_two_splits_of_the_data_are_refused():
    store = Made([0, 1, 0, 1], [0, 1, 1, 2])
    store.info["splits"] = {"train": (0, 2), "test": (2, 4)}
    store.ids = ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="c in test is of the same group as b in train"):
        drawn(store)


@pytest.fixture
def films(tmp_path):
    """Two scenes, five films of each, four frames of each film."""
    for scene, film, frame in FRAMES:
        write_image(tmp_path / f"films/{scene}/film{film}-{frame}.png")
    return tmp_path / "films"


def test_a_pattern_finds_groups_in_paths(films, capsys):
    address = labelled(films, group=r"(film\d+)-")
    store = open_data(address, image_size=8)
    films_of = [id_.split("/")[1].split("-")[0] for id_ in store.ids]
    assert store.groups.tolist() == [int(name[-1]) for name in films_of]
    splits = drawn(store)
    assert {films_of[row] for row in splits.test}.isdisjoint(films_of[row] for row in splits.train)
    assert open_data(films, image_size=8).groups is None
    assert open_data(films, image_size=8).fingerprint != store.fingerprint
    assert Store.open(store.path).groups.tolist() == store.groups.tolist()
    source = listed(find_data(labelled(films, group="(beach/film1)-")))
    assert "36 images are in no group" in source.notes[-1]
    for pattern, error, words in (
        ("(film", InputError, "no regular expression"),
        (r"film\d", InputError, "which part"),
        ("(reel.)", DataError, "fits no path"),
    ):
        with pytest.raises(error, match=words):
            listed(find_data(labelled(films, group=pattern)))


def test_a_column_holds_groups(films, tmp_path):
    rows = [(f"{scene}/film{film}-{frame}.png", scene, film or "") for scene, film, frame in FRAMES]
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "film"), *rows])
    store = open_data(labelled(tmp_path / "t.csv", images=films, group="film"), image_size=8)
    assert store.groups.tolist() == codes_of([str(row[2]) for row in rows]).tolist()
    assert len(set(store.groups.tolist())) == 4 + 8  # without a group each is alone
    with open(tmp_path / "t.csv", "a", newline="") as file:
        csv.writer(file).writerow(("beach/film1-0.png", "beach", 3))
    with pytest.raises(DataError, match=r"line 42 gives beach/film1-0.png the group '3'"):
        listed(find_data(labelled(tmp_path / "t.csv", images=films, group="film")))


def test_bursts_are_what_one_camera_took_within_seconds(tmp_path, capsys):
    for number, second in enumerate([0, 5, 14, 40, 41, None]):
        exif = Image.Exif()
        if second is not None:
            exif[0x0110] = "A" if number != 1 else "B"
            exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 10:00:{second:02}"
        (tmp_path / "d/cat").mkdir(parents=True, exist_ok=True)
        noise(number).save(tmp_path / f"d/cat/{number}.jpg", exif=exif)
    (tmp_path / "d/dog").mkdir()
    noise(9).save(tmp_path / "d/dog/9.png")
    store = open_data(labelled(tmp_path / "d", group="burst"), image_size=8)
    one, other, late, twin, close, none, dog = store.groups.tolist()
    assert twin == close and len({one, other, late, twin, none, dog}) == 6
    assert "4 bursts stay together" in capsys.readouterr().err
    assert burst_codes([("A", 0.0), ("A", 20.0), ("A", 10.0)]) == ["burst 0"] * 3


def test_data_check_says_that_splits_part_a_group(tmp_path, capsys):
    for split, name, number in itertools.product(("train", "test"), "ab", range(3)):
        write_image(tmp_path / f"d/{split}/{name}/{number}-{split}.png")
    words = ["data", "check", str(tmp_path / "d"), "--image-size", "8", "--group", r"(\d)-"]
    assert main(words) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "test/a/0-test.png in test is of the same group as train/a/0-train.png in train" in said


def test_data_check_proposes_groups(films, tmp_path, capsys, monkeypatch):
    random = np.random.default_rng(0)
    of_film = {
        name: random.integers(0, 256, (24, 24, 3)) for name in itertools.product("bs", range(5))
    }
    for scene, film, frame in FRAMES:
        noisy = of_film[scene[0], film] + random.integers(-3, 4, (24, 24, 3))
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        image.save(films / f"{scene}/film{film}-{frame}.png")
    assert main(["data", "check", str(films), "--image-size", "24"]) in (0, 1)
    said = " ".join(capsys.readouterr().out.split())
    assert "near-copy" in said and "--group '^(.*?)[-_ .]*\\d+\\.\\w+$'" in said
    words = ["data", "check", str(films), "--image-size", "24", "--group", USUAL[1]]
    assert main(words) in (0, 1)
    assert "--group" not in capsys.readouterr().out
