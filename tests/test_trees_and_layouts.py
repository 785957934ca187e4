"""Folders and archives in every known arrangement give their examples; the others say why not."""

import os
import zipfile
from collections import Counter

import numpy as np
import pytest
from makers import (
    CIFAR_CLASSES,
    cifar_files,
    class_folders,
    tarred,
    tiny_imagenet,
    write_files,
    write_image,
    zipped,
)

from alexnet.data import images
from alexnet.data.finding import find_data, read_source
from alexnet.data.official import digits_source
from alexnet.data.trees import open_tree, source_state
from alexnet.errors import DataError


def read(path):
    """The Source of a folder or an archive, as `open_data` reads it."""
    return read_source(path)


def refused(path, pattern):
    """Asserts that the data is refused with a message like `pattern` and a hint."""
    with pytest.raises(DataError, match=pattern) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


def counted(source):
    return Counter((one.split, source.classes[one.label]) for one in source.examples)


# -- class folders

FORMS = {
    "train and val": {"train": "train", "val": "val"},
    "train, val and test": {"train": "train", "val": "val", "test": "test"},
    "train and test": {"train": "train", "test": "test"},
    "train alone": {"train": "train"},
    "test alone": {"test": "test"},
    "other words": {"Training": "train", "valid": "val", "TEST": "test"},
    "another word alone": {"Train": "train"},
    "no splits": {".": "all"},
}


@pytest.fixture(params=["folder", "zip"])
def form(request):
    """Makes of a folder what the parameter says."""
    return lambda root: (
        root if request.param == "folder" else zipped(root.with_suffix(".zip"), root)
    )


@pytest.mark.parametrize("top", ["", "pets/", "a/b/"])
@pytest.mark.parametrize("name", FORMS)
def test_class_folders(name, top, form, tmp_path):
    root = tmp_path / "data"
    expected = {}
    for place, (folder, split) in enumerate(FORMS[name].items()):
        class_folders(root / top, {f"{folder}/cat": 3 - place, f"{folder}/dog": 1})
        expected |= {(split, "cat"): 3 - place, (split, "dog"): 1}
    source = read(form(root))
    assert source.layout == "class-folders"
    assert source.classes == source.names == ["cat", "dog"]
    assert counted(source) == expected
    assert source.left_out == []
    order = ["train", "val", "test", "all"]
    assert [one.split for one in source.examples] == sorted(
        (one.split for one in source.examples), key=order.index
    )
    for example, content in zip(source.examples, source.contents(), strict=True):
        assert content == (root / top / example.id).read_bytes()


def test_images_may_lie_deeper_inside_a_class(form, tmp_path):
    class_folders(tmp_path / "d", {"cat/indoors/old": 2, "cat": 1, "dog/x": 1})
    assert counted(read(form(tmp_path / "d"))) == {("all", "cat"): 3, ("all", "dog"): 1}


def test_hidden_files_are_not_seen(form, tmp_path):
    root = class_folders(tmp_path / "d", {"cat": 1, "dog": 1, ".thumbnails": 1, "__MACOSX/cat": 1})
    write_image(root / "cat/._0.png")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "cat/Thumbs.db").write_bytes(b"x")
    source = read(form(root))
    assert counted(source) == {("all", "cat"): 1, ("all", "dog"): 1}
    assert source.left_out == []


def test_what_is_left_out_is_reported(form, tmp_path):
    root = class_folders(
        tmp_path / "d", {"train/cat": 1, "train/dog": 1, "val/cat": 1, "extra/bird": 3}
    )
    write_image(root / "train/stray.png")
    (root / "train/dog/notes.docx").write_bytes(b"x")
    assert read(form(root)).left_out == [
        "folders beside the splits: extra",
        "4 images outside the class folders",
        "1 files that are not images, such as train/dog/notes.docx",
    ]


