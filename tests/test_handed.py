"""What a Python program holds: the same pixels, labels and weights as class folders."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from makers import TINY, encoded, tensors_sha256
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import alexnet
from alexnet.data.datasets import open_data, outline
from alexnet.data.handed import given, labelled
from alexnet.errors import DataError

random = np.random.default_rng(0)
PIXELS = random.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = ["cat", "dog"] * 6
ORDER = sorted(range(12), key=lambda place: (LABELS[place], place))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same as class folders."""
    root = tmp_path_factory.mktemp("handed") / "photos"
    for place, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        (root / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / f"{label}/{place:02}.png")
    return root


class Rows:
    """A torch Dataset."""

    classes = ("cat", "dog")

    def __len__(self):
        return 12

    def __getitem__(self, place):
        if place >= 12:
            raise IndexError
        return torch.from_numpy(PIXELS[place]).permute(2, 0, 1) / 255, LABELS[place] == "dog"


def hugging_face(split=slice(None)):
    """What of a Dataset of theirs is used, without their package."""
    rows = [
        {"image": Image.fromarray(pixels), "label": int(label == "dog")}
        for pixels, label in zip(PIXELS[split], LABELS[split], strict=True)
    ]
    return type(
        "Dataset",
        (),
        {
            "column_names": ["label", "image"],
            "features": {
                "image": type("Image", (), {})(),
                "label": type("ClassLabel", (), {"names": ["cat", "dog"]})(),
            },
            "__len__": lambda self: len(rows),
            "__getitem__": lambda self, key: (
                rows[key] if isinstance(key, int) else [row[key] for row in rows]
            ),
        },
    )()


