"""Parts of data sets: the right images, each once, in the right split."""

import dataclasses
from collections import Counter

import pytest
from makers import class_folders, snapshot, write_image

from alexnet.cache import cache_folder
from alexnet.cli import main
from alexnet.data.datasets import open_data
from alexnet.data.finding import read_source
from alexnet.data.official import digits_source
from alexnet.data.subset import TINY_IMAGE10_FIRST_HALF_IS_VAL, select, tiny_image10, write_folder
from alexnet.errors import DataError

WNIDS = (
    "n01443537 n01629819 n01641577 n01644900 n01698640 n01742172 n01768244 n01770393 n01774384 "
    "n01774750 n01784675"
).split()
TINY_NUMBERS = sorted({*range(0, 500, 7), 50, 99, 100, 499})


@pytest.fixture
def animals(tmp_path):
    return class_folders(tmp_path / "animals", {"cat": 9, "ant": 8, "dog": 7, "bee": 6})


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Tiny ImageNet's training images of eleven classes; every file is one pixel of its number."""
    root = tmp_path / "tiny-imagenet-200"
    for wnid in WNIDS:
        for number in TINY_NUMBERS:
            write_image(root / f"train/{wnid}/images/{wnid}_{number}.JPEG", (4, 4))
    (root / "words.txt").write_text("".join(f"{w}\tname of {w}, other\n" for w in WNIDS))
    return root


def told(source):
    return [(one.split, source.classes[one.label], one.id) for one in source.examples]


def test_the_first_classes_and_so_many_images_of_each(animals):
    part = select(read_source(animals), classes=2, per_class=(4, 1, 1))
    assert part.classes == ["ant", "bee"]
    rows = told(part)
    assert len({image for _, _, image in rows}) == len(rows) == 12
    for name in part.classes:
        mine = [split for split, one, _ in rows if one == name]
        assert [mine.count(split) for split in ("train", "val", "test")] == [4, 1, 1]
    assert all(image.startswith(name) for _, name, image in rows)
    contents = list(part.contents())
    assert [(animals / image).read_bytes() for _, _, image in rows] == contents


@pytest.mark.parametrize(
    "words",
    ["--random --classes dog", "--rule tiny-image10 --classes dog",
     "--rule tiny-image10 --per-class 3/1/1", "--rule tiny-image10 --seed 1"],
)  # fmt: skip
def test_what_would_have_no_effect_is_refused(animals, tmp_path, words, capsys):
    assert main(["data", "subset", str(animals), str(tmp_path / "part"), *words.split()]) == 2
    assert f"{words.split()[0]} " in capsys.readouterr().err
    assert not (tmp_path / "part").exists()


def test_named_and_random_classes(animals):
    source = read_source(animals)
    assert select(source, classes=["dog", "cat"], per_class=(2, 1, 1)).classes == ["cat", "dog"]
    assert select(source, classes=["dog, cat"], per_class=(2, 1, 1)).classes == ["cat", "dog"]
    named = dataclasses.replace(source, names=["a cat", *source.names[1:-1], "a cat"])
    with pytest.raises(DataError, match="2 classes are called 'a cat'"):
        select(named, classes=["a cat"], per_class=(2, 1, 1))
    draws = {
        tuple(select(source, classes=2, per_class=(2, 1, 1), random_classes=True, seed=s).classes)
        for s in range(12)
    }
    assert len(draws) > 2
    one, same, other = (
        told(select(source, classes=4, per_class=(2, 1, 1), seed=seed)) for seed in (0, 0, 1)
    )
    assert one == same != other
    alone = told(select(source, classes=["dog"], per_class=(2, 1, 1)))
    assert alone == [row for row in one if row[1] == "dog"]  # whatever else is chosen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["dgo"]}, "no class 'dgo'"),
        ({"classes": 5}, "5 classes are asked for; there are 4"),
        ({"classes": 0}, "0 classes are asked for"),
        ({"classes": 4, "per_class": (5, 1, 1)}, "the class bee has 6 images, 7 are asked for"),
    ],
)
def test_parts_that_are_not_there(arguments, message, animals):
    with pytest.raises(DataError, match=message) as caught:
        select(read_source(animals), **({"per_class": (1, 1, 1)} | arguments))
    assert caught.value.hint


def test_tiny_image10_is_drawn_as_the_program_draws_it(tiny, monkeypatch):
    source = read_source(tiny)
    with pytest.raises(DataError, match="5"):  # 500 images of each are expected
        tiny_image10(source)
    monkeypatch.setattr(
        "alexnet.data.subset.len", lambda x: 5000 if len(x) > 500 else len(x), raising=False
    )
    part = tiny_image10(source)
    assert part.classes == WNIDS[:10]
    assert part.names[0] == "name of n01443537"
    for split, name, image in told(part):
        number = int(image.rpartition("_")[2].removesuffix(".JPEG"))
        first = name in TINY_IMAGE10_FIRST_HALF_IS_VAL
        expected = "train" if number >= 100 else "val" if (number < 50) == first else "test"
        assert split == expected, (name, number)


def test_tiny_image10_needs_tiny_imagenet(animals):
    with pytest.raises(DataError, match="Tiny Image10 is drawn from ten classes"):
        tiny_image10(read_source(animals))
    with pytest.raises(DataError, match="tiny-imagenet is not on this machine"):
        open_data("tiny-image10", image_size=8)


def test_a_folder_of_a_part_is_the_part(animals, tmp_path):
    before = snapshot(animals)
    part = select(read_source(animals), classes=3, per_class=(3, 1, 2))
    out = write_folder(part, tmp_path / "part")
    assert snapshot(animals) == before
    again = read_source(out)
    assert again.classes == part.classes
    assert Counter(again.contents()) == Counter(part.contents())
    store = open_data(out, image_size=8)
    assert [len(store.split(one)) for one in ("train", "val", "test")] == [9, 3, 6]
    with pytest.raises(DataError, match="exists already"):
        write_folder(part, out)


def test_pixels_without_files_become_png(tmp_path):
    part = select(digits_source(), classes=["7"], per_class=(2, 1, 1))
    out = write_folder(part, tmp_path / "sevens")
    assert len(list(out.rglob("*.png"))) == 4


def test_what_a_killed_program_left_is_removed(animals, tmp_path):
    part = select(read_source(animals), classes=2, per_class=(3, 1, 2))
    left = tmp_path / ".part.alexnet-unfinished"
    (left / "train" / "ant").mkdir(parents=True)
    (left / "train" / "ant" / "half.png").write_bytes(b"half")
    out = write_folder(part, tmp_path / "part")
    assert not left.exists()
    assert not list(out.rglob("half.png"))


def test_a_failure_leaves_nothing(animals, tmp_path, monkeypatch):
    part = select(read_source(animals), classes=2, per_class=(3, 1, 2))
    (animals / "ant" / "0.png").unlink()
    for number in range(1, 8):
        (animals / "ant" / f"{number}.png").unlink(missing_ok=True)
    with pytest.raises(DataError):
        write_folder(part, tmp_path / "part")
    assert sorted(path.name for path in tmp_path.iterdir() if path != cache_folder()) == ["animals"]


def test_the_command(animals, tmp_path, capsys):
    out = tmp_path / "part"
    command = ["data", "subset", str(animals), str(out), "--per-class", "2/1/1", "--classes"]
    assert main([*command, "dog", "ant"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert sorted(path.name for path in (out / "train").iterdir()) == ["ant", "dog"]
    assert main(["data", "subset", str(animals), str(out), "--per-class", "2/1"]) == 2
    assert "expected three numbers" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == ["test", "train", "val", "words.txt"]