def test_a_signature_changes_with_any_file(tmp_path):
    root = class_folders(tmp_path / "d", {"cat": 2, "dog": 1})
    found = [source_state(root)[0], source_state(root)[0]]
    os.utime(root / "cat/1.png", ns=(5, 5))
    found.append(source_state(root)[0])
    (root / "cat/0.png").rename(root / "dog/1.png")
    found.append(source_state(root)[0])
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_links_are_followed_but_not_in_circles(tmp_path):
    root = class_folders(tmp_path / "d", {"cat": 1, "dog": 1})
    (root / "cat/again").symlink_to(root)
    (root / "bird").symlink_to(class_folders(tmp_path / "elsewhere", {"bird": 2}) / "bird")
    assert counted(read(root)) == {("all", "bird"): 2, ("all", "cat"): 1, ("all", "dog"): 1}


def contents(path):
    """{id: content or OSError} of a Source."""
    source = read(path)
    return {one.id: found for one, found in zip(source.examples, source.contents(), strict=True)}


def test_a_file_that_cannot_be_read_is_passed_on_as_an_error(form, tmp_path, monkeypatch):
    root = class_folders(tmp_path / "d", {"cat": 1, "dog": 1})
    (root / "dog/big.png").write_bytes(bytes(2000))
    monkeypatch.setattr("alexnet.data.trees.LARGEST_FILE", 1999)
    monkeypatch.setattr("alexnet.data.archives.LARGEST_FILE", 1999)
    found = contents(form(root))
    assert isinstance(found["cat/0.png"], bytes)
    assert "2,000 bytes is no image file" in str(found["dog/big.png"])


def test_a_broken_link_is_an_error_of_that_file(tmp_path):
    root = class_folders(tmp_path / "d", {"cat": 1, "dog": 1})
    (root / "cat/gone.png").symlink_to(tmp_path / "nothing")
    assert isinstance(contents(root)["cat/gone.png"], FileNotFoundError)


