"""Labels in the names of files."""

import shutil

import pytest
from makers import TINY, snapshot, tensors_sha256, write_image

import alexnet
from alexnet.data.datasets import open_data
from alexnet.data.finding import find_data, listed
from alexnet.data.handed import labelled
from alexnet.errors import DataError, InputError

PETS = r"(?P<label>[A-Za-z_]+)_\d+"


def source_of(folder, pattern):
    return listed(find_data(labelled(folder, label_pattern=pattern)))


@pytest.fixture
def pets(tmp_path):
    for name in ("pug", "great_pyrenees"):
        for number in range(3):
            write_image(tmp_path / f"pets/set_1/{name}_{number}.png")
    return tmp_path / "pets"


def test_a_pattern_finds_labels_in_names(pets, tmp_path):
    before = snapshot(pets)
    source = source_of(pets, PETS)
    assert source.classes == ["great_pyrenees", "pug"]  # not set, of the folder
    assert [one.label for one in source.examples] == [0, 0, 0, 1, 1, 1]
    # the same pixels and labels as in class folders
    for path in sorted(pets.rglob("*.png")):
        (tmp_path / f"f/{path.stem[:-2]}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / f"f/{path.stem[:-2]}/{path.name}")
    found = open_data(labelled(pets, label_pattern=PETS), image_size=8)
    expected = open_data(tmp_path / "f", image_size=8)
    for name in ("x.bin", "y.npy", "content.npy"):
        assert found.info["sha256"][name] == expected.info["sha256"][name]
    shutil.make_archive(str(tmp_path / "z"), "zip", tmp_path, "pets")
    zipped = open_data(labelled(tmp_path / "z.zip", label_pattern=PETS), image_size=8)
    assert zipped.fingerprint == found.fingerprint
    assert snapshot(pets) == before


@pytest.mark.slow
def test_the_same_weights_as_from_class_folders(tmp_path):
    for name in ("cat", "dog"):
        for number in range(8):
            write_image(tmp_path / f"d/{name}_{number}.png")
            (tmp_path / f"f/{name}").mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / f"d/{name}_{number}.png", tmp_path / f"f/{name}")
    recipe = TINY.replace(epochs=1)
    data = labelled(tmp_path / "d", label_pattern=PETS)
    one = alexnet.train(data, recipe, out=tmp_path / "one")
    other = alexnet.train(tmp_path / "f", recipe, out=tmp_path / "other")
    assert tensors_sha256(one / "best.safetensors") == tensors_sha256(other / "best.safetensors")


def test_what_does_not_fit_is_left_out_and_told(tmp_path):
    for number, name in enumerate(("cat", "dog") * 2):
        write_image(tmp_path / f"d/train/{name}.{number}.png")
    write_image(tmp_path / "d/test1/7.png")
    source = source_of(tmp_path / "d", r"(cat|dog)\.\d+")
    assert source.classes == ["cat", "dog"] and len(source.examples) == 4
    assert source.left_out == ["1 images whose names the pattern does not fit, such as test1/7.png"]


def test_a_pattern_finds_splits_and_groups(tmp_path):
    for split, name, film in (("train", "a", 1), ("Testing", "a", 2), ("train", "b", 1)):
        write_image(tmp_path / f"d/{split}/{name}{film}-0.png")
    pattern = r"(?P<split>\w+)/(?P<label>[ab])(?P<group>\d)"
    source = source_of(tmp_path / "d", pattern)
    assert [(one.split, one.label, one.group) for one in source.examples] == [
        ("train", 0, "1"), ("train", 1, "1"), ("test", 0, "2"),
    ]  # fmt: skip
    write_image(tmp_path / "d/other/a3-0.png")
    with pytest.raises(DataError, match=r"other/a3-0\.png: the pattern finds the split 'other'"):
        source_of(tmp_path / "d", pattern)


@pytest.mark.parametrize(
    ("pattern", "error", "words"),
    [
        ("(?P<label>", InputError, "no regular expression"),
        (r"\w+_\d", InputError, "which part of a path is the label"),
        (r"(\w)(\w)", InputError, "which part"),
        (r"(?P<label>\d+)x", DataError, "fits none of the 6 images"),
    ],
)
def test_wrong_patterns_are_refused(pattern, error, words, pets):
    with pytest.raises(error, match=words):
        source_of(pets, pattern)


def test_a_table_has_its_labels(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\n")
    with pytest.raises(InputError, match="is a table"):
        source_of(tmp_path / "t.csv", PETS)
