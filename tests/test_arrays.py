"""Images that lie together in one file: the same pixels and labels as class folders."""

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
from makers import TINY, encoded, snapshot, tensors_sha256
from PIL import Image

import alexnet
from alexnet.data import plain_pickle
from alexnet.data.arrays import role_of
from alexnet.data.datasets import open_data
from alexnet.data.finding import find_data, listed
from alexnet.data.handed import labelled
from alexnet.errors import DataError

random = np.random.default_rng(0)
NAMES = ["cat", "dog", "eel"]
SPLITS = {"train": 9, "test": 6}
PIXELS = {s: random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for s, n in SPLITS.items()}
GREY = {s: pixels[..., 0] for s, pixels in PIXELS.items()}
LABELS = {s: (np.arange(n) * 2 % 3).astype(np.int64) for s, n in SPLITS.items()}
PLANES = {s: pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1) for s, pixels in PIXELS.items()}


def cifar_100(root):
    for split in SPLITS:
        rows = np.concatenate(
            [LABELS[split][:, None] * 0, LABELS[split][:, None], PLANES[split]], axis=1
        )
        (root / f"{split}.bin").write_bytes(rows.astype(np.uint8).tobytes())
    (root / "fine_label_names.txt").write_text("\n".join(NAMES))
    (root / "coarse_label_names.txt").write_text("animal\nplant")


def cifar_10_python(root, protocol=2):
    write: dict[str, Any] = {"batches.meta": {"label_names": NAMES}}
    halves = np.array_split(np.arange(SPLITS["train"]), 2)
    for number, rows in enumerate(halves, 1):
        labels = LABELS["train"][rows].tolist()
        write[f"data_batch_{number}"] = {"data": PLANES["train"][rows], "labels": labels}
    write["test_batch"] = {"data": PLANES["test"], "labels": LABELS["test"].tolist()}
    for name, found in write.items():
        (root / name).write_bytes(pickle.dumps(found, protocol=protocol))


def cifar_100_python(root):
    for split in SPLITS:
        found = {"data": PLANES[split], "fine_labels": LABELS[split].tolist()}
        found["coarse_labels"] = [0] * SPLITS[split]
        (root / split).write_bytes(pickle.dumps(found))
    about = {"fine_label_names": NAMES, "coarse_label_names": ["animal"]}
    (root / "meta").write_bytes(pickle.dumps(about))


def idx(array):
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def mnist(root, packed=False):
    for split in SPLITS:
        start = {"train": "train", "test": "t10k"}[split]
        for name, array in (
            (f"{start}-images-idx3-ubyte", GREY[split]),
            (f"{start}-labels-idx1-ubyte", LABELS[split].astype(np.uint8)),
        ):
            content = idx(array)
            (root / (name + ".gz" * packed)).write_bytes(
                gzip.compress(content) if packed else content
            )


def npz(root):
    found: dict[str, Any] = {}
    for split in SPLITS:
        found[f"x_{split}"] = PIXELS[split]
        found[f"y_{split}"] = LABELS[split][:, None]
    np.savez(root / "data.npz", **found, class_names=np.array(NAMES))


