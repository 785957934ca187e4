"""Labels in a table: the same Store as class folders, or an error that says where and what."""

import csv
import io
import json
import shutil
import zipfile

import pandas
import pytest
from makers import TINY, class_folders, snapshot, tensors_sha256, write_image
from makers import refused_data as refused

import alexnet
from alexnet.cli import main
from alexnet.data.datasets import open_data, outline
from alexnet.data.finding import find_data, lasting, listed
from alexnet.data.handed import labelled
from alexnet.data.originals import original
from alexnet.data.reading import Reading, parted, title_of
from alexnet.errors import DataError

ROWS = [(f"{name}/{number}.png", name) for name in ("cat", "dog") for number in range(3)]


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "photos", {"cat": 3, "dog": 3})


def write(path, rows=ROWS, header=("path", "label"), **options):
    with open(path, "w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        csv.writer(file, **options).writerows([header, *rows] if header else rows)
    return path


def same(photos, *addresses):
    expected = open_data(photos, image_size=8)
    for address in addresses:
        found = open_data(address, image_size=8)
        assert found.fingerprint == expected.fingerprint
        assert found.info["sha256"] == expected.info["sha256"]
        assert found.classes == expected.classes


def test_every_kind_of_text_is_the_same_as_class_folders(photos, tmp_path):
    before = snapshot(photos)
    shuffled = [ROWS[place] for place in (3, 0, 5, 2, 4, 1)]
    (tmp_path / "t.jsonl").write_text(
        "\n".join(json.dumps({"label": label, "file": path}) for path, label in shuffled)
    )
    same(
        photos,
        *(
            labelled(table, images=photos)
            for table in (
                write(tmp_path / "a.csv"),
                write(tmp_path / "b.csv", shuffled, encoding="utf-8-sig"),
                write(tmp_path / "c.csv", shuffled, delimiter=";", quoting=csv.QUOTE_ALL),
                write(tmp_path / "d.tsv", delimiter="\t", encoding="utf-16"),
                write(tmp_path / "e.csv", header=None),
                write(tmp_path / "f.csv", [*ROWS, ROWS[0]]),
                write(tmp_path / "g.csv", [(f"./{path[:-4]}", label) for path, label in ROWS]),
                write(tmp_path / "h.csv", [(photos / path, label) for path, label in ROWS]),
                write(tmp_path / "i.csv", [(path.replace("/", "\\"), n) for path, n in ROWS]),
                tmp_path / "t.jsonl",
            )
        ),
    )
    assert snapshot(photos) == before


@pytest.mark.parametrize("header", [("path", "label"), None])
def test_whole_paths_lead_wherever_they_do(header, photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    whole = [(photos / path, label) for path, label in ROWS]
    same(photos, str(write(tmp_path / "elsewhere/t.csv", whole, header)))
    beside = write(tmp_path / "t.csv", whole, header)  # below which they are
    assert listed(find_data(str(beside))).examples[0].id == "photos/cat/0.png"
    write_image(tmp_path / "other/0.png")
    rows = [*whole, (tmp_path / "other/0.png", "dog")]
    source = listed(find_data(str(write(tmp_path / "elsewhere/u.csv", rows, header))))
    assert {one.id for one in source.examples} == {
        "other/0.png", *(f"photos/{path}" for path, _ in ROWS)
    }  # fmt: skip
    refused(write(tmp_path / "elsewhere/v.csv", [*whole, ("../t.png", "cat")], header), "leads out")
    copied = tmp_path / "copied"
    shutil.copytree(photos, copied / "a")
    both = [(path, photos / path, label) for path, label in ROWS]  # whence they were copied
    columns = header and ("path", "original", "label")
    asked = {} if header else {"label_column": "3"}
    for where, begin in (("a/t.csv", ""), ("t.csv", "a/")):
        table = labelled(write(copied / where, both, columns), **asked)
        assert listed(find_data(table)).examples[0].id == f"{begin}cat/0.png"
    named = labelled(table, path_column="original" if header else "2", **asked)
    assert open_data(named, image_size=8).fingerprint == open_data(photos, image_size=8).fingerprint


def test_parquet_is_the_same_as_class_folders(photos, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    paths, labels = zip(*ROWS, strict=True)
    table = pyarrow.table({"n": list(range(6)), "image": paths, "species": labels})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    same(photos, labelled(tmp_path / "t.parquet", images=photos))
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    refused(tmp_path / "t.parquet", "cannot be read as Parquet", images=photos)


def test_images_lie_in_an_archive(photos, tmp_path):
    shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    same(photos, labelled(write(tmp_path / "t.csv"), images=tmp_path / "photos.zip"))


@pytest.mark.parametrize("archive", [False, True])
def test_kaggle_s_table_beside_its_folders(archive, tmp_path):
    root = tmp_path / "kaggle"
    for number in range(6):
        write_image(root / f"train/{number}.png")
        write_image(root / f"test/{number + 6}.png")
    write(
        root / "trainLabels.csv", [(n, "frog" if n % 2 else "cat") for n in range(6)], ("id", "y")
    )
    write(root / "sampleSubmission.csv", [(n + 6, "cat") for n in range(6)], ("id", "y"))
    if archive:
        shutil.make_archive(str(root), "zip", tmp_path, "kaggle")
        root = tmp_path / "kaggle.zip"
    source = listed(find_data(str(root)))
    assert source.classes == ["cat", "frog"]
    assert [one.id for one in source.examples] == [f"train/{n}.png" for n in (0, 2, 4, 1, 3, 5)]
    assert {one.split for one in source.examples} == {"all"}
    assert "trainLabels.csv" in source.notes[0]
    if not archive:
        by_name = listed(find_data(str(root / "trainLabels.csv")))
        assert by_name.examples == source.examples


def test_a_table_for_each_split(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for number in range(count):
            write_image(tmp_path / f"d/{split}/{number}.png")
        rows = [(f"{number}.png", "ab"[number % 2]) for number in range(count)]
        write(tmp_path / f"d/{split}/metadata.csv", rows, ("file_name", "label"))
    source = listed(find_data(str(tmp_path / "d")))
    assert [(one.split, one.id) for one in source.examples] == [
        ("train", "train/0.png"), ("train", "train/2.png"), ("train", "train/1.png"),
        ("train", "train/3.png"), ("test", "test/0.png"), ("test", "test/1.png"),
    ]  # fmt: skip


def test_splits_stand_in_a_column(photos, tmp_path):
    parts = ("Train", "valid", "testing")
    rows = [(path, label, parts[int(path[-5])]) for path, label in ROWS]
    table = write(tmp_path / "t.csv", rows, ("file", "breed", "set"))
    source = listed(find_data(labelled(table, images=photos)))
    assert [one.split for one in source.examples] == ["train", "train", "val", "val"] + ["test"] * 2
    wrong = write(tmp_path / "u.csv", [*rows[:5], (*ROWS[5], "holdout")], ("file", "breed", "set"))
    refused(wrong, "line 7", "holdout", images=photos, split_column="set")


def test_columns_are_chosen_and_guesses_said(photos, tmp_path):
    rows = [(label, path, "x") for path, label in ROWS]
    table = write(tmp_path / "t.csv", rows, ("Art", "Bild", "colour"))
    refused(table, "holds the label", "label_column=NAME", "'colour'", images=photos)
    source = listed(find_data(labelled(table, images=photos, label_column="Art")))
    assert source.classes == ["cat", "dog"]
    assert "'Bild'" in source.notes[0]
    refused(table, "no column 'art'", "Did you mean 'Art'", images=photos, label_column="art")
    named = labelled(table, images=photos, label_column="Art", path_column="Bild")
    assert not listed(find_data(named)).notes


WRONG = {
    "an empty file": ("", ["is empty"]),
    "a header alone": ("path,label\n", ["no rows"]),
    "no such images": ("path,label\nx/0.png,cat\nx/1.png,dog\n", ["2 of 2", "line 2: x/0.png",
                                                                    "images=FOLDER"]),
    "a path that leads out": ("path,label\ncat/0.png,cat\n../t.csv,dog\n", ["line 3", "leads out"]),
    "a path elsewhere": ("path,label\ncat/0.png,cat\n/etc/hostname,dog\n", ["line 3", "leads out"]),
    "no path": ("path,label\ncat/0.png,cat\n,dog\n", ["line 3", "is no path"]),
    "no label": ("path,label\ncat/0.png,cat\ndog/0.png,\n", ["line 3", "dog/0.png", "no label"]),
    "labels that differ by a space": ("path,label\ncat/0.png,cat\ncat/1.png,cat \n",
                                      ["line 3", "'cat '", "line 2 'cat'", "spaces only"]),
    "two labels": ("path,label\ncat/0.png,cat\n./cat/0.png,dog\n", ["line 3", "'dog'", "line 2"]),
    "the header again": ("path,label\ncat/0.png,cat\npath,label\n", ["line 3", "repeats"]),
    "a column too many": ("path,label\ncat/0.png,a,b\n", ["line 2", "3 columns"]),
    "a quotation mark": ('path,label\ncat/0.png,"cat\ndog/0.png,dog\n', ["no row of a table"]),
    "a label that is a path": ("path,label\ncat/0.png,a/b\n", ["line 2", "cannot name a class"]),
    "two columns of a name": ("path,label,label\ncat/0.png,a,b\n", ["2 columns called 'label'"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_line(name, photos, tmp_path):
    text, words = WRONG[name]
    (tmp_path / "t.csv").write_text(text)
    column = {"label_column": "label"} if "columns of" in name else {}
    before = snapshot(tmp_path)
    refused(tmp_path / "t.csv", *words, images=photos, **column)
    assert snapshot(tmp_path) == before


def test_other_wrong_files(photos, tmp_path):
    (tmp_path / "a.csv").write_bytes(
        "path,label\ncat/0.png,chat\ncat/1.png,bébé\n".encode("cp1252")
    )
    refused(tmp_path / "a.csv", "line 3 is not UTF-8", "iconv", images=photos)
    (tmp_path / "b.jsonl").write_text('{"path": "cat/0.png", "label": "a"}\n[1]\n')
    refused(tmp_path / "b.jsonl", "line 2 is no JSON object", images=photos)
    refused(write(tmp_path / "c.csv"), "nothing at", images=tmp_path / "absent")
    refused(photos, "is no table", label_column="label")
    (tmp_path / "d.csv").write_bytes(b'path,label\n"' + b"x" * 200_000 + b'",cat\n')
    refused(tmp_path / "d.csv", "field larger", images=photos)


def test_quoted_newlines_are_one_value(photos, tmp_path):
    (tmp_path / "t.csv").write_text('path,note,label\ncat/0.png,"one\ntwo",a\ndog/0.png,,\n')
    refused(tmp_path / "t.csv", "line 4", "no label", images=photos)


def test_some_missing_files_are_bad_images(photos, tmp_path):
    table = write(tmp_path / "t.csv", [*ROWS, ("cat/9.png", "cat")])
    source = listed(find_data(labelled(table, images=photos)))
    assert "1 of 7 images" in source.notes[-1] and "line 8: cat/9.png" in source.notes[-1]
    with pytest.raises(DataError, match=r"cat/9\.png"):
        open_data(labelled(table, images=photos), image_size=8)
    found = open_data(labelled(table, images=photos), image_size=8, bad_images="skip")
    assert len(found) == 6
    write_image(photos / "cat/9.png")
    assert len(open_data(labelled(table, images=photos), image_size=8)) == 7  # found anew


def test_a_changed_table_or_image_is_noticed(photos, tmp_path):
    address = labelled(write(tmp_path / "t.csv"), images=photos)
    first = open_data(address, image_size=8)
    assert open_data(address, image_size=8).path == first.path
    write(tmp_path / "t.csv", [(path, "dog" if path == "cat/0.png" else n) for path, n in ROWS])
    second = open_data(address, image_size=8)
    assert second.y.tolist() == [0, 0, 1, 1, 1, 1] and second.fingerprint != first.fingerprint


def test_an_address_says_how_it_is_read(tmp_path):
    address = labelled("a b.csv", images="x/y?", label_column="Größe & Art")
    assert parted(address) == ("a b.csv", Reading(images="x/y?", label_column="Größe & Art"))
    assert labelled(address, split_column="s") == f"{address}&split-column=s"
    assert title_of(address) == "a b.csv" and title_of("photos/*/*") == "photos"
    assert parted("what?.csv") == ("what?.csv", Reading())
    (tmp_path / "odd?group=1").mkdir()
    assert parted(tmp_path / "odd?group=1") == (str(tmp_path / "odd?group=1"), Reading())


def test_an_address_lasts(photos, tmp_path, monkeypatch):
    write(tmp_path / "t.csv")
    monkeypatch.chdir(tmp_path)
    kept = lasting(labelled("t.csv", images="photos"))
    monkeypatch.chdir("/")
    assert outline(kept) == (6, ["cat", "dog"], False)
    assert original(kept, "cat/1.png") == photos / "cat/1.png"
    assert lasting("digits") == "digits"


@pytest.mark.slow
def test_a_table_goes_through_every_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "photos", {"cat": 10, "dog": 10})
    rows = [(f"{name}/{n}.png", name) for name in ("cat", "dog") for n in range(10)]
    write(tmp_path / "t.csv", rows, ("file", "animal"))
    flags = ["--images", "photos", "--label-column", "animal"]
    run = alexnet.train(labelled("t.csv", images="photos", label_column="animal"), TINY, out="run")
    other = alexnet.train("photos", TINY, out="other")
    assert tensors_sha256(run / "best.safetensors") == tensors_sha256(other / "best.safetensors")
    assert main(["data", "check", "t.csv", *flags]) in (0, 1)
    assert main(["data", "prepare", "t.csv", *flags]) == 0
    assert main(["eval", "run"]) == 0
    assert main(["eval", "run", "t.csv", *flags, "--split", "all"]) == 0
    assert main(["predict", "run", "photos/cat/0.png"]) == 0
    assert main(["report", "run"]) == 0
    capsys.readouterr()
    write(
        tmp_path / "t.csv",
        [(p, "dog" if p == "cat/0.png" else n) for p, n in rows],
        ("file", "animal"),
    )
    assert main(["eval", "run"]) == 2
    assert "another label" in capsys.readouterr().err


def test_a_zip_of_images_and_their_table(photos, tmp_path):
    text = io.StringIO()
    csv.writer(text).writerows([("file", "label"), *((p.replace("/", "_"), n) for p, n in ROWS)])
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for path, _ in ROWS:
            archive.write(photos / path, path.replace("/", "_"))
        archive.writestr("labels.csv", text.getvalue())
    source = listed(find_data(str(tmp_path / "z.zip")))
    assert source.classes == ["cat", "dog"] and len(source.examples) == 6


# -- tables beside folders


@pytest.fixture
def parts(tmp_path):
    """Pictures in two folders that say nothing, and a table beside them, as HAM10000 has them."""
    plain = class_folders(tmp_path / "plain", {"cat": 3, "dog": 3})
    for place, (path, _) in enumerate(ROWS):
        target = tmp_path / "ham" / f"images_part_{1 + place % 2}"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(plain / path, target / f"{path.replace('/', '-')}")
    return tmp_path / "ham"


def test_folders_that_a_table_contradicts_can_be_read_in_two_ways(parts, capsys):
    rows = [(f"HAM_{n}", path.replace("/", "-")[:-4], label, "70", "male")
            for n, (path, label) in enumerate(ROWS)]  # fmt: skip
    table = write(parts / "meta.csv", rows, ("lesion_id", "image_id", "dx", "age", "sex"))
    refused(parts, "can be read in two ways", "the labels cat, dog", "images_part_1, images_part_2",
            str(table), f"'{parts}/*'")  # fmt: skip
    found = open_data(table, image_size=8)
    assert found.classes == ["cat", "dog"] and sorted(found.y) == [0, 0, 0, 1, 1, 1]
    assert "begin in images_part_1/ or images_part_2/" in capsys.readouterr().err
    assert listed(find_data(f"{parts}/*")).classes == ["images_part_1", "images_part_2"]
    shutil.copy(parts / "images_part_1" / "cat-0.png", parts / "images_part_2")
    refused(table, "cat-0 in a table may be images_part_1/cat-0.png, images_part_2/cat-0.png")


def test_pictures_that_a_table_misses_are_not_sought_among_others(photos, tmp_path, capsys):
    for folder in ("train", "test"):
        (tmp_path / "kaggle" / folder).mkdir(parents=True)
        for number in range(5):
            shutil.copy(photos / "cat" / "0.png", tmp_path / "kaggle" / folder / f"{number}.png")
    rows = [(f"{n}.png", ("cat", "dog")[n % 2]) for n in range(6)]  # 5.png is nowhere
    table = write(tmp_path / "kaggle" / "train.csv", rows, ("id", "label"))
    source = listed(find_data(str(table)))
    assert source.examples.ids[0] == "train/0.png"
    assert any("1 of 6 images" in note and "are not there" in note for note in source.notes)


@pytest.mark.parametrize(
    "label",
    [str, str.upper, lambda name: {"007": "7"}.get(name, name),
     lambda name: {"007": "a spy", "dog": "a hound"}[name]],
)  # fmt: skip
def test_a_table_that_agrees_with_the_folders_changes_nothing(label, tmp_path):
    photos = class_folders(tmp_path / "photos", {"007": 3, "dog": 3})
    before = listed(find_data(photos)).classes
    rows = [(f"{name}/{n}.png", label(name)) for name in ("007", "dog") for n in range(3)]
    write(photos / "labels.csv", rows)
    assert listed(find_data(photos)).classes == before == ["007", "dog"]


def test_a_table_that_names_the_images_without_labels_is_said(photos):
    write(photos / "sizes.csv", [(path, 12, 12) for path, _ in ROWS], ("path", "width", "height"))
    found = listed(find_data(photos))
    assert found.classes == ["cat", "dog"]
    assert any(told.startswith("sizes.csv, which names these images") for told in found.left_out)


def test_images_that_a_table_does_not_name_are_said(photos, tmp_path):
    for folder in ("train", "test"):
        (tmp_path / "kaggle" / folder).mkdir(parents=True)
        for number in range(3):
            source = photos / ("dog" if number else "cat") / f"{number}.png"
            shutil.copy(source, tmp_path / "kaggle" / folder / f"{number}.png")
    rows = [(f"{n}.png", "dog" if n else "cat") for n in range(3)]
    write(tmp_path / "kaggle" / "Training_set.csv", rows, ("filename", "label"))
    found = listed(find_data(tmp_path / "kaggle"))
    assert found.examples.ids[0].startswith("train/")
    assert "3 images that Training_set.csv does not name" in found.left_out


@pytest.mark.parametrize("given", ["", "train.csv"])
def test_images_may_lie_in_a_folder_of_the_same_name_once_more(given, photos, tmp_path):
    inner = tmp_path / "kaggle" / "train" / "train"
    inner.mkdir(parents=True)
    for path, _ in ROWS:
        shutil.copy(photos / path, inner / path.replace("/", "-"))
    rows = [(path.replace("/", "-"), label) for path, label in ROWS]
    write(tmp_path / "kaggle" / "train.csv", rows, ("id", "has_cactus"))
    assert listed(find_data(tmp_path / "kaggle" / given)).classes == ["cat", "dog"]


def test_a_table_of_blank_rows_is_refused(photos):
    refused(write(photos / "t.csv", [("",)] * 3), "no rows but blank ones")


def test_labels_of_several_others_are_said(photos):
    rows = [*ROWS[:-1], (ROWS[-1][0], "cat dog")]
    notes = listed(find_data(write(photos / "t.csv", rows))).notes
    assert any("1 labels put others together (cat dog)" in note for note in notes)


# -- a column for each class


def marked(rows, names=("cat", "dog"), one="1", none="0"):
    return [(path, *(one if name == label else none for name in names)) for path, label in rows]


@pytest.mark.parametrize(("one", "none"), [("1", "0"), ("1.0", "0.0"), ("True", "False")])
def test_a_column_for_each_class(one, none, photos, tmp_path, capsys):
    header = ("image", "cat", "UNK", "dog", "age")
    rows = [(path, *(one if name == label else none for name in ("cat", "UNK", "dog")), 7 + n)
            for n, (path, label) in enumerate(ROWS)]  # fmt: skip
    table = write(photos / "truth.csv", rows, header)
    same(photos, table)
    assert "the label of an image is which of UNK, cat, dog is 1" in capsys.readouterr().err
    same(photos, labelled(pandas.read_csv(table), images=photos))


def test_a_folder_with_such_a_table(tmp_path):
    plain = class_folders(tmp_path / "plain", {"cat": 3, "dog": 3})
    mixed = tmp_path / "kaggle"
    (mixed / "images").mkdir(parents=True)
    rows = [(path.replace("/", "-")[:-4], label) for path, label in ROWS]
    for (path, _), (flat, _) in zip(ROWS, rows, strict=True):
        shutil.copy(plain / path, mixed / "images" / f"{flat}.png")
    write(mixed / "train.csv", marked(rows), ("image_id", "cat", "dog"))
    write(mixed / "test.csv", [["Test_0"]], ["image_id"])
    found = open_data(mixed, image_size=8)
    assert found.classes == ["cat", "dog"] and [*found.y] == [0, 0, 0, 1, 1, 1]


def test_rows_that_mark_several_classes_or_none(photos):
    header, rows = ("path", "cat", "dog"), marked(ROWS)
    several = [*rows[:-1], (ROWS[-1][0], "1", "1")]
    refused(write(photos / "t.csv", several, header), "t.csv marks images by 0 and 1 in cat, dog")
    many = rows[:1] * 60
    late = [*many, *rows, (ROWS[-1][0], "1", "1")]
    refused(write(photos / "t.csv", late, header), "t.csv, line 68 (dog/2.png) marks 2 classes")
    late = [*many, *rows, (ROWS[-1][0], "0", "0")]
    refused(write(photos / "t.csv", late, header), "t.csv, line 68 (dog/2.png) has no label")
    late = [*many, *rows, (ROWS[-1][0], "0.5", "0")]
    refused(write(photos / "t.csv", late, header), "line 68", "has '0.5' in the column 'cat'")
    refused(write(photos / "t.csv", rows, None), "does not show which column holds the label")


def test_one_of_the_columns_may_be_named(photos):
    table = write(photos / "t.csv", marked(ROWS), ("path", "cat", "dog"))
    store = open_data(labelled(table, label_column="cat"), image_size=8)
    assert store.classes == ["0", "1"]
