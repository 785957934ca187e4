"""A path becomes a Store once, nothing of the user's is touched, and splits are fair."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from makers import (
    CIFAR_CLASSES,
    cifar_files,
    class_folders,
    encoded,
    noise,
    smooth,
    snapshot,
    store_of,
    tarred,
    tiny_imagenet,
    write_image,
    zipped,
)

from alexnet.cache import cache_folder
from alexnet.data import datasets, images
from alexnet.data.augment import resize
from alexnet.data.datasets import open_data
from alexnet.data.images import load_image
from alexnet.data.splits import make_splits
from alexnet.errors import DataError, DiskError
from alexnet.recipes import Recipe
from alexnet.runs.own_data import splits_of

PETS = {"cat": 3, "dog": 2}


@pytest.fixture
def packings(monkeypatch):
    """The image sizes of all packings so far."""
    sizes = []
    pack = datasets.pack

    def counting(source, name, **options):
        sizes.append(options["image_size"])
        return pack(source, name, **options)

    monkeypatch.setattr(datasets, "pack", counting)
    return sizes


def refused(data, pattern, **options):
    with pytest.raises(DataError, match=pattern) as caught:
        open_data(data, **({"image_size": 8} | options))
    assert caught.value.hint
    return caught.value


# -- packing


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_data_is_packed_once_and_found_again(kind, tmp_path, packings):
    data = class_folders(tmp_path / "pets", PETS, size=(12, 9))
    if kind == "zip":
        data = zipped(tmp_path / "pets.zip", data)
    first, again = open_data(data, image_size=8), open_data(str(data), image_size=8)
    assert packings == [8]
    assert first.path == again.path
    assert first.path.parent == cache_folder() / "stores"
    assert first.x.shape == (5, 3, 8, 8)
    assert first.y.tolist() == [0, 0, 0, 1, 1]
    assert first.ids == [f"cat/{n}.png" for n in range(3)] + [f"dog/{n}.png" for n in range(2)]
    assert first.info["splits"] == {"all": [0, 5]}
    first.verify()


def test_a_folder_and_its_zip_are_the_same_store(tmp_path, packings):
    folder = class_folders(tmp_path / "pets", PETS, size=(12, 9))
    archive = zipped(tmp_path / "pets.zip", folder)
    nested = zipped(tmp_path / "other.zip", folder, top="pets/")
    one, other, third = (open_data(data, image_size=8) for data in (folder, archive, nested))
    assert one.path == other.path
    assert one.fingerprint == other.fingerprint == third.fingerprint
    assert len(packings) == 3


def test_changed_data_is_another_store(tmp_path, packings):
    data = class_folders(tmp_path / "pets", PETS, size=(12, 9))
    first = open_data(data, image_size=8)
    file = data / "cat/0.png"
    content, state = file.read_bytes(), file.stat()
    os.utime(file, ns=(1, 1))
    assert open_data(data, image_size=8).path == first.path  # looked at again, and the same
    assert len(packings) == 2
    file.write_bytes(encoded(noise(99, (12, 9))))
    changed = open_data(data, image_size=8)
    assert (len(packings), changed.path == first.path) == (3, False)
    assert changed.fingerprint != first.fingerprint
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert open_data(data, image_size=8).path == first.path


def test_a_moved_image_is_another_store(tmp_path):
    data = class_folders(tmp_path / "pets", PETS)
    first = open_data(data, image_size=8)
    (data / "cat/0.png").rename(data / "dog/0x.png")
    assert open_data(data, image_size=8).fingerprint != first.fingerprint


@pytest.mark.parametrize("side, image_size, stored", [(8, 16, 8), (16, 16, 16), (20, 16, 16)])
def test_equal_small_squares_are_stored_as_they_are(side, image_size, stored, tmp_path):
    data = class_folders(tmp_path / "pets", PETS, size=(side, side))
    store = open_data(data, image_size=image_size)
    assert store.x.shape == (5, 3, stored, stored)
    assert store.info["native"] is (side <= image_size)


def test_small_squares_are_packed_once_for_all_larger_sizes(tmp_path, packings):
    data = class_folders(tmp_path / "pets", PETS, size=(8, 8))
    sides = [open_data(data, image_size=size).x.shape[-1] for size in (16, 32, 4, 16, 8, 4)]
    assert sides == [8, 8, 4, 8, 8, 4]
    assert packings == [16, 4]


@pytest.mark.parametrize("odd", [(9, 9), (8, 10), (20, 20), (1, 1)])
def test_images_of_other_sizes_are_stored_at_the_size_asked_for(odd, tmp_path):
    data = class_folders(tmp_path / "pets", PETS, size=(8, 8))
    write_image(data / "dog/9.png", size=odd)
    store = open_data(data, image_size=16, bad_images="skip")
    assert store.x.shape[-1] == 16 if odd != (1, 1) else 8
    assert len(store) == (5 if odd == (1, 1) else 6)


@pytest.mark.parametrize("size", [(40, 30), (8, 8), (11, 11), (5, 9), (16, 16)])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_stored_images_are_those_that_prediction_sees(size, kind, tmp_path):
    for name in ("cat/0", "cat/1", "dog/0"):
        write_image(tmp_path / f"d/{name}.{kind}", size)
    store = open_data(tmp_path / "d", image_size=16)
    assert store.info["native"] is (size in [(8, 8), (11, 11), (16, 16)])
    stored = resize(torch.from_numpy(np.array(store.x)), 16).numpy()
    for pixels, name in zip(stored, store.ids, strict=True):
        assert np.array_equal(pixels, load_image((tmp_path / "d" / name).read_bytes(), 16))


@pytest.mark.parametrize(
    "limit", [("IMAGES", 3), ("BYTES", 500), ("PIXELS", 3 * 192), ("PIXELS", 1)]
)
def test_many_images_come_in_order(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, f"CHUNK_{limit[0]}", limit[1])
    data = class_folders(tmp_path / "d", {"cat": 23, "dog": 17})
    store = open_data(data, image_size=8)
    assert len(store) == 40
    for pixels, name in zip(store.x, store.ids, strict=True):
        assert np.array_equal(pixels, load_image((data / name).read_bytes(), 8))


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_greyscale_is_converted_or_dropped(mode, tmp_path):
    data = class_folders(tmp_path / "d", PETS)
    write_image(data / "dog/grey.png", mode=mode)
    converted = open_data(data, image_size=8)
    dropped = open_data(data, image_size=8, greyscale="drop")
    assert (len(converted), len(dropped)) == (6, 5)
    assert converted.info["greyscale"] == {"found": 1, "policy": "convert"}
    assert dropped.info["greyscale"] == {"found": 1, "policy": "drop"}
    assert "dog/grey.png" in converted.ids
    assert "dog/grey.png" not in dropped.ids
    assert len(open_data(data, image_size=8)) == 6


def test_a_class_of_greyscale_alone_is_not_dropped_unseen(tmp_path):
    data = class_folders(tmp_path / "d", PETS)
    class_folders(data, {"fog": 2}, mode="L")
    error = refused(data, "no usable image is left of: fog", greyscale="drop")
    assert "--greyscale convert" in error.hint


def test_an_image_under_a_wrong_name_is_used(tmp_path):
    data = class_folders(tmp_path / "d", PETS)
    (data / "dog/photo.jpg").write_bytes(encoded(noise()))
    assert len(open_data(data, image_size=8)) == 6


def test_file_names_that_are_no_text_are_used(tmp_path):
    data = class_folders(tmp_path / "caf\udce9", PETS)
    os.rename(os.fsencode(data / "cat/0.png"), os.fsencode(data) + b"/cat/\xff.png")
    store = open_data(data, image_size=8)
    assert store.ids[2] == "cat/\udcff.png"
    assert open_data(data, image_size=8).path == store.path


def test_a_store_is_opened_as_it_is(tmp_path):
    store = open_data(class_folders(tmp_path / "d", PETS), image_size=8)
    copy = shutil.copytree(store.path, tmp_path / "copy")
    assert open_data(copy, image_size=64).x.shape == store.x.shape


def test_an_index_that_cannot_be_read_is_written_anew(tmp_path, packings):
    data = class_folders(tmp_path / "d", PETS)
    open_data(data, image_size=8)
    (index,) = (cache_folder() / "index").iterdir()
    index.write_text("{half")
    open_data(data, image_size=8)
    assert packings == [8, 8]
    assert json.loads(index.read_text())["native"] == 8


def test_a_store_that_was_deleted_is_packed_again(tmp_path, packings):
    data = class_folders(tmp_path / "d", PETS)
    shutil.rmtree(open_data(data, image_size=8).path)
    assert len(open_data(data, image_size=8)) == 5
    assert packings == [8, 8]


@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_cifar_10_keeps_its_pixels(kind, tmp_path):
    files, labels, pixels = cifar_files()
    (tmp_path / "c").mkdir()
    for name, content in files.items():
        (tmp_path / "c" / name).write_bytes(content)
    data = tmp_path / "c" if kind == "folder" else tarred(tmp_path / "c.tar.gz", files)
    store = open_data(data, image_size=40)
    assert np.array_equal(store.x, pixels)
    assert store.y.tolist() == labels
    assert store.classes == CIFAR_CLASSES
    assert store.info["splits"] == {"train": [0, 30], "test": [30, 40]}


def test_fetched_archives_are_found_by_name(tmp_path):
    folder = cache_folder() / "downloads"
    folder.mkdir(parents=True)
    zipped(folder / "tiny-imagenet-200.zip", tiny_imagenet(tmp_path / "t"), "tiny-imagenet-200/")
    tarred(folder / "cifar-10-binary.tar.gz", cifar_files()[0])
    tiny = open_data("tiny-imagenet", image_size=8)
    assert tiny.names == ["goldfish", "crane (n02)", "crane (n03)"]
    assert tiny.info["splits"] == {"train": [0, 9], "test": [9, 15]}
    assert len(open_data("cifar10", image_size=32)) == 40


def test_digits(packings):
    store = open_data("digits", image_size=32)
    assert store.x.shape == (1797, 3, 8, 8)
    assert store.classes == [str(n) for n in range(10)]
    assert np.array_equal(np.bincount(store.y).argsort()[:1], [8])  # 174 images, the fewest
    assert open_data("digits", image_size=8).path == store.path
    assert packings == [32]


@pytest.mark.parametrize("name", ["cifar10", "digit", "/nowhere", "pets/cats"])
def test_data_that_is_not_there_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(name, "not on this machine|no data set and no path|nothing at")


# -- unreadable images

PHOTO = encoded(smooth((64, 64)), "JPEG", quality=90)
BROKEN = {
    "train/cat/cut.jpg": (PHOTO[: len(PHOTO) * 6 // 10], "damaged or cut short"),
    "train/cat/text.jpg": (b"not a photograph", "not an image, or of an unknown format"),
    "val/dog/empty.png": (b"", "the file is empty"),
}


@pytest.fixture
def broken(tmp_path):
    """Good images, and the three of BROKEN."""
    folders = {"train/cat": 3, "train/dog": 3, "val/cat": 1, "val/dog": 1}
    root = class_folders(tmp_path / "pets", folders)
    for name, (content, _) in BROKEN.items():
        (root / name).write_bytes(content)
    return root


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_bad_images_are_listed_and_nothing_is_touched(kind, broken, tmp_path):
    data = broken if kind == "folder" else zipped(tmp_path / "pets.zip", broken)
    before = snapshot(broken) | snapshot(tmp_path / "pets.zip")
    for _ in range(2):  # packed, and found again
        error = refused(data, "3 of 11 images cannot be used")
        lines = error.message.splitlines()[1:]
        assert len(lines) == 3
        for line, (name, (_, reason)) in zip(lines, BROKEN.items(), strict=True):
            assert line.startswith(f"  {name} ({name.split('/')[1]}): {reason}")
        assert "--bad-images skip" in error.hint
    assert snapshot(broken) | snapshot(tmp_path / "pets.zip") == before


def test_bad_images_can_be_left_out(broken, capsys):
    store = open_data(broken, image_size=8, bad_images="skip")
    assert len(store) == 8
    assert store.info["splits"] == {"train": [0, 6], "val": [6, 8]}
    assert set(BROKEN).isdisjoint(store.ids)
    assert {one["id"] for one in store.info["bad"]} == set(BROKEN)
    said = capsys.readouterr().err
    assert "3 of 11 images cannot be used" in said
    assert "They are left out" in said
    refused(broken, "3 of 11 images cannot be used")


def test_a_bad_first_image_does_not_hinder_the_others(tmp_path):
    data = class_folders(tmp_path / "d", PETS)
    (data / "cat/0.png").write_bytes(b"x")
    store = open_data(data, image_size=16, bad_images="skip")
    assert store.ids[0] == "cat/1.png"
    assert np.array_equal(
        resize(torch.from_numpy(np.array(store.x[:1])), 16)[0],
        load_image((data / "cat/1.png").read_bytes(), 16),
    )


def test_a_file_that_is_gone_while_packing_is_a_bad_image(tmp_path, monkeypatch):
    data = class_folders(tmp_path / "d", PETS)
    (data / "dog/gone.png").symlink_to(tmp_path / "nothing")
    refused(data, r"dog/gone.png \(dog\): cannot be read \(No such file or directory\)")


def test_of_many_bad_images_twenty_are_listed(tmp_path):
    data = class_folders(tmp_path / "d", PETS)
    for number in range(22):
        (data / f"cat/bad{number:02}.png").write_bytes(b"x")
    error = refused(data, "22 of 27 images cannot be used")
    assert "bad19" in error.message
    assert "bad20" not in error.message
    place = error.message.splitlines()[-1].split("all are in ")[1]
    assert len(json.loads(Path(place).read_text())["bad"]) == 22


@pytest.mark.parametrize("bad_images", ["error", "skip"])
def test_a_class_without_a_usable_image_is_an_error(bad_images, tmp_path):
    data = class_folders(tmp_path / "d", PETS)
    for file in (data / "dog").iterdir():
        file.write_bytes(b"")
    error = refused(data, "no usable image is left of: dog", bad_images=bad_images)
    assert "dog/0.png: the file is empty" in error.message
    assert nothing_left()


# -- disk


def nothing_left():
    stores, index = cache_folder() / "stores", cache_folder() / "index"
    return not any(stores.iterdir()) and not index.exists()


def test_too_little_space_is_found_before_packing(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=5 * 3 * 8 * 8 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    data = class_folders(tmp_path / "d", PETS)
    with pytest.raises(DiskError, match="no space left on the disk") as caught:
        open_data(data, image_size=8)
    assert "ALEXNET_CACHE" in caught.value.hint
    assert nothing_left()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5 * 3 * 8 * 8))
    assert len(open_data(data, image_size=8)) == 5


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is always full")
@pytest.mark.parametrize("side", [8, 200])  # fails when flushed at the end, and at the first write
def test_a_disk_that_fills_up_while_packing_leaves_nothing(side, tmp_path, monkeypatch):
    data = class_folders(tmp_path / "d", PETS, size=(side, side))
    with monkeypatch.context() as patch:
        patch.setattr(
            "alexnet.data.store.open",
            lambda _, mode, **how: open("/dev/full", mode, **how),
            raising=False,
        )
        with pytest.raises(DiskError, match="no space left on the disk") as caught:
            open_data(data, image_size=side)
    assert caught.value.hint
    assert nothing_left()
    assert len(open_data(data, image_size=side)) == 5


def test_an_interrupted_packing_leaves_nothing(tmp_path, monkeypatch):
    data = class_folders(tmp_path / "d", PETS)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "_check_classes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_data(data, image_size=8)
    assert nothing_left()


# -- splits


def split(store, *, val_size=0.2, test_size=0.25, fraction=1.0, seed=0):
    return make_splits(store, val_size=val_size, test_size=test_size, fraction=fraction, seed=seed)


def per_class(store, indices):
    return dict(Counter(store.y[indices].tolist()))


LABELS = [0] * 40 + [1] * 20 + [2] * 4


def test_data_without_splits_gets_them(tmp_path):
    store = store_of(tmp_path, {"all": LABELS})
    splits = split(store)
    assert per_class(store, splits.test) == {0: 10, 1: 5, 2: 1}
    assert per_class(store, splits.val) == {0: 6, 1: 3, 2: 1}
    assert per_class(store, splits.train) == {0: 24, 1: 12, 2: 2}
    assert "25% of the images are set aside as the test split" in splits.note
    assert "20% of the training images for validation" in splits.note


@given(
    st.lists(st.integers(3, 30), min_size=2, max_size=4),
    st.floats(0.01, 0.9),
    st.floats(0.01, 0.45),  # of three images, one
    st.integers(0, 2**31),
)
@example([3, 3], 0.9, 0.3, 0)
def test_splits_are_disjoint_and_cover_everything(tmp_path_factory, counts, val, test, seed):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    store = store_of(tmp_path_factory.mktemp("s"), {"all": labels})
    splits = split(store, val_size=val, test_size=test, seed=seed)
    parts = (splits.train, splits.val, splits.test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert all(set(store.y[part]) == set(labels) for part in parts)


@pytest.mark.parametrize(
    "parts, fraction, drawn",
    [
        (["all"], 1, "train val test"),
        (["train", "test"], 1, "train val"),
        (["train", "val", "test"], 0.5, "train"),
    ],
)
def test_the_seed_draws_whatever_is_drawn(parts, fraction, drawn, tmp_path):
    store = store_of(tmp_path, dict.fromkeys(parts, LABELS))
    one, same, other = (split(store, seed=seed, fraction=fraction) for seed in (1, 1, 2))
    for part in ("train", "val", "test"):
        assert np.array_equal(getattr(one, part), getattr(same, part))
        differ = not np.array_equal(getattr(one, part), getattr(other, part))
        assert differ is (part in drawn.split())


def test_splits_have_a_seed_of_their_own_where_one_is_given(tmp_path):
    store = store_of(tmp_path, {"all": LABELS})
    asked = Recipe().replace(fraction=0.5)
    one, same, other = (
        splits_of(store, asked.replace(**seeds))
        for seeds in ({"seed": 1}, {"seed": 2, "split_seed": 1}, {"seed": 2})
    )
    for part in ("train", "val", "test"):
        assert np.array_equal(getattr(one, part), getattr(same, part))
        assert not np.array_equal(getattr(one, part), getattr(other, part))


@pytest.mark.parametrize("fraction", [0.5, 0.25, 0.01])
def test_a_fraction_is_drawn_from_the_training_images_alone(fraction, tmp_path):
    store = store_of(tmp_path, {"train": LABELS, "val": [0, 1, 2], "test": [2, 1, 0]})
    splits = split(store, fraction=fraction)
    expected = {label: max(1, round(fraction * n)) for label, n in ((0, 40), (1, 20), (2, 4))}
    assert per_class(store, splits.train) == expected
    assert len(set(splits.train.tolist())) == len(splits.train)
    assert set(splits.train) < set(store.split("train"))
    assert np.array_equal(splits.val, store.split("val"))
    assert np.array_equal(splits.test, store.split("test"))


def test_a_fraction_leaves_the_test_split_as_it_is(tmp_path):
    store = store_of(tmp_path, {"all": LABELS})
    assert np.array_equal(split(store).test, split(store, fraction=0.5).test)


def test_splits_of_the_source_are_kept(tmp_path):
    store = store_of(tmp_path, {"train": LABELS, "val": [0, 1], "test": [2, 1]})
    splits = split(store)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [64, 2, 2]
    assert splits.note == ""


def test_without_val_it_is_drawn_from_train(tmp_path):
    store = store_of(tmp_path, {"train": LABELS, "test": [0, 1, 2]})
    splits = split(store)
    assert per_class(store, splits.val) == {0: 8, 1: 4, 2: 1}
    assert sorted([*splits.train, *splits.val]) == list(store.split("train"))
    assert np.array_equal(splits.test, store.split("test"))


def test_without_a_test_split_it_is_said(tmp_path):
    splits = split(store_of(tmp_path, {"train": LABELS, "val": [0, 1, 2]}))
    assert len(splits.test) == 0
    assert "no test split: the final figures are of the validation split" in splits.note


@pytest.mark.parametrize(
    "parts, options, what",
    [
        ({"all": [0, 0, 0, 1]}, {}, "test"),
        ({"all": [0, 0, 0, 1, 1]}, {}, "validation"),
        ({"train": [0, 0, 0, 1], "test": [0, 1]}, {}, "validation"),
        ({"train": [0, 0, 0, 1], "val": [0, 1]}, {"fraction": 0.5}, "training fraction"),
    ],
)
def test_a_class_with_too_few_images_is_an_error(parts, options, what, tmp_path):
    store = store_of(tmp_path, parts)
    with pytest.raises(DataError, match=f"'class 1' has 1 image left for the {what}") as caught:
        split(store, **options)
    assert "Add images of this class" in caught.value.hint


@pytest.mark.parametrize("parts", [{"test": [0, 1]}, {"val": [0, 1], "test": [0, 1]}])
def test_data_without_training_images_cannot_be_trained_on(parts, tmp_path):
    store = store_of(tmp_path, parts)
    with pytest.raises(DataError, match=f"has only the splits {', '.join(parts)}") as caught:
        split(store)
    assert "alexnet eval" in caught.value.hint


def test_a_store_with_heic_left_out_is_packed_again_once_they_can_be_read(tmp_path, monkeypatch):
    data = class_folders(tmp_path / "d", {"cat": 2, "dog": 2})
    (data / "cat" / "z.heic").write_bytes(encoded(smooth(), "PNG"))  # what it holds counts
    monkeypatch.setattr(images, "heic_is_there", lambda: False)
    assert len(open_data(data, image_size=8)) == 4
    assert len(open_data(data, image_size=8)) == 4
    monkeypatch.undo()
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "heic_is_there", lambda: True)
    monkeypatch.setattr(images, "_formats", lambda file: ["PNG"])
    assert len(open_data(data, image_size=8)) == 5


def test_files_that_are_read_and_not_decoded_yet_are_few(tmp_path, monkeypatch):
    data = class_folders(tmp_path / "d", {"cat": 9, "dog": 9}, size=(40, 40))
    sizes = {path.stat().st_size for path in data.rglob("*.png")}
    monkeypatch.setattr(datasets, "CHUNK_BYTES", 1)
    monkeypatch.setattr(datasets, "AHEAD_BYTES", 2 * max(sizes))
    read, decoded, waiting = 0, 0, []
    chunks, decode = datasets._chunks, datasets._Packing._decode

    def counting(source, most):
        nonlocal read
        for chunk in chunks(source, most):
            read += 1
            waiting.append(read - decoded)
            yield chunk

    def decoding(self, contents):
        nonlocal decoded
        found = decode(self, contents)
        decoded += 1
        return found

    monkeypatch.setattr(datasets, "_chunks", counting)
    monkeypatch.setattr(datasets._Packing, "_decode", decoding)
    assert len(open_data(data, image_size=8)) == 18
    assert max(waiting) <= 4