def parquet(root):
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet as writer

    features = {"label": {"names": NAMES, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    (root / "data").mkdir()
    for split in SPLITS:
        halves = np.array_split(np.arange(SPLITS[split]), 2)
        for number, rows in enumerate(halves):
            pictures = [
                {"bytes": encoded(Image.fromarray(PIXELS[split][row])), "path": f"{row}.png"}
                for row in rows
            ]
            table = pyarrow.table({"image": pictures, "label": LABELS[split][rows]})
            file = root / f"data/{split}-{number:05}-of-00002.parquet"
            writer.write_table(table.replace_schema_metadata(about), file)


MAKERS = {
    "CIFAR-100": cifar_100, "CIFAR-10 python": cifar_10_python,
    "CIFAR-10 python 3": lambda root: cifar_10_python(root, 4),
    "CIFAR-100 python": cifar_100_python, "npz": npz, "Parquet": parquet, "MNIST": mnist,
    "MNIST, compressed": lambda root: mnist(root, packed=True),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{pixels: the same as class folders}"""
    found = {}
    for kind, pixels in {"colour": PIXELS, "grey": GREY}.items():
        root = found[kind] = tmp_path_factory.mktemp("arrays") / kind
        for split in SPLITS:
            for place, (one, label) in enumerate(zip(pixels[split], LABELS[split], strict=True)):
                name = NAMES[label] if kind == "colour" else str(label)
                file = root / f"{split}/{name}/{place:03}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(one).save(file)
    return found


@pytest.mark.parametrize("kind", MAKERS)
def test_each_kind_is_the_same_as_class_folders(kind, folders, tmp_path):
    (tmp_path / "d").mkdir()
    MAKERS[kind](tmp_path / "d")
    before = snapshot(tmp_path / "d")
    expected = open_data(folders["grey" if "MNIST" in kind else "colour"], image_size=32)
    alone = tmp_path / "d/data.npz"
    places = [alone] if alone.exists() else [tmp_path / "d"]
    if not alone.exists():
        shutil.make_archive(str(tmp_path / "z"), "zip", tmp_path, "d")
        shutil.make_archive(str(tmp_path / "t"), "gztar", tmp_path, "d")
        places += [tmp_path / "z.zip", tmp_path / "t.tar.gz"]
    for place in places:
        found = open_data(place, image_size=32)
        assert found.classes == expected.classes
        assert found.info["splits"] == expected.info["splits"]
        for name in ("x.bin", "y.npy"):
            assert found.info["sha256"][name] == expected.info["sha256"][name], place
    assert snapshot(tmp_path / "d") == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_each_kind_gives_the_same_weights(kind, folders, tmp_path):
    """As the same arrays, which test_handed.py holds to class folders; Parquet holds files, and is
    held to class folders itself."""
    (tmp_path / "d").mkdir()
    MAKERS[kind](tmp_path / "d")
    pixels = GREY if "MNIST" in kind else PIXELS
    names = [str(label) for label in range(3)] if "MNIST" in kind else NAMES
    data: Any = {s: (pixels[s], [names[label] for label in LABELS[s]]) for s in SPLITS}
    if kind == "Parquet":
        data = folders["colour"]
    recipe = TINY.replace(epochs=1, val_size=0.3)
    place = tmp_path / "d/data.npz" if kind == "npz" else tmp_path / "d"
    one = alexnet.train(place, recipe, out=tmp_path / "run")
    other = alexnet.train(data, recipe, out=tmp_path / "other")
    assert tensors_sha256(one / "best.safetensors") == tensors_sha256(other / "best.safetensors")


def test_coarse_labels_may_be_chosen(tmp_path):
    cifar_100(tmp_path)
    source = listed(find_data(labelled(tmp_path, label_column="coarse")))
    assert source.classes == ["animal"]


def test_a_single_parquet_file_and_one_of_paths(tmp_path):
    parquet(tmp_path)
    source = listed(find_data(str(tmp_path / "data/train-00000-of-00002.parquet")))
    assert len(source.examples) == 5 and set(source.classes) <= set(NAMES)


def test_a_zip_for_each_class(tmp_path):
    for label, name in enumerate(NAMES):
        with zipfile.ZipFile(tmp_path / f"{name}-samples.zip", "w") as archive:
            for number, pixels in enumerate(PIXELS["train"][LABELS["train"] == label]):
                archive.writestr(f"{number}.png", encoded(Image.fromarray(pixels)))
    store = open_data(tmp_path, image_size=32)
    assert store.classes == NAMES and store.y.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert store.ids[0] == "cat-samples.zip/0.png"
    assert (store.x[0] == PIXELS["train"][0].transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("x_train.npy", ("pictures", "train")),
        ("val_labels.npy", ("labels", "val")),
        ("t10k-images-idx3-ubyte", ("pictures", "test")),
        ("emnist-letters-train-labels-idx1-ubyte.gz", ("labels", "train")),
        ("class_names.npy", ("names", "all")),
        ("X.npy", ("pictures", "all")),
        ("weights.npy", ("", "")),
    ],
)
def test_names_say_what_arrays_hold(name, role):
    assert role_of(name) == role


def wrong_lengths(root):
    np.savez(root / "a.npz", x_train=PIXELS["train"], y_train=LABELS["train"][:-1])


def no_labels(root):
    np.savez(root / "a.npz", x_train=PIXELS["train"])


def objects(root):
    np.savez(root / "a.npz", x_train=PIXELS["train"], y_train=np.array([{}] * 9, dtype=object))


def one_hot(root):
    np.savez(root / "a.npz", x=PIXELS["train"], y=np.eye(3)[LABELS["train"]])


def cut_idx(root):
    mnist(root)
    whole = (root / "train-images-idx3-ubyte").read_bytes()
    (root / "train-images-idx3-ubyte").write_bytes(whole[:-1])


def cut_cifar(root):
    cifar_100(root)
    (root / "train.bin").write_bytes((root / "train.bin").read_bytes()[:-1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (wrong_lengths, "9 images and 8 labels"),
        (no_labels, "x_train.npy has no labels beside it"),
        (objects, "y_train.npy cannot be read .*allow_pickle"),
        (one_hot, "one label for an image"),
        (cut_idx, "train-images-idx3-ubyte cannot be read .*9,215 bytes"),
        (cut_cifar, "train.bin has 27,665 bytes, expected a multiple of 3,074"),
    ],
)
def test_what_is_wrong_is_said_with_its_file(make, words, tmp_path):
    make(tmp_path)
    file = tmp_path / "a.npz"
    with pytest.raises(DataError, match=words) as caught:
        listed(find_data(str(file if file.exists() else tmp_path)))
    assert caught.value.hint


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


class Deep:
    def __reduce__(self):
        return eval, ("__import__('os').mkdir('evil')",)


@pytest.mark.parametrize(
    "value",
    [
        Evil(), Deep(), {"data": [Evil()]}, np.array([Evil()], dtype=object), {1, 2}, len,
        np.array(["a"]), np.datetime64("2024"), complex(1, 2),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_of_anything_else_are_refused_and_nothing_runs(
    value, protocol, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").write_bytes(pickle.dumps(value, protocol=protocol))
    with open(tmp_path / "p", "rb") as file, pytest.raises(DataError, match="nothing of it was"):
        plain_pickle.load(file, "p")
    assert not (tmp_path / "evil").exists()


def test_a_pickle_that_wants_gigabytes_is_refused():
    content = b"\x80\x02Nr" + struct.pack("<I", 2_000_000_000) + b"."
    with pytest.raises(DataError, match="place 2,000,000,000 in 9 bytes"):
        plain_pickle.load(io.BytesIO(content), "p")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_arrays_are_what_they_were(protocol, tmp_path):
    value: dict[str, Any] = {
        "a": np.arange(6, dtype=">i2").reshape(2, 3),
        "b": [1, 2.5, "x", b"y", None],
    }
    value |= {"f": np.asfortranarray(np.eye(3)), "n": np.float32(7)}
    (tmp_path / "p").write_bytes(pickle.dumps(value, protocol=protocol))
    with open(tmp_path / "p", "rb") as file:
        found = plain_pickle.load(file, "p")
    for key in ("a", "f"):
        assert np.array_equal(found[key], value[key]) and found[key].dtype == value[key].dtype
    assert found["b"] == value["b"] and found["n"] == 7
