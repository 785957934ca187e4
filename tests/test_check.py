"""`alexnet data check`: planted trouble is found, clean data has none, every message is said."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
from makers import (
    TINY,
    cifar_files,
    network_of,
    pictures_store,
    snapshot,
    textures,
    write_files,
    zipped,
)
from PIL import Image

import alexnet
from alexnet.checking.check import findings_of
from alexnet.checking.description import describe, sizes_of
from alexnet.cli import main
from alexnet.data.datasets import open_data
from alexnet.data.duplicates import leaks
from alexnet.data.splits import Splits, make_splits
from alexnet.network.description import architecture


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def clean_folder(root, side=40, splits=("train", "test"), counts=(12, 6)):
    """Class folders of textures that all differ."""
    images = iter(textures(2 * sum(counts), side, seed=side))
    for split, count in zip(splits, counts, strict=True):
        for name in ("grain", "marble"):
            for number in range(count):
                save(next(images), root / split / name / f"{number}.png")
    return root


@pytest.fixture
def clean(tmp_path):
    return clean_folder(tmp_path / "clean")


@pytest.fixture
def troubled(tmp_path):
    """One of everything that is looked for without a network."""
    root = clean_folder(tmp_path / "troubled", side=48)
    train, test = root / "train", root / "test"
    with Image.open(train / "grain" / "0.png") as image:  # across splits: saved again, mirrored
        save(image, test / "grain" / "again.jpg", quality=70)
    with Image.open(train / "grain" / "1.png") as image:
        flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        save(flipped, test / "grain" / "mirrored.jpg", quality=85)
    shutil.copy(train / "grain" / "2.png", train / "marble" / "copy.png")  # two labels
    save(Image.new("RGB", (48, 48), "white"), train / "marble" / "white.png")
    (train / "marble" / "short.png").write_bytes((train / "marble" / "3.png").read_bytes()[:900])
    (train / "marble" / "notes.md").write_text("which quarry")
    save(textures(1, 200, seed=9)[0].crop((0, 0, 200, 40)), train / "marble" / "wide.png")
    save(textures(1, 48, seed=10)[0].convert("L"), train / "Mar ble" / "grey.png")
    return root


def found_in(capsys, *arguments):
    """(exit code, the JSON) of a check."""
    code = main(["data", "check", *map(str, arguments), "--json"])
    out = json.loads(capsys.readouterr().out)
    return code, out, {one["kind"]: one for one in out["findings"]}


def test_clean_data_has_no_problems(clean, capsys):
    before = snapshot(clean)
    assert main(["data", "check", str(clean)]) == 0
    captured = capsys.readouterr()
    first, *_, last = captured.out.splitlines()
    assert first == f"{clean}: 36 images (24 train, 12 test), 2 classes, 40x40 px"
    assert last == "no problems found"
    assert "--weights NAME or --run RUN finds doubtful ones" in captured.err
    assert "problem " not in captured.out
    assert main(["data", "check", str(clean), "--strict"]) == 0
    assert snapshot(clean) == before


def test_planted_trouble_is_found(troubled, capsys):
    before = snapshot(troubled)
    code, out, found = found_in(capsys, troubled, "--image-size", "48")
    assert code == 1
    assert out["problems"] == 6
    levels = [one["level"] for one in out["findings"]]
    assert levels == sorted(levels, key=["problem", "warning", "note"].index)
    assert {kind: one["count"] for kind, one in found.items() if one["level"] == "problem"} == {
        "bad_files": 1, "leaks": 2, "contradictions": 1, "blank": 1, "names": 1, "missing": 1,
    }  # fmt: skip
    assert found["bad_files"]["examples"][0].startswith("train/marble/short.png: damaged")
    told = " ".join(found["leaks"]["examples"])
    assert "test/grain/again.jpg ~ train/grain/0.png" in told
    assert "test/grain/mirrored.jpg ~ train/grain/1.png" in told
    assert found["contradictions"]["examples"] == [
        "train/grain/2.png (grain), train/marble/copy.png (marble)"
    ]
    assert found["blank"]["examples"] == ["train/marble/white.png"]
    assert found["names"]["examples"] == ["'Mar ble' / 'marble'"]
    assert found["missing"]["examples"] == ["Mar ble"]
    assert found["exact_duplicates"]["count"] == 1
    assert found["near_duplicates"]["count"] == 2
    assert found["few"]["examples"] == ["Mar ble: 1"]
    assert found["imbalance"]["text"].startswith("the largest class has 15 times as many images")
    assert found["long"]["examples"] == ["train/marble/wide.png"]
    assert found["greyscale"]["count"] == 1
    assert "40 to 48 px high (median 48)" in found["sizes"]["text"]
    assert "modes: RGB 41, L 1" in found["sizes"]["text"]
    assert found["left_out"]["text"].endswith(
        "1 files that are not images, such as train/marble/notes.md"
    )
    assert out["classes"]["grain"] == {"train": 12, "test": 8}
    assert snapshot(troubled) == before


def test_the_same_in_words(troubled, capsys):
    assert main(["data", "check", str(troubled), "--image-size", "48"]) == 1
    captured = capsys.readouterr()
    for text in (
        "problem  1 file that cannot be used",
        "problem  2 test images (14.3%) with a duplicate or near-duplicate in train",
        "problem  1 group of duplicates or near-duplicates with different labels",
        "problem  1 image of one colour and nothing else",
        "problem  1 group of classes whose names are equal but for case, spaces or punctuation",
        "problem  test has no images of 1 class",
        "warning  1 group of images (2 in all) that are equal in every pixel",
        "warning  2 groups of images (4 in all) that are nearly the same",
        "warning  1 class with fewer than 10 images in train",
        "warning  1 image more than 3 times as long as wide",
        "note     1 image (2.3%) stored as greyscale",
    ):
        assert text in captured.out
    assert "no problems found" not in captured.out
    assert captured.err.rstrip().endswith("has 6 problems.\nThey are listed above.")


def test_a_zip_is_checked_like_its_folder(troubled, tmp_path, capsys):
    archive = zipped(tmp_path / "troubled.zip", troubled, "top/")
    _, folder, _ = found_in(capsys, troubled, "--image-size", "48")
    shutil.rmtree(tmp_path / "cache")
    _, inside, _ = found_in(capsys, archive, "--image-size", "48")
    assert folder | {"data": ""} == inside | {"data": ""}


def test_warnings_count_when_strict(tmp_path, capsys):
    root = clean_folder(tmp_path / "few", counts=(4, 2))
    assert main(["data", "check", str(root)]) == 0
    assert "2 classes with fewer than 10 images in train" in capsys.readouterr().out
    assert main(["data", "check", str(root), "--strict"]) == 1
    assert "has 1 problem." in capsys.readouterr().err


def test_duplicates_of_data_without_splits_are_a_warning(tmp_path, capsys):
    root = clean_folder(tmp_path / "flat" / "x", splits=("all",), counts=(12,)) / "all"
    shutil.copy(root / "grain" / "0.png", root / "grain" / "00.png")
    code, _, found = found_in(capsys, root)
    assert code == 0
    assert found["exact_duplicates"]["advice"].endswith("would put some on both sides.")


def test_many_examples_are_shortened(tmp_path, capsys):
    root = clean_folder(tmp_path / "many", splits=("all",), counts=(12,)) / "all"
    for number in range(7):
        save(Image.new("RGB", (40, 40), (9 * number, 0, 0)), root / "grain" / f"blank{number}.png")
        shutil.copy(root / "grain" / "0.png", root / "grain" / f"again{number}.png")
    assert main(["data", "check", str(root)]) == 1
    out = capsys.readouterr().out
    assert "... and 2 more (--json)" in out
    assert "grain/0.png = grain/again0.png = grain/again1.png = grain/again2.png = ..." in out


def test_contact_sheets_of_the_pairs(troubled, tmp_path, capsys):
    sheets = tmp_path / "sheets"
    assert main(["data", "check", str(troubled), "--sheets", str(sheets)]) == 1
    assert f"3 pairs of duplicates drawn in {sheets}" in capsys.readouterr().err
    [page] = sheets.glob("*.jpg")
    with Image.open(page) as image:
        assert image.size == (10 + 6 * 138, 10 + 170)


@pytest.mark.slow
def test_labels_are_doubted_with_a_run_or_weights(tmp_path, capsys):
    root = clean_folder(tmp_path / "photos", side=16, splits=("all",), counts=(20,)) / "all"
    for path in (root / "grain").iterdir():
        with Image.open(path) as image:
            dark = image.point(lambda value: value // 3)
        save(dark, path)
    (root / "grain" / "5.png").replace(root / "marble" / "was-grain.png")
    weights = tmp_path / "cache" / "weights" / "mine.safetensors"
    weights.parent.mkdir(parents=True)
    network_of(weights, architecture("small", width=0.125, pool="max"), 4)
    run = alexnet.train(root, TINY, out=tmp_path / "run")
    for judge in (["--weights", "mine"], ["--run", run]):
        code, _, found = found_in(capsys, root, *judge)
        assert code == 0  # a warning
        assert found["label_errors"]["examples"][0].startswith("marble/was-grain.png: marble (")
        assert "or rather grain (" in found["label_errors"]["examples"][0]
        assert "doubted by a classifier that agrees with" in found["label_errors"]["text"]
    for number in range(12):  # of marble
        (root / "marble" / f"{number}.png").replace(root / "grain" / f"was-marble{number}.png")
    code, _, found = found_in(capsys, root, "--weights", "mine")
    assert code == 1
    assert "images of grain are taken for marble" in " ".join(
        found["mixed_classes"]["examples"]
    ) or "images of marble are taken for grain" in " ".join(found["mixed_classes"]["examples"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no data set and no path 'nowhere'"),
        (["digits", "--weights", "a", "--run", "b"], "two ways to the same check"),
        (["digits", "--image-size", "-1"], "image_size"),
        (["digits", "--run", "./nowhere"], "there is nothing at nowhere"),
        (["digits", "--weights", "./nowhere"], "there is no weights file"),
    ],
)
def test_wrong_input(arguments, message, capsys):
    assert main(["data", "check", *arguments]) == 2
    assert message in capsys.readouterr().err


# -- for the report of a run ---------------------------------------------------------------------


def test_a_description_of_the_data_of_a_run(troubled):
    (troubled / "train" / "Mar ble" / "grey.png").replace(troubled / "train/marble/grey.png")
    (troubled / "train" / "Mar ble").rmdir()
    store = open_data(troubled, image_size=48, bad_images="skip")
    splits = make_splits(store, val_size=0.2, test_size=0.2, fraction=1.0, seed=0)
    found = describe(store, splits)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == [
        "classes", "image_size", "greyscale", "left_out", "blank", "duplicates", "leaks", "sizes",
    ]  # fmt: skip
    totals = {split: sum(one[split] for one in found["classes"].values()) for split in
              ("train", "val", "test")}  # fmt: skip
    assert totals == {"train": len(splits.train), "val": len(splits.val), "test": 14}
    assert (found["image_size"], found["greyscale"], found["left_out"]) == (48, 1, 1)
    assert found["blank"] == ["train/marble/white.png"]
    assert (found["duplicates"]["exact"], found["duplicates"]["near"]) == (1, 2)
    assert found["duplicates"]["across_splits"] >= 2
    assert found["sizes"] == {"width": [48, 48, 200], "height": [40, 48, 48]}
    first = found["duplicates"]["examples"][0]
    assert set(first) == {"ids", "splits", "images", "distance"}
    assert len(set(first["splits"])) == 2
    assert 0 < first["distance"] < 0.2
    kind, _, data = first["images"][0].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (48, 48)


def test_leaks_are_into_the_training_split_only(tmp_path):
    a, b, c, d, e, f = textures(6, 32, seed=3)
    near = a.point(lambda value: value * 3 // 4)
    x = [a, b, c, d, near, c, e, f, b]
    store = pictures_store(tmp_path, x)
    test = np.array([8, 5, 6, 4])
    assert leaks(store, test, np.array([0, 1, 2, 3])).tolist() == [8, 5, 4]
    assert leaks(store, test, np.array([1, 3])).tolist() == [8]
    assert leaks(store, test, np.array([], dtype=int)).tolist() == []
    splits = Splits(np.array([0, 3]), np.array([1, 7]), np.array([4, 8]))
    found = describe(store, splits)
    assert found["leaks"] == ["4.png"]
    assert found["duplicates"]["exact"] == 1  # b in val and test; of c neither is used
    assert found["duplicates"]["near"] == 1
    assert found["duplicates"]["across_splits"] == 2
    assert {tuple(one["splits"]) for one in found["duplicates"]["examples"]} == {
        ("val", "test"), ("train", "test"),
    }  # fmt: skip
    assert describe(store, splits, "val")["leaks"] == []


def test_a_large_picture_is_shown_small(tmp_path):
    root = clean_folder(tmp_path / "large", side=160, counts=(4, 2))
    with Image.open(root / "train" / "grain" / "0.png") as image:
        save(image, root / "test" / "grain" / "again.jpg", quality=80)
    store = open_data(root, image_size=160)
    splits = make_splits(store, val_size=0.3, test_size=0.2, fraction=1.0, seed=0)
    [pair] = describe(store, splits)["duplicates"]["examples"]
    with Image.open(io.BytesIO(base64.b64decode(pair["images"][1].partition(",")[2]))) as image:
        assert image.size == (96, 96)


def test_sizes_and_modes_are_noted_while_packing_and_only_of_files(tmp_path, clean):
    digits = open_data("digits", image_size=8)
    assert sizes_of(digits) == {"width": [8, 8, 8], "height": [8, 8, 8]}
    assert "modes" not in digits.info
    files, _, _ = cifar_files()
    cifar = open_data(write_files(tmp_path / "cifar", files), image_size=16)
    assert sizes_of(cifar) == {}
    save(textures(1, 60)[0].crop((0, 0, 60, 50)), clean / "train" / "grain" / "7.png")
    store = open_data(clean, image_size=32)
    assert sizes_of(store) == {"width": [40, 40, 60], "height": [40, 40, 50]}
    assert store.info["modes"] == {"RGB": 36}
    assert store.info["long"] == []


def test_a_store_of_an_earlier_release_has_no_rows_of_sizes(clean):
    store = open_data(clean, image_size=32)
    for key in ("sizes", "modes", "long"):
        del store.info[key]
    assert sizes_of(store) == {}
    assert not {"sizes", "long"} & {one.kind for one in findings_of(store)}