KINDS: dict[str, Any] = {
    "arrays": lambda: (PIXELS, LABELS),
    "numbers": lambda: (PIXELS, np.array([["cat", "dog"].index(one) for one in LABELS])),
    "channels first": lambda: (PIXELS.transpose(0, 3, 1, 2), np.array(LABELS)),
    "floats": lambda: ((PIXELS / 255).astype(np.float32), LABELS),
    "tensors": lambda: (torch.from_numpy(PIXELS), torch.tensor([0, 1] * 6)),
    "Pillow images": lambda: ([Image.fromarray(one) for one in PIXELS], LABELS),
    "a generator of pairs": lambda: (one for one in zip(PIXELS, LABELS, strict=True)),
    "a list of pairs": lambda: list(zip(PIXELS, LABELS, strict=True)),
    "a list of rows": lambda: [
        {"img": {"bytes": encoded(Image.fromarray(one)), "path": None}, "label": label}
        for one, label in zip(PIXELS, LABELS, strict=True)
    ],
    "a torch Dataset": Rows,
    "Hugging Face": hugging_face,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_the_same_as_class_folders(kind, folder):
    expected = open_data(folder, image_size=8)
    found = open_data(given(KINDS[kind]()), image_size=8)
    for name in ("x.bin", "y.npy"):
        assert found.info["sha256"][name] == expected.info["sha256"][name]
    named = kind not in ("numbers", "tensors")
    assert found.classes == (["cat", "dog"] if named else ["0", "1"])


def test_paths_with_labels_are_the_files(folder):
    paths = [folder / f"{label}/{place:02}.png" for place, label in enumerate(LABELS)]
    found = open_data(given((paths, LABELS)), image_size=8)
    expected = open_data(folder, image_size=8)
    for name in ("x.bin", "y.npy", "content.npy"):
        assert found.info["sha256"][name] == expected.info["sha256"][name]


def test_a_frame_holds_paths_or_pictures(folder, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(folder)
    expected = open_data(folder, image_size=8)
    paths = [f"{label}/{place:02}.png" for place, label in enumerate(LABELS)]
    frame = pandas.DataFrame({"file": paths, "animal": LABELS, "film": [1.0, None] * 6})
    found = open_data(labelled(frame, label_column="animal", group="film"), image_size=8)
    assert found.info["sha256"]["x.bin"] == expected.info["sha256"]["x.bin"]
    assert len(set(found.groups.tolist())) == 7  # without a group each is alone
    assert open_data(labelled(frame, label_column="animal"), image_size=8).fingerprint == (
        expected.fingerprint
    )
    with pytest.raises(DataError, match="does not show which column holds the label"):
        given(frame)
    pictures = pandas.DataFrame({"pic": list(PIXELS), "label": LABELS, "film": [0, 1, 2] * 4})
    found = open_data(labelled(pictures, group="film"), image_size=8)
    assert found.info["sha256"]["x.bin"] == expected.info["sha256"]["x.bin"]
    assert set(found.groups.tolist()) == {0, 1, 2}


def test_whole_paths_of_a_frame_lead_wherever_they_do(folder, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    paths = [folder / f"{label}/{place:02}.png" for place, label in enumerate(LABELS)]
    found = open_data(given(pandas.DataFrame({"file": paths, "label": LABELS})), image_size=8)
    assert found.fingerprint == open_data(folder, image_size=8).fingerprint


def test_tensors_of_numbers_that_numpy_has_not():
    pictures = torch.rand(12, 3, 8, 8).bfloat16()
    found, same = (
        open_data(given((one, LABELS)), image_size=8) for one in (pictures, pictures.float())
    )
    assert found.info["sha256"]["x.bin"] == same.info["sha256"]["x.bin"]


def test_splits_are_given_by_name():
    source = given({"train": hugging_face(slice(8)), "test": hugging_face(slice(8, 12))})
    assert [one.split for one in source.examples] == ["train"] * 8 + ["test"] * 4
    assert outline(source) == (8, ["cat", "dog"], False)
    assert [one.split for one in given({"train": (PIXELS, LABELS)}).examples] == ["train"] * 12
    with pytest.raises(DataError, match="'holdout' is no split"):
        given({"train": hugging_face(), "holdout": hugging_face()})


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_groups_may_be_given_beside_arrays(kind):
    data = labelled((PIXELS, LABELS), group=kind([place // 4 for place in range(12)]))
    store = open_data(data, image_size=8)
    assert sorted(store.groups.tolist()) == [0] * 4 + [1] * 4 + [2] * 4


def test_what_is_not_upright_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(Image.fromarray(PIXELS[0]), "PNG", exif=exif)
    image = Image.open(io.BytesIO(turned))
    store = open_data(given(([image, *PIXELS[1:]], LABELS)), image_size=8)
    assert (store.x[0] == np.rot90(PIXELS[0], -1).transpose(2, 0, 1)).all()


WRONG: dict[str, tuple[Any, str]] = {
    "lengths": (lambda: (PIXELS, LABELS[:-1]), "12 images and 11 labels"),
    "groups": (lambda: labelled((PIXELS, LABELS), group=[1]), "12 images and 1 groups"),
    "floats to 255": (lambda: (PIXELS.astype("float32"), LABELS), "image 0 holds numbers from"),
    "NaN": (lambda: (np.where(np.arange(12)[:, None, None, None] == 7, np.nan, PIXELS / 255),
                     LABELS), "image 7 holds numbers from nan"),
    "flattened": (lambda: (PIXELS.reshape(12, -1), LABELS), r"shape \(12, 192\)"),
    "one-hot": (lambda: (PIXELS, np.eye(2)[[0, 1] * 6]), "labels.argmax"),
    "a column": (lambda: (PIXELS, np.array(LABELS)[:, None]), r"shape \(12, 1\)"),
    "swapped": (lambda: list(zip(LABELS, map(Image.fromarray, PIXELS), strict=True)),
                "label 0 is of type Image; expected the name"),
    "missing in pandas": (lambda: [{"image": one, "label": pytest.importorskip("pandas").NA}
                                    for one in PIXELS], "place 0 .* has no label"),
    "a list of labels": (lambda: [(one, ["cat"]) for one in PIXELS], "label 0 is of type list"),
    "a missing label": (lambda: (PIXELS, [*LABELS[:-1], None]), "place 11 .* has no label"),
    "a fraction": (lambda: (PIXELS, [0.5] * 12), "label 0 is 0.5"),
    "labels that differ by a space": (lambda: (PIXELS, [*LABELS[:-1], "cat "]), "spaces only"),
    "wide integers": (lambda: (PIXELS.astype("int64"), LABELS), "images are int64; expected uint8"),
    "images alone": (lambda: PIXELS, r"Hand their labels over with the images: \(images, labels"),
    "no pair": (lambda: [1, 2], "item 0 is a int"),
    "no pair, in no order": (lambda: {1, 2}, "item 0 is a int"),
    "two numbers": (lambda: (5, 7), "a int and a int are no images"),
    "no dimension": (lambda: (np.array(5), np.array(1)), "a ndarray and a ndarray are no images"),
    "batches": (lambda: DataLoader(TensorDataset(torch.zeros(3))), "DataLoader gives batches"),
    "a row without a label": (lambda: [{"image": PIXELS[0]}], "a dictionary of image"),
    "a number": (lambda: 7, "a int is no data"),
    "a pattern": (lambda: labelled((PIXELS, LABELS), label_pattern="(.)"), "held by a program"),
    "groups of a path": (lambda: labelled("photos", group=[1]), "not with a path"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_with_its_place(kind):
    make, words = WRONG[kind]
    with pytest.raises(DataError, match=words) as caught:
        given(make())
    assert caught.value.hint


def test_a_picture_that_is_none_is_a_bad_image():
    pictures = [*PIXELS[:-1], np.zeros((8, 8, 7), np.uint8)]
    with pytest.raises(DataError, match=r"11 \(dog\): cannot be read .*shape \(8, 8, 7\)"):
        open_data(given((pictures, LABELS)), image_size=8)


@pytest.mark.slow
def test_the_same_weights_as_from_class_folders(tmp_path):
    """Drawn splits follow the bytes of files, which arrays do not have: here they are given."""
    splits = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}
    for split, rows in splits.items():
        for place in rows:
            file = tmp_path / f"d/{split}/{LABELS[place]}/{place:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIXELS[place]).save(file)
    data = {
        split: (PIXELS[list(rows)], [LABELS[place] for place in rows])
        for split, rows in splits.items()
    }
    recipe = TINY.replace(epochs=1)
    one = alexnet.train(tmp_path / "d", recipe, out=tmp_path / "one")
    other = alexnet.train(data, recipe, out=tmp_path / "other")
    assert tensors_sha256(one / "best.safetensors") == tensors_sha256(other / "best.safetensors")
    assert alexnet.evaluate(other)["n"] == alexnet.evaluate(one, data)["n"] == 3
    alexnet.report(other)
    assert alexnet.check(data)


@pytest.mark.slow
def test_a_run_keeps_what_it_was_handed(tmp_path):
    run = alexnet.train((PIXELS, LABELS), TINY.replace(epochs=1), out=tmp_path / "run")
    assert alexnet.evaluate(run)["n"] == 2
    again = alexnet.train((PIXELS, LABELS), TINY.replace(epochs=1), out=tmp_path / "again")
    assert tensors_sha256(run / "best.safetensors") == tensors_sha256(again / "best.safetensors")
