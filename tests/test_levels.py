"""Folders are splits, classes or wrappers by what they hold; two readings are shown, both."""

import os
import tarfile
import zipfile
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import (
    cifar_files,
    class_folders,
    run_directory,
    snapshot,
    store_of,
    tarred,
    tiny_imagenet,
    write_files,
    write_image,
    zipped,
)

from alexnet.classification.predict import Copies
from alexnet.cli import main
from alexnet.data.datasets import open_data
from alexnet.data.finding import find_data, read_source
from alexnet.data.levels import split_word
from alexnet.data.splits import make_splits
from alexnet.data.trees import mark_output, source_state
from alexnet.errors import DataError, DiskError
from alexnet.marks import OUTPUT


@pytest.fixture(params=["folder", "zip"])
def form(request):
    """Makes of a folder what the parameter says."""
    return lambda root: (
        root if request.param == "folder" else zipped(root.with_suffix(".zip"), root)
    )


def counted(path):
    source = read_source(path)
    return Counter((one.split, source.classes[one.label]) for one in source.examples)


def refused(path, *patterns):
    """The DataError of reading it; its text holds all patterns."""
    with pytest.raises(DataError) as caught:
        read_source(path)
    for pattern in patterns:
        assert pattern in str(caught.value)
    return caught.value


def both(train, held_out, held_out_split="test"):
    """The counts of a data set of two classes and two splits."""
    return {
        ("train", "a"): train, ("train", "b"): train,
        (held_out_split, "a"): held_out, (held_out_split, "b"): held_out,
    }  # fmt: skip


# -- what worked keeps its fingerprint

