"""The real data, where it is: real-data/{cifar10,tiny-imagenet-100,photos} and the 2012 weights."""

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alexnet
from alexnet.data import subset
from alexnet.data.datasets import open_data, pack
from alexnet.data.duplicates import find_duplicates, leaks
from alexnet.data.finding import read_source
from alexnet.data.splits import make_splits
from alexnet.network import weights
from alexnet.presets import RECIPES

HERE = Path(__file__).parent.parent / "real-data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_data,
    pytest.mark.skipif(not HERE.is_dir(), reason="real-data/ is not here"),
]


@pytest.fixture(autouse=True)
def shared_cache(own_cache, tmp_path_factory, monkeypatch):
    """Each data set is packed once, by whichever worker comes first; the other waits for it."""
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path_factory.getbasetemp().parent / "real-cache"))


def brief(name, **changes):
    return dataclasses.replace(
        RECIPES[name].recipe, epochs=1, warmup=0.0, tensorboard=False, report=False, **changes
    )


def test_photos_of_every_size(tmp_path):
    run = alexnet.train(HERE / "photos", brief("folder"), out=tmp_path / "run")
    model = alexnet.load(run)
    assert len(model.classes_) == 6
    paths = sorted((HERE / "photos").glob("*/*.jpg"))
    assert len(paths) == 193
    assert model.predict_proba(paths[::20]).shape == (10, 6)


def test_cifar10_learns_from_a_tenth(tmp_path):
    run = alexnet.train(
        HERE / "cifar10", brief("cifar10", fraction=0.1, width=0.25), out=tmp_path / "run"
    )
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["n"] == 5000
    assert figures["split"] == "test"
    assert figures["top1"] > 0.2  # chance is 0.1


def part_of_tiny_imagenet(target, count=10):
    """The official layout with fewer classes."""
    whole = HERE / "tiny-imagenet-100"
    names = sorted(path.name for path in (whole / "train").iterdir())[:count]
    for name in names:
        shutil.copytree(whole / "train" / name, target / "train" / name)
    (target / "val" / "images").mkdir(parents=True)
    lines = (whole / "val" / "val_annotations.txt").read_text().splitlines(keepends=True)
    lines = [line for line in lines if line.split("\t")[1] in names]
    (target / "val" / "val_annotations.txt").write_text("".join(lines))
    for line in lines:
        image = Path("val", "images", line.split("\t")[0])
        shutil.copy(whole / image, target / image)
    (target / "wnids.txt").write_text("\n".join(names))
    shutil.copy(whole / "words.txt", target)
    shutil.copytree(whole / "test", target / "test")
    return target


def test_tiny_imagenet_from_a_folder_and_from_a_zip_is_the_same(tmp_path):
    folder = part_of_tiny_imagenet(tmp_path / "tiny-imagenet-10")
    archive = tmp_path / "tiny-imagenet-10.zip"
    with zipfile.ZipFile(archive, "w", strict_timestamps=False) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(tmp_path))
    stores = [open_data(source, image_size=64) for source in (folder, archive)]
    assert stores[0].path == stores[1].path
    store = stores[0]
    assert store.x.shape == (5_500, 3, 64, 64)  # stored as they are, enlarged in the batch
    splits = make_splits(store, val_size=0.1, test_size=0.2, fraction=1.0, seed=0)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [4_500, 500, 500]
    assert np.bincount(store.y[splits.test]).tolist() == [50] * 10
    assert store.names[store.classes.index("n01443537")] == "goldfish"
    assert any("200 images without labels" in text for text in store.info["left_out"])
    grey = 0
    for path in (p for part in ("train", "val") for p in (folder / part).rglob("*.JPEG")):
        with Image.open(path) as image:
            grey += image.mode == "L"
    assert store.info["greyscale"]["found"] == grey > 0


def test_frozen_layers_of_the_2012_network_on_tiny_image10(tmp_path):
    weights.import_weights(HERE / "bvlc_alexnet_q7_int8.npz", "bvlc")
    part = subset.tiny_image10(read_source(HERE / "tiny-imagenet-100"))
    assert len(part.examples) == 5000
    assert [one.split for one in part.examples].count("train") == 4000
    halves = {one.id.rpartition("/")[2]: one.split for one in part.examples}
    assert (halves["n01443537_7.JPEG"], halves["n01443537_93.JPEG"]) == ("val", "test")
    assert (halves["n01629819_7.JPEG"], halves["n01629819_93.JPEG"]) == ("test", "val")
    recipe = dataclasses.replace(
        RECIPES["tiny-image10-frozen"].recipe, weights="bvlc", image_size=131, fraction=0.25,
        epochs=5, views=1, cached_views=1, flip=False, finetune_epochs=0, tensorboard=False,
        report=False,
    )  # fmt: skip
    run = alexnet.train(
        pack(part, "tiny-image10", image_size=131, greyscale="keep").path,
        recipe,
        out=tmp_path / "run",
    )
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["top1"] > 0.5  # of 10 classes, from 100 images of each


def test_near_duplicates_of_cifar10():
    store = open_data(HERE / "cifar10", image_size=32)
    found = find_duplicates(store)
    leaky = leaks(store, store.split("test"), store.split("train"))
    assert 125 <= len(leaky) <= 145  # 135; ciFAIR (2020) lists 286 of all 10,000 test images
    assert 600 <= len(found.near) <= 700
    assert not found.exact and not found.blank
    assert find_duplicates(open_data(HERE / "photos", image_size=64)).groups == []
