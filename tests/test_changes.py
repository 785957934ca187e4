"""A table of changes: other labels and images left out, without a picture being touched."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
from makers import TINY, class_folders, snapshot

import alexnet
from alexnet.cli import main
from alexnet.data.changes import COLUMNS, OTHER, REMOVE, RIGHT, UNSURE, Change, told, write_changes
from alexnet.data.datasets import open_data, outline
from alexnet.data.finding import look_at
from alexnet.data.handed import labelled
from alexnet.data.splits import make_splits
from alexnet.errors import DataError
from alexnet.runs.own_data import label_changes

CHANGES = [
    Change("cat/0.png", "dog", OTHER, "cat"),
    Change("cat/1.png", "", REMOVE, "cat"),
    Change("dog/0.png", "dog", RIGHT, "dog"),
    Change("dog/1.png", "", UNSURE, "dog"),
]


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "photos", {"cat": 12, "dog": 12})


@pytest.fixture
def table(tmp_path):
    write_changes(tmp_path / "changes.csv", CHANGES)
    return tmp_path / "changes.csv"


def packed(data, table=""):
    return open_data(labelled(data, labels=table), image_size=8)


def labels(store):
    return {one: store.classes[label] for one, label in zip(store.ids, store.y, strict=True)}


def refused(data, table, *words):
    for look in (lambda: look_at(labelled(data, labels=table)), lambda: packed(data, table)):
        with pytest.raises(DataError) as caught:
            look()
        for word in words:
            assert word in str(caught.value), str(caught.value)
        assert caught.value.hint


def test_labels_are_changed_and_images_left_out(photos, table):
    before, files = packed(photos), snapshot(photos)
    after = packed(photos, table)
    expected = labels(before)
    del expected["cat/1.png"]
    assert labels(after) == expected | {"cat/0.png": "dog"}
    assert after.fingerprint != before.fingerprint
    assert label_changes(after, np.array([after.ids.index("cat/0.png")])) == {
        "label_changes": {"table": "changes.csv", "changed": 1, "left_out": 1, "evaluated": 1}
    }
    assert label_changes(before, np.arange(3)) == {}
    assert snapshot(photos) == files
    assert outline(labelled(photos, labels=table))[0] == 23
    row = after.ids.index("cat/0.png")
    assert (after.x[row] == before.x[before.ids.index("cat/0.png")]).all()


def test_labels_may_be_readable_names(photos, tmp_path):
    (photos / "words.txt").write_text("cat\thouse cat\ndog\thound\n")
    write_changes(tmp_path / "changes.csv", [Change("cat/0.png", "hound")])
    assert labels(packed(photos, tmp_path / "changes.csv"))["cat/0.png"] == "dog"


def test_an_image_keeps_its_split_whatever_its_label(photos, tmp_path):
    def splits(store):
        found = make_splits(store, val_size=0.25, test_size=0.25, fraction=1.0, seed=3)
        parts = {"train": found.train, "val": found.val, "test": found.test}
        return {store.ids[row]: name for name, rows in parts.items() for row in rows}

    before = splits(packed(photos))
    for name in list(before)[::6]:
        other = "dog" if name.startswith("cat") else "cat"
        write_changes(tmp_path / "one.csv", [Change(name, other)])
        store = packed(photos, tmp_path / "one.csv")
        assert labels(store)[name] == other
        assert splits(store) == before
    write_changes(tmp_path / "one.csv", [Change("cat/3.png", answer=REMOVE)])
    after = splits(packed(photos, tmp_path / "one.csv"))
    assert sum(after[one] != before[one] for one in after) <= 2


def test_a_changed_table_is_noticed(photos, table):
    first = packed(photos, table)
    assert packed(photos, table).path == first.path
    write_changes(table, CHANGES[:1])
    assert len(packed(photos, table)) == 24


@pytest.mark.parametrize("kind", ["zip", "table", "python"])
def test_every_kind_of_data_takes_one(kind, photos, table, tmp_path):
    expected = labels(packed(photos, table))
    data = photos
    if kind == "zip":
        data = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    elif kind == "table":
        data = tmp_path / "labels.csv"
        with open(data, "w", newline="") as file:
            rows = [(f"{c}/{n}.png", c) for c in ("cat", "dog") for n in range(12)]
            csv.writer(file).writerows([("path", "label"), *rows])
        write_changes(table, [one._replace(path=f"photos/{one.path}") for one in CHANGES])
        expected = {f"photos/{name}": label for name, label in expected.items()}
    else:
        files = sorted(photos.glob("*/*.png"), key=lambda one: (one.parent.name, one.name))
        data = ([str(one) for one in files], [one.parent.name for one in files])
        write_changes(table, [Change("00", "dog"), Change("01", answer=REMOVE)])
        expected = {f"{n:02}": "cat" if 1 < n < 12 else "dog" for n in range(24) if n != 1}
    assert labels(packed(data, table)) == expected


def test_names_that_spreadsheets_would_take_for_formulas(tmp_path):
    photos = class_folders(tmp_path / "photos", {"=a": 3, "b": 3})
    write_changes(tmp_path / "c.csv", [Change("=a/0.png", "b"), Change("b/0.png", "=a")])
    assert (tmp_path / "c.csv").read_text().splitlines()[1].startswith("'=a/0.png,b")
    found = labels(packed(photos, tmp_path / "c.csv"))
    assert (found["=a/0.png"], found["b/0.png"]) == ("b", "=a")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "'path'"),
        ("file,label\nx,cat\n", "'path'"),
        ("path,label\ncat/0.png\n", "line 2"),
        ("path,label\ncat/0.png,cow\n", "'cow'"),
        ("path,label\ncat/0.png,\n", "no label"),
        ("path,label\n,cat\n", "no path"),
        ("path,label,answer\ncat/0.png,dog,maybe\n", "'maybe'"),
        ("path,label\ncat/0.png,dog\ncat/0.png,cat\n", "line 3"),
        ("path,label\nother/0.png,dog\n", "none of the 1"),
        ('path,label\n"cat/0.png,dog\n', "line"),
        ("path,label\n\xff,dog\n", "UTF-8"),
    ],
)
def test_what_is_no_table_of_changes_is_refused(text, word, photos, tmp_path):
    path = tmp_path / "changes.csv"
    path.write_bytes(text.encode("latin-1"))
    refused(photos, path, "changes.csv", word)


def test_tables_that_do_not_fit(photos, table, tmp_path, capsys):
    refused(photos, tmp_path / "none.csv", "no table")
    refused(photos, photos / "cat" / "0.png", "is no table")
    write_changes(table, [Change(f"cat/{n}.png", "dog") for n in range(12)])
    refused(photos, table, "no image of cat")
    refused(packed(photos).path, table, "a Store")
    write_changes(table, [CHANGES[0], Change("cat/99.png", "dog")])
    packed(photos, table)
    assert "1 images of changes.csv are not there any more" in capsys.readouterr().err


def test_a_picture_that_has_changed_since_is_an_error(photos, table):
    content = (photos / "cat/0.png").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()[:16]
    write_changes(table, [CHANGES[0]._replace(sha256=sha256)])
    assert labels(packed(photos, table))["cat/0.png"] == "dog"
    shutil.copy(photos / "dog/5.png", photos / "cat/0.png")
    with pytest.raises(DataError, match=r"cat/0.png has changed .*line 2"):
        packed(photos, table)


def test_what_is_told():
    assert told("c.csv", 7, 2, 0) == "7 labels changed and 2 pictures left out by c.csv"
    assert told("c.csv", 1, 1, 3).startswith("1 label changed and 1 picture left out by c.csv; of")


@pytest.mark.slow
def test_a_run_says_what_came_from_a_table(photos, table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    alexnet.train(labelled("photos", labels="changes.csv"), TINY, out="run")
    words = "1 label changed and 1 picture left out by changes.csv"
    assert words in capsys.readouterr().err
    figures = json.loads((tmp_path / "run/metrics.json").read_text())["label_changes"]
    assert (figures["changed"], figures["left_out"]) == (1, 1)
    assert words in alexnet.report(tmp_path / "run").read_text()
    monkeypatch.chdir(photos)
    assert alexnet.evaluate(tmp_path / "run", split="all")["n"] == 23
    (tmp_path / "changes.csv").write_text(",".join(COLUMNS) + "\ncat/0.png,cow\n")
    assert main(["train", str(photos), "--labels", str(table)]) == 2