FINGERPRINTS = {
    "classes": "3662eb0a91c07a06d116d50179a55378713d50ec88c2adc6bf4df39f17916e91",
    "deeper": "23e913773aa884dd80cd98b0473683d8707afe11c41d961e8a7ab76911adc3a5",
    "wrapped": "b1d1c269e1ac8a6d7241e77f4448aacc43774c52944c250df4790ab2f64da4bc",
    "splits": "8aeb9d5b26f37e83d366bc0e2797ec5086d9a4125561ee34063983d79e121e70",
    "words": "3bd259ddbc959d19113144f5bcf8129794d268598d41ca6ae865fbf90a6168c5",
    "tiny": "49c4a67ac173a2cf35663209113178a89ae070a3c6690ca5eb3b04c08a53f8dc",
    "leftovers": "744d58d35aad3cf6c0cccacde9d637bf1a6a1ee6d7643190b36ebbf4021314fb",
    "cifar": "b28e2f860e4f765522f15970d5793018fe9284cdd07c084529990b10fdb5f2df",
    "unicode": "dd7fbec291e5adc07563c88bdcec66d73d52289dfe26059837f5a3aff8bd3eee",
}
FOLDERS = {
    "classes": {"cat": 3, "dog": 2},
    "deeper": {"cat/indoors/old": 2, "cat": 1, "dog/x": 1},
    "wrapped": {"pets/cat": 3, "pets/dog": 2},
    "splits": {
        "train/cat": 3, "train/dog": 2, "val/cat": 1, "val/dog": 1, "test/cat": 1, "test/dog": 2,
    },
    "words": {"Training/cat": 3, "Training/dog": 2, "TEST/cat": 1},
    "leftovers": {"train/cat": 2, "train/dog": 1, "val/cat": 1, "extra/bird": 3},
    "unicode": {"cat": 3, "dog": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprints_of_release_0_1_0(name, form, tmp_path):
    """Computed with that release. A change here makes every run of such data believe that its data
    is another."""
    root = tmp_path / "d"
    if name == "tiny":
        tiny_imagenet(root / "tiny-imagenet-200")
    elif name == "cifar":
        write_files(root, cifar_files()[0])
    else:
        class_folders(root, FOLDERS[name])
    if name == "leftovers":
        write_image(root / "train/stray.png")
    if name == "unicode":  # as a Mac writes names
        (root / "cat/0.png").rename(root / "cat/e\u0301t\u00e9.png")
        (root / "dog").rename(root / "hu\u0308nd")
    assert open_data(form(root), image_size=64).fingerprint == FINGERPRINTS[name]


def test_fingerprints_of_digits_and_of_a_tar_of_release_0_1_0(tmp_path):
    path = tarred(tmp_path / "c.tar.gz", cifar_files()[0])
    assert open_data(path, image_size=64).fingerprint == FINGERPRINTS["cifar"]
    digits = "b3f94368198c8781aa2f098d748c596516c0a78cb87f223d8cb50daed2e5da53"
    assert open_data("digits", image_size=64).fingerprint == digits


# -- splits


@pytest.mark.parametrize(
    "train, held_out, split",
    [
        ("training_set/training_set", "test_set/test_set", "test"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("Train Data", "Test Data", "test"),
        ("train_images", "dev", "val"),
        ("TRAINING", "Validation Set", "val"),
        ("trainset", "testset", "test"),
        ("TrainImages", "EvalImages", "val"),
        ("train/train", "eval", "val"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_val", "val"),
        ("train2017", "val2017", "val"),
        ("train", "testing", "test"),
    ],
)
def test_splits_under_many_names(train, held_out, split, form, tmp_path):
    folders = {f"{where}/{name}": n for where, n in ((train, 2), (held_out, 1)) for name in "ab"}
    path = form(class_folders(tmp_path / "d", folders))
    assert counted(path) == both(2, 1, split)
    assert read_source(path).left_out == []


@pytest.mark.parametrize(
    "name, expected",
    [
        ("train", ("train", ())),
        ("a_test", ("test", ("a",))),
        ("contest", ("", ())),
        ("train_test", ("", ())),
        ("Trainer", ("", ())),
        ("valley", ("", ())),
        ("1. Training images (new)", ("train", ("new",))),
        ("火车", ("", ())),
    ],
)
def test_words_of_splits(name, expected):
    assert split_word(name) == expected


@pytest.mark.parametrize(
    "folders",
    [
        {"bicycle": 2, "bus": 1, "car": 2, "train": 2},
        {"pass": 2, "test": 1},
        {"train_station": 2, "church": 1},
    ],
)
def test_a_class_may_be_called_like_a_split(folders, form, tmp_path):
    path = form(class_folders(tmp_path / "d", folders))
    assert counted(path) == {("all", name): count for name, count in folders.items()}


@pytest.mark.parametrize(
    "unlabelled", ["test", "test/unknown", "test/images", "test/test", "test1", "test_images/all"]
)
def test_images_without_labels_are_left_out_and_told(unlabelled, form, tmp_path):
    path = form(class_folders(tmp_path / "d", {"train/a": 1, "train/b": 1, unlabelled: 3}))
    assert counted(path) == {("train", "a"): 1, ("train", "b"): 1}
    name = unlabelled.split("/")[0]
    assert read_source(path).left_out == [f"3 images without labels in {name}/"]


def test_folders_beside_the_classes_of_a_held_out_split(form, tmp_path):
    """An empty images/ says nothing; what is left in it is told, and so is an empty class."""
    folders = {f"train/{name}": 2 for name in "abc"} | {"val/a": 1, "val/b": 1, "val/c": 0}
    root = class_folders(tmp_path / "d", folders | {"val/images": 0})
    assert counted(root) == both(2, 1, "val") | {("train", "c"): 2}
    assert read_source(root).left_out == ["class folders of val/ without images: c"]
    write_image(root / "val/images/left.png")
    assert read_source(form(root)).left_out == [
        "1 images without labels in val/images/",
        "class folders of val/ without images: c",
    ]


def test_an_unknown_class_that_train_has_is_a_class(form, tmp_path):
    folders = {"train/cat": 1, "train/unknown": 1, "test/unknown": 2}
    assert counted(form(class_folders(tmp_path / "d", folders)))["test", "unknown"] == 2


def test_messages_call_a_split_by_its_name(form, tmp_path):
    root = class_folders(tmp_path / "d", {"training/a": 1, "training/b": 1, "valid/c": 1})
    (root / "wnids.txt").write_text("a\nb\n")
    refused(form(root), "valid has classes that training does not have: c")


@pytest.mark.parametrize(
    "train, val, words",
    [
        ("cat", "Cat", "'Cat' (not 'cat')"),
        ("cat", "cat ", "'cat ' (not 'cat')"),
        ("ﬁsh", "fish", "'fish' (not '\\ufb01sh')"),
    ],
)
def test_class_names_that_look_alike_are_shown(train, val, words, form, tmp_path):
    folders = {f"train/{train}": 1, "train/dog": 1, f"val/{val}": 1}
    refused(form(class_folders(tmp_path / "d", folders)), words)


def test_forms_of_unicode_are_one_class_across_splits(form, tmp_path):
    folders = {"train/caf\u00e9": 2, "train/dog": 1, "val/cafe\u0301": 1}
    path = form(class_folders(tmp_path / "d", folders))
    assert counted(path)["val", "caf\u00e9"] == 1
    assert read_source(path).notes == ["val: the folder 'cafe\\u0301' is the class 'caf\\xe9'"]


def test_classes_that_look_alike_are_told(form, tmp_path):
    [note] = read_source(form(class_folders(tmp_path / "d", {"cat": 1, "Cat": 1}))).notes
    assert "'Cat' and 'cat'" in note


# -- wrappers


@pytest.mark.parametrize("top", ["x/x/", "dataset/", "a/b/c/"])
@pytest.mark.parametrize("beside", ["README.md", "labels.csv", "data.tar.gz", "cover.png"])
def test_a_file_beside_the_folder_of_everything(top, beside, form, tmp_path):
    root = class_folders(tmp_path / "d", {f"{top}a": 2, f"{top}b": 1})
    (root / beside).write_bytes(b"x")
    path = form(root)
    assert counted(path) == {("all", "a"): 2, ("all", "b"): 1}
    assert read_source(path).left_out == [f"files beside {top.split('/')[0]}/: {beside}"]


def test_cifar_10_beside_its_archive(tmp_path):
    write_files(tmp_path / "d/cifar-10-batches-bin", cifar_files()[0])
    (tmp_path / "d/cifar-10-binary.tar.gz").write_bytes(b"x")
    source = read_source(tmp_path / "d")
    assert source.layout == "cifar-10"
    assert source.left_out == ["files beside cifar-10-batches-bin/: cifar-10-binary.tar.gz"]


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "System Volume Information", "lost+found", "__pycache__", "$RECYCLE.BIN",
     ".ipynb_checkpoints", "__MACOSX", "#recycle"],
)  # fmt: skip
def test_leftovers_of_systems_are_no_classes(name, form, tmp_path):
    root = class_folders(tmp_path / "d", {"a": 1, "b": 1, f"{name}/a": 1, f"b/{name}": 1})
    assert counted(form(root)) == {("all", "a"): 1, ("all", "b"): 1}


# -- two readings


FOLDS = {f"fold{n}/{name}": 2 for n in (1, 2, 3) for name in "ab"}


@pytest.mark.parametrize(
    "folders, words",
    [
        (FOLDS, ["fold1, fold2, fold3", "a, b in several parts"]),
        ({f"data/{one}": 1 for one in FOLDS}, ["fold1, fold2, fold3", "a, b in several parts"]),
        ({f"train/{one}": 1 for one in FOLDS}, ["fold1, fold2, fold3"]),
        ({"cat/in": 1, "cat/out": 1, "dog/in": 1, "dog/out": 1}, ["cat, dog", "in, out"]),
        ({f"{x}/{y}/a": 1 for x in "xy" for y in ("train", "test")}, ["with their splits"]),
        ({"cat/train": 1, "cat/test": 1, "dog/train": 1, "dog/test": 1}, ["train/cat/..."]),
        ({"a": 1, "b": 1, "copy/a": 1, "copy/b": 1}, ["a second copy", "copy"]),
        ({"bus": 1, "car": 1, "train/steam": 1, "train/diesel": 1}, ["diesel, steam", "bus, car"]),
        ({"val/a": 1, "val/b": 1, "dev/a": 1, "dev/b": 1}, ["two folders for val: dev, val"]),
    ],
)  # fmt: skip
def test_two_readings_are_an_error_that_shows_both(folders, words, form, tmp_path):
    error = refused(form(class_folders(tmp_path / "d", folders)), *words)
    assert str(tmp_path / "d") in error.hint or "Rename" in error.hint


@pytest.mark.parametrize(
    "folders",
    [
        {"apple/healthy": 2, "apple/rust": 1, "corn/healthy": 1, "corn/blight": 1},
        {"cat/images": 2, "dog/images": 1},
        {"cat/cat": 2, "dog/dog": 1},
        {"cat/1": 2, "dog/2": 1},
    ],
)
def test_folders_inside_classes_are_part_of_them(folders, form, tmp_path):
    found = counted(form(class_folders(tmp_path / "d", folders)))
    assert {name for _, name in found} == {one.split("/")[0] for one in folders}
    assert found.total() == sum(folders.values())


@pytest.mark.parametrize("top", ["", "wrapper/"])
def test_a_path_chooses_the_reading(top, form, tmp_path):
    path = form(class_folders(tmp_path / "d", {top + one: count for one, count in FOLDS.items()}))
    hint = refused(path, "in two ways").hint
    folds, names = [one.strip("'").removesuffix("/*") for one in hint.split("'") if "/*" in one]
    for pattern, expected in (
        (f"{folds}/*", {("all", f"fold{n}"): 4 for n in (1, 2, 3)}),
        (f"{names}/*", {("all", "a"): 6, ("all", "b"): 6}),
    ):
        where = find_data(pattern)
        assert counted(where) == expected
        assert source_state(where) != source_state(path)
    if path.is_dir():
        assert counted(find_data(f"{path}/{top}fold2")) == {("all", "a"): 2, ("all", "b"): 2}
    store = open_data(f"{names}/*", image_size=8)
    assert open_data(f"{names}/*", image_size=8).path == store.path


def test_a_path_too_deep_says_so(tmp_path):
    root = class_folders(tmp_path / "d", {"a": 1, "b": 1})
    with pytest.raises(DataError, match="no folders with images 3 levels down"):
        read_source(root / "*/*/*")
    with pytest.raises(DataError, match="there is nothing at"):
        find_data(f"{tmp_path}/nothing/*")


# -- our own output


def outputs(root):
    """Everything that this package leaves behind, below a data folder."""
    run = run_directory(root / "runs/photos")
    class_folders(run, {"pictures": 1})
    (root / "sweeps/one").mkdir(parents=True)
    (root / "sweeps/one/sweep.json").write_text("{}")
    (root / "sweeps/one/results.csv").write_text("x")
    store_of(root, {"all": [0, 1]}).path.rename(root / "packed")
    write_image(root / "packed/0.png")
    copies = Copies(root / "sorted", ["a", "b"])
    copies.add(root / "a/0.png", 1)
    copies.add(root / "a/0.png", 0)
    mark_output(root / "sheets", "contact sheets")
    write_image(root / "sheets/sheet-001.jpg")


def test_what_this_package_wrote_is_left_out_and_told(form, tmp_path):
    root = class_folders(tmp_path / "d", {"a": 2, "b": 1})
    before = source_state(root)[0]
    outputs(root)
    assert source_state(root)[0] == before
    path = form(root)
    assert counted(path) == {("all", "a"): 2, ("all", "b"): 1}
    [told] = read_source(path).left_out
    for one in ("runs/photos (a run)", "sweeps/one (a sweep)", "packed (a Store)", "sorted ("):
        assert one in told


def test_what_this_package_wrote_may_be_given_itself(form, tmp_path):
    root = class_folders(tmp_path / "d", {"a": 2, "b": 1})
    outputs(root)
    assert counted(root / "sorted") == {("all", "a"): 1, ("all", "b"): 1}
    (tmp_path / "e").mkdir()
    (root / "runs").rename(tmp_path / "e/runs")
    refused(form(tmp_path / "e"), "holds nothing but what alexnet wrote: runs/photos (a run)")
    run_directory(tmp_path / "run")
    refused(tmp_path / "run", "is a run that alexnet wrote")


def test_what_this_package_wrote_is_told_where_the_data_was_packed_before(tmp_path, capsys):
    root = class_folders(tmp_path / "d", {"a": 2, "b": 1})
    store = open_data(root, image_size=8)
    run_directory(root / "runs/photos")
    assert open_data(root, image_size=8).path == store.path
    assert "left out: what alexnet wrote: runs/photos (a run)" in capsys.readouterr().err


def test_only_folders_of_our_own_are_marked(tmp_path):
    mark_output(tmp_path / "new/deep", "something")
    assert (tmp_path / "new/deep" / OUTPUT).read_text() == "something\n"
    root = class_folders(tmp_path / "d", {"a": 1})
    before = snapshot(root)
    mark_output(root, "something")
    assert snapshot(root) == before
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match="cannot write"):
        mark_output(tmp_path / "file", "something")


@pytest.mark.parametrize("wrapper", ["", "wrapped/"])
def test_folders_inside_every_class_are_said(wrapper, tmp_path):
    parts = ("birds/hen", "birds/owl", "mammals/cat", "mammals/dog")
    folders = {f"{one.replace('/', f'/{wrapper}')}": 2 for one in parts}
    root = class_folders(tmp_path / "animals", folders)
    source = read_source(root)
    assert source.classes == ["birds", "mammals"]
    stars = f"'{root}/*/*{'/*' if wrapper else ''}'"
    assert source.notes == [
        "the classes are birds, mammals; in each lie folders (cat, dog, hen, owl), which as "
        f"classes of their own are {stars}"
    ]
    assert read_source(find_data(stars[1:-1])).classes == ["cat", "dog", "hen", "owl"]
    assert not read_source(class_folders(tmp_path / "one", {"a/x": 2, "a/y": 2, "b": 2})).notes


def test_a_folder_of_many_folders_beside_plain_ones_is_no_class(form, tmp_path):
    people = {f"simpsons_dataset/{name}": 2 for name in ("bart", "homer", "lisa", "marge", "ned")}
    root = class_folders(tmp_path / "simpsons", people | {"kaggle_simpson_testset/inner": 3})
    path = form(root)
    inside = "bart, homer, lisa, marge, ned"
    refused(path, "can be read in two ways", f"5 folders that do ({inside})", "simpsons/*'"
            if path.is_dir() else "/*'", "simpsons_dataset")  # fmt: skip
    few = {"cat/old": 2, "cat/young": 2, "cat/lost": 2, "cat/found": 2, "dog": 2}
    assert read_source(form(class_folders(tmp_path / "few", few))).classes == ["cat", "dog"]


# -- official trees, with more in them than classes


def test_class_folders_in_images_beside_folders_without_images(form, tmp_path):
    root = class_folders(tmp_path / "food", {"food-101/images/pie": 3, "food-101/images/cake": 2})
    write_files(root / "food-101" / "meta", {"train.txt": b"pie/0\n"})
    write_files(root / "food-101", {"README.txt": b"read me"})
    path = form(root)
    assert counted(path) == {("all", "pie"): 3, ("all", "cake"): 2}
    assert "what lies beside images/: README.txt, meta/" in read_source(path).left_out


def test_an_empty_class_beside_others_is_still_an_error(form, tmp_path):
    root = class_folders(tmp_path / "d", {"cat/young": 3, "cat/old": 3, "dog": 0})
    refused(form(root), "class folders without images: dog")


@pytest.mark.parametrize("masks", ["masks", "Annotations", "ground_truth"])
def test_masks_beside_images_are_no_images(masks, form, tmp_path):
    folders = {f"{name}/{part}": 3 for name in ("covid", "normal") for part in ("images", masks)}
    path = form(class_folders(tmp_path / "xray", folders))
    assert counted(path) == {("all", "covid"): 3, ("all", "normal"): 3}
    assert any(f"6 images in {masks}/ beside" in told for told in read_source(path).left_out)
    store = open_data(path, image_size=8)
    assert len(store) == 6 and all("images/" in one for one in store.ids)


def test_a_class_called_mask_is_one(form, tmp_path):
    folders = {"mask": 2, "without_mask": 2, "annotations": 2}
    assert counted(form(class_folders(tmp_path / "faces", folders))) == {
        ("all", name): 2 for name in folders
    }


def test_pictures_in_one_folder_beside_their_masks_say_how_labels_are_found(form, tmp_path, capsys):
    path = form(class_folders(tmp_path / "pets", {"images": 4, "annotations/trimaps": 4}))
    assert main(["train", str(path), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "one class only (images)" in said and "--label-pattern" in said


# -- one class


def test_one_class_can_be_read_but_not_trained_on(form, tmp_path, capsys):
    path = form(class_folders(tmp_path / "d", {"cat": 3}))
    assert counted(path) == {("all", "cat"): 3}
    store = open_data(path, image_size=8)
    with pytest.raises(DataError, match=r"has one class only \(cat\)"):
        make_splits(store, val_size=0.3, test_size=0.3, fraction=1, seed=0)
    assert main(["train", str(path), "--out", str(tmp_path / "run")]) == 2
    assert "one class only" in capsys.readouterr().err


# -- messages that look at what is there


@pytest.mark.parametrize(
    "files, words",
    [
        (["train.csv", "photo.png"], ["1 .csv", "Labels in a table are read where"]),
        (["train/0.png", "train.csv"], ["train holds 1 images", "Labels in a table"]),
        (["train/0.png", "masks/0.png"], ["train holds 1 images but no class folders"]),
        (["a.tar.gz", "b.zip"], ["Archives inside are not opened"]),
        (["x.pkl"], ["can run code"]),
        (["a/x.h5", "x.mat"], ["write the others as image files"]),
        (["train-images-idx3-ubyte"], ["train-images-idx3-ubyte has no labels beside it"]),
        (["cat/1.jxl", "dog/2.DNG"], ["1 .jxl", "1 .dng", "Convert them to JPEG"]),
        (["cat/1.png", "dog/2.jxl"], ["without images: dog (but 1 .jxl)", "Convert them"]),
        (["cat/1.mp4"], ["Take single frames out of films"]),
    ],
)
def test_messages_look_at_what_is_there(files, words, form, tmp_path):
    for name in files:
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(b"x")
    refused(form(tmp_path / "d"), *words)


def test_photos_that_are_not_read_are_told(form, tmp_path):
    root = class_folders(tmp_path / "d", {"cat": 1, "dog": 1})
    (root / "dog/1.jxl").write_bytes(b"x")
    assert read_source(form(root)).left_out == [
        "1 files of kinds that are not read (1 .jxl), such as dog/1.jxl"
    ]


# -- no end, no escape


def test_folders_without_end(tmp_path):
    root = class_folders(tmp_path / "d", {"cat": 1, "dog": 1, "deep": 1})
    here = os.open(root / "deep", os.O_RDONLY)
    for _ in range(200):  # pytest removes it with a call for each
        os.mkdir("n", dir_fd=here)
        inner = os.open("n", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    for number in range(40):  # 2^40 ways through these
        for name in ("one", "two"):
            (tmp_path / f"e{number}").mkdir(exist_ok=True)
            (tmp_path / f"e{number}" / name).symlink_to(tmp_path / f"e{number + 1}")
    class_folders(tmp_path / "e40", {".": 1})
    (root / "dog/ways").symlink_to(tmp_path / "e0")
    (root / "round").symlink_to(root)
    source = read_source(root)
    assert source.classes == ["cat", "deep", "dog"]
    told = " ".join(source.left_out)
    for words in ("folders deep", "links to folders that they lie in", "others lead to"):
        assert words in told


PARTS = st.sampled_from(
    ["a", "b", "A", "a ", "train", "Test Set", "val", "images", "fold1", "fold2", "runs", "..",
     ".", "", ".x", "lost+found", "caf\u00e9", "cafe\u0301", "\u732b", "a\\b", "C:", "sub\ud800"]
)  # fmt: skip
NAMES = st.sampled_from(
    ["0.png", "1.PNG", "x.csv", "a", "recipe.json", "environment.json", "store.json", "x.bin",
     "wnids.txt", "val_annotations.txt", "data_batch_1.bin", "batches.meta.txt", "data_batch_1",
     "1.jxl", "", OUTPUT, "words.txt"]
)  # fmt: skip
PATHS = st.lists(
    st.tuples(st.lists(PARTS, max_size=4), NAMES).map(lambda one: "/".join([*one[0], one[1]])),
    max_size=12,
)


def written(root, kind, paths):
    """A folder or an archive of files of these names, as far as it can hold them."""
    if kind == "zip":
        with zipfile.ZipFile(root / "d.zip", "w") as archive:
            for path in dict.fromkeys(paths):
                archive.writestr(zipfile.ZipInfo(path.replace("\ud800", "?")), b"x")
        return root / "d.zip"
    if kind == "tar":
        with tarfile.open(root / "d.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
            for path in paths:
                archive.addfile(tarfile.TarInfo(path.replace("\ud800", "?")))
        return root / "d.tar.gz"
    for path in paths:
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        file = (root / "d").joinpath(*parts) if parts else root / "d/0.png"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        except (OSError, UnicodeEncodeError):
            continue  # a file lies where a folder would be
    (root / "d").mkdir(exist_ok=True)
    return root / "d"


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(paths=PATHS, kind=st.sampled_from(["folder", "zip", "tar"]), levels=st.integers(0, 2))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_any_tree_is_a_source_or_a_data_error(paths, kind, levels, tmp_path_factory):
    root = tmp_path_factory.mktemp("any")
    path = written(root, kind, paths)
    before = snapshot(root)
    try:
        source = read_source(path.joinpath(*["*"] * levels))
    except DataError as error:
        assert str(path) in error.message and error.hint
    else:
        assert source.examples and len(source.examples) == len(list(source.contents()))
        assert all(0 <= one.label < len(source.classes) for one in source.examples)
        assert not any(".." in one.id.split("/") for one in source.examples)
    assert snapshot(root) == before