def with_bad_member(path, name, how):
    """Breaks one member of a stored zip: its bytes, or its flag of encryption."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    content = bytearray(path.read_bytes())
    if how == "encrypted":
        content[info.header_offset + 6] |= 1
        place = content.rindex(name.encode())  # in the central directory
        content[place - 46 + 8] |= 1
    else:
        content[info.header_offset + 30 + len(name) + 50] ^= 255
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("how, reason", [("encrypted", "encrypted"), ("flipped", "Bad CRC-32")])
def test_a_broken_member_of_a_zip_is_an_error_of_that_file(how, reason, tmp_path):
    root = class_folders(tmp_path / "d", {"cat": 2, "dog": 1})
    found = contents(with_bad_member(zipped(tmp_path / "d.zip", root), "cat/1.png", how))
    assert isinstance(found.pop("cat/1.png"), OSError)
    assert all(isinstance(one, bytes) for one in found.values())
    with pytest.raises(OSError, match=reason):
        open_tree(tmp_path / "d.zip", tmp_path).read("cat/1.png")


def test_a_zip_is_known_by_its_content(tmp_path):
    path = zipped(tmp_path / "photos.dat", class_folders(tmp_path / "d", {"cat": 1, "dog": 1}))
    assert len(read(path).examples) == 2


@pytest.mark.parametrize(
    "folders, pattern",
    [
        ({}, "is empty"),
        ({".": 3}, "holds images but no class folders"),
        ({"cat": 2, "dog": 0}, "class folders without images: dog"),
        ({"train/cat": 2, "train/dog": 1, "train/cow": 0, "val/cow": 1}, "without images: cow"),
        (
            {"train/cat": 2, "train/dog": 1, "val/cow": 1},
            "val has classes that train does not.*cow",
        ),
        ({"train/cat": 2, "train/dog": 1, "test/cow": 1}, "test has classes that train does.*cow"),
        ({"train/cat": 1, "train/dog": 1, "val": 2}, "val holds 2 images but no class folders and"),
        ({"train/cat": 1, "train/dog": 1, "val": 1, "valid": 1}, "two folders for val|val holds"),
        ({"train": 2}, "train holds 2 images but no class folders"),
    ],
)
def test_folders_that_cannot_be_used_say_why(folders, pattern, form, tmp_path):
    refused(form(class_folders(tmp_path / "d", folders)), pattern)


def test_two_folders_for_one_split_are_refused(form, tmp_path):
    root = class_folders(tmp_path / "d", {"val/a": 1, "val/b": 1, "valid/a": 1, "valid/b": 1})
    refused(form(root), "two folders for val")


def test_a_folder_of_other_files_is_refused(form, tmp_path):
    refused(form(write_files(tmp_path / "d", {"a.txt": b"x", "b.pdf": b"y"})), "no images in any")


def test_an_empty_zip_is_refused(tmp_path):
    (tmp_path / "d").mkdir()
    refused(zipped(tmp_path / "d.zip", tmp_path / "d"), "is empty")


@pytest.mark.parametrize(
    "name, content, pattern",
    [
        ("a.zip", b"no zip at all", "cannot be read as a zip archive"),
        ("a.zip", b"", "cannot be read as a zip archive"),
        ("a.txt", b"x,y\n1,2\n", "is a file, but not a zip archive"),
        ("a.csv", b"x,y\n1,2\n", "does not show which column holds the path"),
        ("a.tar.gz", b"no tar at all", "cannot be read as a tar archive"),
    ],
)
def test_a_file_that_is_no_archive_is_refused(name, content, pattern, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, pattern)


def test_a_zip_cut_short_is_refused(tmp_path):
    path = zipped(tmp_path / "d.zip", class_folders(tmp_path / "d", {"cat": 1, "dog": 1}))
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "cannot be read as a zip archive")


# -- Tiny ImageNet


@pytest.mark.parametrize("top", ["", "tiny-imagenet-200/"])
def test_the_official_tiny_imagenet(top, form, tmp_path):
    tiny_imagenet(tmp_path / "d" / top)
    source = read(form(tmp_path / "d"))
    assert source.layout == "tiny-imagenet"
    assert source.classes == ["n01", "n02", "n03"]
    assert source.names == ["goldfish", "crane (n02)", "crane (n03)"]
    assert counted(source) == {
        (split, wnid): count
        for split, count in (("train", 3), ("test", 2))
        for wnid in source.classes
    }
    labels = {one.id: one.label for one in source.examples}
    assert [labels[f"val/images/val_{n}.JPEG"] for n in range(6)] == [0, 1, 2, 0, 1, 2]
    assert source.left_out == ["2 images without labels in test/"]


def test_tiny_imagenet_with_its_val_sorted_into_folders_is_still_a_test(form, tmp_path):
    root = tiny_imagenet(tmp_path / "d")
    for line in (root / "val/val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        (root / "val" / wnid).mkdir(exist_ok=True)
        (root / "val/images" / name).rename(root / "val" / wnid / name)
    (root / "val/images").rmdir()
    (root / "val/val_annotations.txt").unlink()
    assert {split for split, _ in counted(read(form(root)))} == {"train", "test"}


def test_val_images_beside_their_annotations_are_found(form, tmp_path):
    root = tiny_imagenet(tmp_path / "d")
    for file in (root / "val/images").iterdir():
        file.rename(root / "val" / file.name)
    (root / "val/images").rmdir()
    assert counted(read(form(root)))["test", "n02"] == 2


def test_names_fall_back_to_wnids_without_words(form, tmp_path):
    root = tiny_imagenet(tmp_path / "d")
    (root / "words.txt").unlink()
    assert read(form(root)).names == ["n01", "n02", "n03"]


@pytest.mark.parametrize(
    "change, pattern",
    [
        (lambda lines: [*lines[:3], "val_0.JPEG\tn99\t0", *lines[3:]], "line 4 names.*'n99'"),
        (lambda lines: [*lines, "val_9.JPEG\tn01\t0"], "line 7 names the image 'val_9.JPEG'"),
        (lambda lines: [*lines, lines[0]], "line 7 names the image 'val_0.JPEG'"),
        (lambda lines: [lines[0], "val_1.JPEG n02", *lines[2:]], "line 2 is 'val_1.JPEG n02', exp"),
        (lambda lines: lines[:-2], "2 images of val/ have no line in .*val_"),
        (lambda lines: [*lines, "\ud800"], "val_annotations.txt cannot be read"),
    ],
)
def test_annotations_that_do_not_fit_say_where(change, pattern, form, tmp_path):
    root = tiny_imagenet(tmp_path / "d")
    file = root / "val/val_annotations.txt"
    lines = change(file.read_text().splitlines())
    file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    refused(form(root), pattern)


def test_blank_lines_and_line_ends_of_windows_do_not_matter(form, tmp_path):
    root = tiny_imagenet(tmp_path / "d")
    file = root / "val/val_annotations.txt"
    file.write_bytes(b"\r\n".join(file.read_bytes().splitlines()) + b"\r\n\r\n")
    assert counted(read(form(root)))["test", "n01"] == 2


def test_val_without_annotations_is_refused(form, tmp_path):
    root = tiny_imagenet(tmp_path / "d")
    (root / "val/val_annotations.txt").unlink()
    error = refused(form(root), "val holds 6 images but no class folders and no val_annotations")
    assert "stay at chance" in error.message
    assert "val_annotations.txt" in error.hint


# -- CIFAR-10


def cifar(root, kind, files):
    if kind == "tar.gz":
        return tarred(root.with_suffix(".tar.gz"), files)
    folder = write_files(root / "cifar-10-batches-bin", files)
    return zipped(root.with_suffix(".zip"), root) if kind == "zip" else folder.parent


CONTAINERS = ["folder", "zip", "tar.gz"]


@pytest.mark.parametrize("kind", CONTAINERS)
def test_cifar_10s_binary_files(kind, tmp_path):
    files, labels, pixels = cifar_files()
    source = read(cifar(tmp_path / "c", kind, files))
    assert (source.layout, source.classes) == ("cifar-10", CIFAR_CLASSES)
    assert [one.label for one in source.examples] == labels
    assert [one.split for one in source.examples] == ["train"] * 30 + ["test"] * 10
    assert source.examples[20].id == "data_batch_2.bin#0"
    for _ in range(2):  # it can be read again
        found = np.stack(list(source.contents()))
        assert np.array_equal(found.transpose(0, 3, 1, 2), pixels)


@pytest.mark.parametrize("extra", [{}, {"data_batch_1.bin": 10}])
def test_some_of_cifar_10s_files_are_enough(extra, tmp_path):
    files, labels, _ = cifar_files({**extra, "data_batch_3.bin": 10})
    root = write_files(tmp_path / "c", files)
    (root / "notes").mkdir()
    assert len(read(root).examples) == len(labels)


def with_label(content, number, label):
    changed = bytearray(content)
    changed[number * 3073] = label
    return bytes(changed)


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(
    "name, change, pattern",
    [
        ("data_batch_2.bin", lambda old: old[:-1], "data_batch_2.bin has 30,729 bytes, expected a"),
        ("data_batch_1.bin", lambda old: b"", "data_batch_1.bin has 0 bytes, expected a multiple"),
        ("test_batch.bin", lambda old: with_label(old, 7, 10), "record 7 of test_batch.* label 10"),
        ("batches.meta.txt", lambda old: b"cat\ndog\n", "no batches.meta.txt with ten class names"),
        ("batches.meta.txt", lambda old: old.replace(b"cat", b"dog"), "each its own"),
        ("batches.meta.txt", None, "no batches.meta.txt with ten class names"),
    ],
)
def test_damaged_cifar_10_says_where(name, change, pattern, kind, tmp_path):
    files, _, _ = cifar_files()
    if change:
        files[name] = change(files[name])
    else:
        del files[name]
    refused(cifar(tmp_path / "c", kind, files), pattern)


@pytest.mark.parametrize("top", ["", "cifar-10-batches-py"])
def test_damaged_pickles_of_cifar_10_are_refused(top, form, tmp_path):
    files = {"data_batch_1": b"\x80\x02", "test_batch": b"\x80\x02", "batches.meta": b"\x80\x02"}
    write_files(tmp_path / "c" / top, files)
    refused(form(tmp_path / "c"), "no pickle of arrays .* nothing of it was run")


def test_a_damaged_member_of_a_zipped_cifar_10_is_refused(tmp_path):
    path = cifar(tmp_path / "c", "zip", cifar_files()[0])
    with_bad_member(path, "cifar-10-batches-bin/test_batch.bin", "flipped")
    refused(path, "test_batch.bin cannot be read .*Bad CRC-32")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_a_tar_cut_short_is_refused(kept, tmp_path):
    path = tarred(tmp_path / "c.tar.gz", cifar_files()[0])
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refused(path, "cannot be read as a tar archive|no batches.meta|bytes, expected a multiple")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_damaged_tar_is_refused_wherever_the_damage_is(kind, tmp_path):
    path = tarred(tmp_path / f"c.tar.{kind}", cifar_files()[0])
    whole = path.read_bytes()
    for share in (0.05, 0.3, 0.6, 0.9):
        content = bytearray(whole)
        content[int(share * len(content))] ^= 1
        path.write_bytes(content)
        refused(path, "cannot be read as a tar archive|bytes, expected a multiple|has label")


# -- by name


def test_digits_are_sorted_by_class():
    source = digits_source()
    assert len(source.examples) == 1797
    assert source.classes == source.names == [str(n) for n in range(10)]
    labels = [one.label for one in source.examples]
    assert labels == sorted(labels)
    first = next(source.contents())
    assert (first.shape, first.dtype, first.max()) == ((8, 8), np.uint8, 239)


@pytest.mark.parametrize(
    "name, words, hint",
    [
        ("/nowhere/at/all", "there is nothing at /nowhere/at/all", "Check the path"),
        ("digit", "no data set and no path 'digit'", "Did you mean 'digits'?"),
        ("cifar-10", "no data set and no path", "Did you mean 'cifar10'?"),
        (
            "xyzzy",
            "no data set and no path",
            "Known: digits, tiny-image10, cifar10, tiny-imagenet.",
        ),
        ("cifar10", "cifar10 is not on this machine", "alexnet data fetch cifar10"),
    ],
)
def test_data_that_is_not_there_says_what_to_do(name, words, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=words) as caught:
        find_data(name)
    assert hint in caught.value.hint


@pytest.mark.parametrize("there", [True, False])
def test_heic_images_are_taken_or_counted_with_what_to_install(tmp_path, monkeypatch, there):
    data = class_folders(tmp_path / "d", {"cat": 2, "dog": 2})
    (data / "cat" / "z.HEIC").write_bytes(b"anything")
    (data / "dog" / "z.heif").write_bytes(b"anything")
    monkeypatch.setattr(images, "heic_is_there", lambda: there)
    source = read_source(data)
    assert len(source.examples) == (6 if there else 4)
    told = [] if there else ["2 HEIC images, such as cat/z.HEIC: pip install 'alexnet[heic]'"]
    assert source.left_out == told


def test_a_class_of_heic_images_alone_says_what_to_install(tmp_path, monkeypatch):
    data = class_folders(tmp_path / "d", {"cat": 2, "dog": 0})
    (data / "dog" / "1.heic").write_bytes(b"anything")
    monkeypatch.setattr(images, "heic_is_there", lambda: False)
    with pytest.raises(DataError, match="without images: dog") as caught:
        read_source(data)
    assert "pip install 'alexnet[heic]'" in caught.value.hint
