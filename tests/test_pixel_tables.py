"""Tables whose rows are the pictures: the same pixels and labels as arrays of them, or an error
that says where."""

import csv
import gzip

import numpy as np
import pytest
from makers import refused_data as refused

from alexnet.cli import main
from alexnet.data.datasets import open_data
from alexnet.data.finding import find_data, listed
from alexnet.data.handed import labelled

rng = np.random.default_rng(0)
GREY = rng.integers(0, 256, (12, 8, 8), dtype=np.uint8)
COLOUR = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = ["cat", "dog", "7"] * 4


def write(path, rows, header=None):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([*([header] if header else []), *rows])
    return path


def rows(pixels, labels=LABELS):
    return [[label, *one.ravel()] for label, one in zip(labels, pixels, strict=True)]


def names(count, form="pixel{}"):
    return [form.format(place) for place in range(count)]


def found(data, **reading):
    """Pixels and labels of the images, by the order of the table."""
    store = open_data(labelled(data, **reading), image_size=8)
    order = np.argsort(store.ids)
    return store.x[order].transpose(0, 2, 3, 1), [store.classes[store.y[one]] for one in order]


@pytest.mark.parametrize("form", ["pixel{}", "pixel_{}", "px{}", "{}", "8x{}"])
def test_a_column_for_each_pixel(form, tmp_path, capsys):
    table = write(tmp_path / "mnist.csv", rows(GREY), ["label", *names(64, form)])
    pixels, labels = found(table)
    assert (pixels == GREY[..., None]).all() and labels == LABELS
    assert "pictures of 8x8 pixels; their labels in 'label'" in capsys.readouterr().err


def test_colours_come_pixel_by_pixel_which_is_said(tmp_path, capsys):
    lines = [[*one.ravel(), label] for label, one in zip(LABELS, COLOUR, strict=True)]
    pixels, labels = found(write(tmp_path / "c.csv", lines, [*names(192, "pixel{:04}"), "label"]))
    assert (pixels == COLOUR).all() and labels == LABELS
    assert "red, green and blue of each pixel one after the other" in capsys.readouterr().err


def test_all_pixels_in_one_column_and_splits_in_another(tmp_path):
    usage = ["Training"] * 6 + ["PublicTest"] * 3 + ["PrivateTest"] * 3
    lines = [
        (label, " ".join(map(str, one.ravel())), split)
        for label, one, split in zip(LABELS, GREY, usage, strict=True)
    ]
    table = write(tmp_path / "fer2013.csv", lines, ["emotion", "pixels", "Usage"])
    splits = [one.split for one in listed(find_data(str(table))).examples]
    assert [splits.count(one) for one in ("train", "val", "test")] == [6, 3, 3]
    store = open_data(table, image_size=8)
    place = store.ids.index("test-0")
    assert (store.x[place][0] == GREY[9]).all() and store.classes[store.y[place]] == LABELS[9]


def test_tables_of_a_folder_are_the_splits(tmp_path, capsys):
    header = ["label", *names(64)]
    write(tmp_path / "mnist_train.csv", rows(GREY), header)
    write(tmp_path / "mnist_test.csv", rows(GREY[:3], LABELS[:3]), header)
    splits = [one.split for one in listed(find_data(str(tmp_path))).examples]
    assert (splits.count("train"), splits.count("test")) == (12, 3)
    write(tmp_path / "mnist_test.csv", GREY.reshape(12, -1).tolist(), names(64))
    write(tmp_path / "sample_submission.csv", [[1, 0]], ["ImageId", "Label"])
    source = listed(find_data(str(tmp_path)))
    assert {one.split for one in source.examples} == {"train"}
    assert source.left_out == ["mnist_test.csv, whose pictures have no labels"]
    refused(tmp_path / "mnist_test.csv", "pictures without labels")
    write(tmp_path / "mnist.csv", rows(GREY), header)
    refused(tmp_path, "and so has another table")


def test_without_names_of_columns_the_label_is_asked_for(tmp_path):
    lines = [[place % 3, *one.ravel()] for place, one in enumerate(GREY)]
    table = write(tmp_path / "a.csv", lines)
    refused(table, "65 in a row without names", "label_column=1, or label_column=65")
    pixels, labels = found(table, label_column="1")
    assert (pixels == GREY[..., None]).all() and labels == ["0", "1", "2"] * 4
    pixels, labels = found(write(tmp_path / "b.csv", [[*r[1:], r[0]] for r in lines]),
                           label_column="65")  # fmt: skip
    assert (pixels == GREY[..., None]).all() and labels == ["0", "1", "2"] * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: [*row[:5], 256, *row[6:]], "line 3 is no picture of 64 whole numbers"),
        (lambda row: [*row[:5], -1, *row[6:]], "line 3 is no picture"),
        (lambda row: [*row[:5], 0.5, *row[6:]], "line 3 is no picture"),
        (lambda row: [*row[:5], "", *row[6:]], "line 3 is no picture"),
        (lambda row: [*row[:5], "nan", *row[6:]], "line 3 is no picture"),
        (lambda row: [*row[:5], "dark", *row[6:]], "line 3 is no picture"),
        (lambda row: ["", *row[1:]], "line 3 has no label"),
        (lambda row: row[:-1], "line 3 has 64 columns, the first row 65"),
    ],
)
def test_rows_that_are_no_pictures_say_where(change, words, tmp_path):
    lines = rows(GREY)
    lines[1] = change(lines[1])
    refused(write(tmp_path / "t.csv", lines, ["label", *names(64)]), words)


def test_which_column_is_the_label(tmp_path):
    lines = [[place, place % 2, *one.ravel()] for place, one in enumerate(GREY)]
    table = write(tmp_path / "t.csv", lines, ["id", "letter", *names(64)])
    refused(table, "id, letter beside them: which is the label?", "label_column=NAME")
    assert found(table, label_column="letter")[1] == ["0", "1"] * 6
    refused(table, "no column 'lettre'", "letter", label_column="lettre")


def test_a_table_without_rows(tmp_path):
    refused(write(tmp_path / "t.csv", [], ["label", *names(64)]), "has no rows")


@pytest.mark.parametrize("count", [10, 63, 65])
def test_other_tables_are_none_of_pixels(count, tmp_path):
    lines = [[label, *range(count)] for label in LABELS]
    refused(write(tmp_path / "t.csv", lines, ["label", *names(count)]), "path")


def test_a_table_of_pixels_is_trained_on_and_found_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.concatenate([GREY // 4, 255 - GREY // 4] * 3)
    write(tmp_path / "m.csv", rows(pixels, ["dark"] * 12 + ["light"] * 12 + ["dark"] * 12
                                   + ["light"] * 12 + ["dark"] * 12 + ["light"] * 12),
          ["label", *names(64)])  # fmt: skip
    words = "--model small --image-size 32 --epochs 1 --no-report --no-tensorboard --out run"
    assert main(["train", "m.csv", *words.split()]) == 0
    assert main(["eval", "run"]) == 0
    (tmp_path / "m.csv.gz").write_bytes(gzip.compress(b"x"))
    refused(tmp_path / "m.csv.gz", "")
