"""Explanations: against formulas by hand, a reference Grad-CAM, and scikit-learn's neighbours."""

import base64
import dataclasses
import io
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from makers import TINY, change, network_of, noise, picture, snapshot, write_pictures
from PIL import Image
from sklearn.datasets import load_sample_image
from sklearn.neighbors import NearestNeighbors
from torch import nn

import alexnet
from alexnet.classification import explanation
from alexnet.cli import main
from alexnet.data import augment
from alexnet.data.store import Store
from alexnet.errors import DataError, RunError
from alexnet.explaining import showcase
from alexnet.explaining.panels import explain_files, file_name, shortened
from alexnet.explaining.showcase import data_uri, illustrate, spread
from alexnet.network import saliency as explain
from alexnet.network.description import Preprocessing, architecture
from alexnet.network.model import AlexNet
from alexnet.network.weight_names import weights_folder
from alexnet.recipes import IMAGENET_MEAN, IMAGENET_STD
from alexnet.runs.directory import RunDirectory
from alexnet.runs.own_data import own_data

SEEN = Preprocessing(224, 224, IMAGENET_MEAN, IMAGENET_STD)


def photograph(side):
    """A real photograph, (1, 3, side, side) normalised: scikit-learn's picture of a flower."""
    pixels = torch.from_numpy(load_sample_image("flower.jpg")[:, 100:527].copy()).permute(2, 0, 1)
    return augment.normalise(augment.resize(pixels[None], side), IMAGENET_MEAN, IMAGENET_STD)


def network(base, classes=7, **changes):
    torch.manual_seed(0)
    return AlexNet(architecture(base, width=0.125, **changes), classes).eval()


def reference_grad_cam(model, layer, x, label):
    """Selvaraju et al. (2017), equations 1 and 2, by hooks on a layer of any network."""
    seen = {}
    handles = [
        layer.register_forward_hook(lambda _, __, out: seen.update(maps=out.detach().clone())),
        layer.register_full_backward_hook(lambda _, __, grads: seen.update(gradient=grads[0])),
    ]
    model.zero_grad()
    model(x)[0, label].backward()
    for handle in handles:
        handle.remove()
    maps, gradient = seen["maps"][0], seen["gradient"][0]
    total = sum(gradient[k].mean() * maps[k] for k in range(len(maps)))
    cam = total.clamp(min=0)
    return cam / cam.max() if cam.max() > 0 else cam


@pytest.mark.slow
def test_grad_cam_equals_a_reference_on_torchvisions_network():
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet(num_classes=10).eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    ours = AlexNet(architecture("2014"), 10, "torch")
    ours.load_state_dict(theirs.state_dict())
    x = photograph(224)
    ours.train()  # dropout must not matter, and the mode must stay
    ours.requires_grad_(False)  # nor that layers are frozen
    cams = explain.grad_cam(ours, x.expand(3, -1, -1, -1), torch.tensor([0, 4, 7]))
    assert ours.training
    assert cams.shape == (3, 13, 13)
    for cam, label in zip(cams, (0, 4, 7), strict=True):
        expected = reference_grad_cam(theirs, theirs.features[11], x, label)
        torch.testing.assert_close(cam, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(cams[0], cams[1], atol=0.01)
    best = theirs(x).argmax(1)
    torch.testing.assert_close(explain.grad_cam(ours, x), explain.grad_cam(ours, x, best))


VARIANTS = [
    (base, {"conv_layers": convs, "norm": norm, "pool": pool, "fc_layers": fcs})
    for (base, norm), (convs, pool, fcs) in itertools.product(
        [("2012", "lrn"), ("2012", "batch"), ("2014", "none"), ("2014", "batch")],
        [(5, "overlapping", 3), (4, "max", 1), (3, "average", 2)],
    )
] + [
    ("2014", {"activation": "tanh"}),
    ("2012", {"norm": "batch-for-lrn", "columns": 1}),
    ("2012", {"activation": "leaky-relu", "fc_norm": "batch"}),
]


@pytest.mark.parametrize(("base", "changes"), VARIANTS)
def test_grad_cam_of_every_variant(base, changes):
    model = network(base, **changes)
    for layer in model.modules():  # what batch normalisation has learned
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
    x = photograph(67)
    place = max(i for i, one in enumerate(model.features) if isinstance(one, explain.ACTIVATIONS))
    highest = []
    for label in range(3):
        ours = explain.grad_cam(model, x, torch.tensor([label]))[0]
        expected = reference_grad_cam(model, model.features[place], x, label)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        highest.append(float(ours.max()))
    assert 1 in highest


@pytest.mark.parametrize("pool", ["max", "overlapping"])
def test_grad_cam_of_a_network_that_pools_first_is_that_of_its_twin_that_pools_last(pool):
    model = network("small", pool=pool)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
    [*below, conv, pooling, norm, activation] = model.features
    twin = nn.Sequential(
        *below, conv, norm, activation, pooling, model.avgpool, nn.Flatten(), *model.classifier
    ).eval()
    x = photograph(64)
    torch.testing.assert_close(twin(x), model(x))
    for label in range(3):
        ours = explain.grad_cam(model, x, torch.tensor([label]))[0]
        assert ours.shape == ((7, 7) if pool == "overlapping" else (8, 8))
        expected = reference_grad_cam(twin, activation, x, label)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_where_nothing_speaks_for_a_class_the_map_is_zero():
    model = network("2014", fc_layers=1, map_side=1)
    with torch.no_grad():
        model.classifier[-1].weight[1] = 1.0
        model.classifier[-1].weight[2] = -1.0  # every unit speaks against it
    cam = explain.grad_cam(model, photograph(67), torch.tensor([2]))
    assert (cam == 0).all()
    assert explain.grad_cam(model, photograph(67), torch.tensor([1])).max() == 1


class Window(nn.Module):
    """Two classes; the logit of the second is the sum of a window of the first channel."""

    def forward(self, x):
        total = x[:, 0, 4:6, 2:4].sum((1, 2))
        return torch.stack([torch.zeros_like(total), total], 1)


def test_occlusion_is_the_drop_of_the_probability():
    x = torch.ones(3, 8, 8)
    drop = explain.occlusion(Window(), x, 1, patch=2, stride=2)
    assert drop.shape == (4, 4)
    expected = torch.zeros(4, 4)
    expected[2, 1] = torch.sigmoid(torch.tensor(4.0)) - 0.5
    torch.testing.assert_close(drop, expected)
    torch.testing.assert_close(explain.occlusion(Window(), x, 0, 2, 2), -expected)
    wider = explain.occlusion(Window(), x, 1, patch=4, stride=2)  # squares hang over the edge
    assert (wider > 0.01).nonzero().tolist() == [[i, j] for i in (1, 2, 3) for j in (0, 1, 2)]
    assert explain.occlusion(Window(), x[:, :7], 1, 3, 3).shape == (3, 3)


@pytest.mark.parametrize(
    ("length", "patch", "stride"), [(8, 2, 2), (227, 37, 18), (9, 2, 1), (5, 9, 4)]
)
def test_every_pixel_is_hidden_equally_often_but_at_the_edge(length, patch, stride):
    hidden = explain.hidden(length, patch, stride)
    assert hidden.shape == (-(-length // stride), length)
    assert hidden.sum(1).max() == min(patch, length)
    assert hidden.any(0).all()
    for place, row in enumerate(hidden):
        middle = row.nonzero().float().mean() + 0.5
        if row.sum() == patch:
            assert abs(middle - (place + 0.5) * stride) <= 0.5


def test_filters_are_a_grid_of_rgb_tiles():
    model = network("2014")
    with torch.no_grad():
        model.features[0].weight.zero_()
        model.features[0].weight[1, 0] = 0.5  # the second filter wants red
        model.features[0].weight[2, 2] = -0.25  # the third wants no blue
    image = explain.first_layer_filters(model)
    tile = 11 * 2 + 2
    assert image.dtype == np.uint8
    assert image.shape == (2 * tile, 4 * tile, 3)  # 8 filters
    assert (image[5, 5] == 128).all()
    assert image[5, tile + 5].tolist() == [255, 128, 128]
    assert image[5, 2 * tile + 5].tolist() == [128, 128, 0]
    assert (image[:, 0] == 255).all()
    assert (image[0] == 255).all()


@pytest.mark.parametrize(
    ("count", "shape"), [(96, (8, 12)), (64, (8, 8)), (13, (4, 4)), (1, (1, 1))]
)
def test_filters_stand_in_rows(count, shape):
    model = network("small")
    model.features[0] = nn.Conv2d(3, count, 3)
    height, width, _ = explain.first_layer_filters(model).shape
    side = 3 * (22 // 3) + 2
    assert (height // side, width // side) == shape


def test_exciting_images_are_those_with_the_highest_maxima():
    model = network("2014")
    x = torch.cat([photograph(67).roll(7 * shift, 3) * (1 + shift / 4) for shift in range(9)])
    with torch.no_grad():
        maxima = explain.excitement(model)(x)
        place = max(i for i, one in enumerate(model.features) if isinstance(one, nn.ReLU))
        maps = nn.Sequential(*list(model.features)[: place + 1])(x)
    torch.testing.assert_close(maxima, maps.flatten(2).amax(2))
    found = explain.exciting_images(maxima.numpy(), units=4, images=3)
    assert 0 < len(found) <= 4
    assert next(iter(found)) == maxima.var(0).argmax()
    for unit, rows in found.items():
        assert rows.tolist() == np.argsort(-maxima[:, unit].numpy(), kind="stable")[:3].tolist()


def test_units_are_those_that_vary_most_and_differ():
    one, other = np.random.default_rng(0).normal(size=(2, 40)).astype(np.float32)
    maxima = np.stack([0.1 * other, 3 * one, np.ones_like(one), 2 * other, -2.5 * one], 1)
    assert list(explain.exciting_images(maxima)) == [1, 3]
    assert list(explain.exciting_images(maxima, units=1)) == [1]
    [rows] = explain.exciting_images(maxima[:2, 1:2], images=6).values()
    assert rows.tolist() == np.argsort(-maxima[:2, 1]).tolist()


def test_excitement_of_a_network_that_pools_first_is_that_of_its_maps():
    model = network("small")
    x = photograph(64)
    before, activate, after = explain.parts(model)
    with torch.no_grad():
        torch.testing.assert_close(after(activate(before(x))), model(x))
        maps = explain.without_pooling(activate)(before(x))
        torch.testing.assert_close(explain.excitement(model)(x), maps.flatten(2).amax(2))
    assert maps.shape[-1] > activate(before(x)).shape[-1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_neighbours_equal_scikit_learns(dtype, monkeypatch):
    monkeypatch.setattr(explain, "CHUNK", 7)
    generator = np.random.default_rng(0)
    gallery = generator.normal(size=(50, 12)).astype(dtype)
    queries = gallery[[3, 49]] * 2 + generator.normal(size=(2, 12)).astype(dtype) * 0.1
    distances, rows = explain.nearest_neighbours(queries, gallery, 5)
    theirs = NearestNeighbors(n_neighbors=5, metric="cosine").fit(gallery.astype(np.float64))
    expected, places = theirs.kneighbors(queries.astype(np.float64))
    assert rows.tolist() == places.tolist()
    assert rows[:, 0].tolist() == [3, 49]
    assert np.allclose(distances, expected, atol=1e-4)
    every, _ = explain.nearest_neighbours(queries, gallery, 99)
    assert every.shape == (2, 50)


def test_pictures_are_what_went_in():
    pixels = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    x = augment.normalise(pixels, SEEN.mean, SEEN.std)
    assert np.array_equal(explain.pictures(x, SEEN), pixels.permute(0, 2, 3, 1).numpy())


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "colours")


@pytest.fixture
def run(folder, tmp_path):
    return alexnet.train(folder, change(), out=tmp_path / "run")


def opened(path):
    with Image.open(path) as image:
        return image.size, np.asarray(image.convert("RGB"))


@pytest.mark.slow
def test_explain_writes_a_picture_for_each_image(run, folder, tmp_path, capsys):
    new = tmp_path / "new"
    for number, name in enumerate(["a/x.png", "b/x.png", "b/we$ird $a^2$ \N{SNOWMAN}\n.png"]):
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        picture("red", number).save(new / name)
    (new / "b" / "broken.jpg").write_bytes(b"no image")
    before, out = snapshot(new), tmp_path / "out"
    assert main(["explain", str(run), str(new), "--out", str(out), "--top", "2"]) == 0
    told = capsys.readouterr()
    names = ["001-x.png", "003-we_ird_a_2.png", "004-x.png"]
    assert sorted(path.name for path in out.glob("[!.]*")) == names
    assert told.out.splitlines() == [str(out / name) for name in names]
    assert "neighbours are looked for among 42 training images" in told.err
    assert "broken.jpg cannot be used" in told.err
    assert "1 of 4 files could not be used" in told.err
    for name in names:
        size, pixels = opened(out / name)
        assert size == (1280, 620)
        assert pixels.std() > 20
    assert snapshot(new) == before


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cat.jpg", "007-cat.png"),
        ("..", "007-image.png"),
        ("a/../.hidden.png", "007-hidden.png"),
        ("C:\\x|y.png", "007-C_x_y.png"),
        ("\N{SNOWMAN}.png", "007-image.png"),
        ("x" * 300, f"007-{'x' * 60}.png"),
    ],
)
def test_names_of_pictures_stay_in_their_folder(given, name):
    assert file_name(7, Path(given)) == name


def test_names_are_shown_on_one_line():
    assert shortened("a\nb\x1b[31m\udcff  c", 20) == "a b [31m c"
    assert shortened("x" * 30, 5) == "xxxx\N{HORIZONTAL ELLIPSIS}"


def test_an_explanation_holds_what_its_parts_give(run, folder):
    classifier: Any = alexnet.load(run, precision="fp32")
    [one] = classifier.predict_files([folder / "green" / "3.png"])
    gallery = explanation.Gallery(classifier.trained, classifier.run, "fp32")
    found = explanation.explain_image(
        classifier.trained, "2.png", one.p, one.pixels, 2, gallery, neighbours=4
    )
    x = augment.normalise(torch.from_numpy(one.pixels)[None], IMAGENET_MEAN, IMAGENET_STD)
    assert np.array_equal(found.picture, one.pixels.transpose(1, 2, 0))
    assert np.array_equal(found.cam, explain.grad_cam(classifier.model, x, torch.tensor([2]))[0])
    assert np.array_equal(found.drop, explain.occlusion(classifier.model, x[0], 2, 3, 1))
    assert found.label == 2
    assert (
        explanation.explain_image(classifier.trained, "", one.p, one.pixels).label == one.p.argmax()
    )
    assert len(found.neighbours) == 4
    distances = [near.distance for near in found.neighbours]
    assert distances == sorted(distances)
    [at] = np.flatnonzero((gallery.store.x == one.pixels).all((1, 2, 3)))
    if at in gallery.rows:
        assert np.array_equal(found.neighbours[0].pixels, one.pixels)
        assert distances[0] == pytest.approx(0, abs=1e-5)
    assert {near.name for near in found.neighbours} <= {"blue", "green", "red"}


def test_neighbours_are_looked_for_among_a_part(run, folder, monkeypatch, capsys):
    monkeypatch.setattr(explanation, "MOST_TRAINING_IMAGES", 10)
    classifier: Any = alexnet.load(run)
    first = explanation.Gallery(classifier.trained, classifier.run)
    assert "among 10 of 42 training images, drawn at random" in capsys.readouterr().err
    assert len(first.rows) == len(first.x) == 10
    assert (first.rows == explanation.Gallery(classifier.trained, classifier.run).rows).all()


@pytest.mark.slow
def test_without_its_data_a_run_is_explained_without_neighbours(run, folder, tmp_path, capsys):
    new = tmp_path / "new.png"
    shutil.copy(folder / "red" / "1.png", new)
    shutil.rmtree(folder / "blue")
    [path] = explain_files(run, [str(new)], tmp_path / "out")
    said = capsys.readouterr().err
    assert said.count("no neighbours: ") == 1
    assert "is not what" in said
    shutil.rmtree(folder)
    [path] = explain_files(run, [str(new)], tmp_path / "out")
    assert "no neighbours: the data of the run is not at" in " ".join(
        capsys.readouterr().err.split()
    )
    assert opened(path)[0] == (1280, 370)


@pytest.mark.slow
def test_a_class_can_be_chosen(run, folder, tmp_path, capsys):
    image = str(folder / "red" / "1.png")
    command = ["explain", str(run), image, "--neighbours", "0", "--out", str(tmp_path / "out")]
    drawn = []
    for name in ("green", "blue"):
        assert main([*command, "--class", name]) == 0
        drawn.append(opened(tmp_path / "out" / "001-1.png")[1])
    assert (drawn[0] != drawn[1]).any()
    assert "neighbours are looked for" not in capsys.readouterr().err


def test_what_explain_cannot_do(run, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"x")
    bad = str(tmp_path / "bad.png")
    for arguments, message in (
        ([bad], "none of the files could be used"),
        ([bad, "--class", "gren"], "no class 'gren'.\nDid you mean 'green'?"),
        ([bad, "--top", "0"], "top is 0"),
        ([bad, "--neighbours", "-1"], "neighbours is -1"),
        ([], "there are no images to explain"),
    ):
        assert main(["explain", str(run), *arguments, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_head_on_frozen_layers_is_explained(folder, tmp_path, capsys):
    small = architecture("small", width=0.125, pool="max")
    how = Preprocessing(20, 16, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    network_of(weights_folder() / "made.safetensors", small, 5, how)
    recipe = change(
        image_size=0, pool="auto", width=0.0, weights="made", freeze="all-but-last", epochs=2
    )
    run = alexnet.train(folder, recipe, out=tmp_path / "run")
    capsys.readouterr()
    images = [str(folder / "blue" / f"{number}.png") for number in range(3)]
    assert len(list(explain_files(run, images, tmp_path / "out"))) == 3
    # the run's own cache holds these features
    assert "run once" not in capsys.readouterr().err
    told = json.loads(illustrate(run).read_text())
    assert len(told["samples"]) == 12


def decoded(uri):
    kind, _, content = uri.partition(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert kind == f"data:image/{image.format.lower()}"
        return np.asarray(image.convert("RGB")).astype(int)


def test_illustrations_are_what_the_predictions_say(run, folder):
    found = RunDirectory(run).predictions()
    logits = found.logits.copy()
    wrong = (found.labels + 1 + np.arange(len(logits)) % 2) % 3
    for place in range(len(logits)):  # every other guess is wrong, each a little surer
        logits[place] = 0
        logits[place, (found.labels if place % 2 else wrong)[place]] = 1 + place / 10
    np.savez(
        run / "predictions.npz", logits=logits, labels=found.labels, ids=np.array(found.ids),
        classes=np.array(found.classes),
    )  # fmt: skip
    told = json.loads(illustrate(run).read_text())
    assert list(told) == [
        "samples", "mistakes", "confident", "confusions", "filters", "units", "neighbours",
    ]  # fmt: skip
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label_of = dict(zip(found.ids, found.labels, strict=True))
    place_of = {one: place for place, one in enumerate(found.ids)}
    files = np.stack([opened(folder / one)[1].astype(int) for one in found.ids])
    assert len(told["samples"]) == 12
    first = [one["label"] for one in told["samples"][:3]]
    assert sorted(first) == ["blue", "green", "red"]
    for one in told["samples"] + told["mistakes"] + told["confident"]:
        place = place_of[one["id"]]
        assert one["label"] == found.classes[label_of[one["id"]]]
        assert one["guess"] == found.classes[logits[place].argmax()]
        assert one["p"] == pytest.approx(p[place].max(), rel=1e-3)
        assert decoded(one["image"]).shape == (16, 16, 3)
        apart = abs(decoded(one["image"]) - files).mean((1, 2, 3))  # JPEG blurs such noise
        assert apart.argmin() == place
    mistakes = [place_of[one["id"]] for one in told["mistakes"]]
    assert mistakes == [10, 8, 6, 4, 2, 0]  # the surer the guess, the less is left for the label
    assert told["confident"] == []
    for one in told["mistakes"]:
        assert one["p_label"] == pytest.approx(
            p[place_of[one["id"]], label_of[one["id"]]], rel=1e-3
        )
        assert decoded(one["cam"]).shape == (16, 16, 3)
    counts = {(one["label"], one["guess"]): one["count"] for one in told["confusions"]}
    assert sum(counts.values()) == 6
    for one in told["confusions"]:
        assert len(one["images"]) == min(4, one["count"])
    assert decoded(told["filters"]).shape[2] == 3
    assert 0 < len(told["units"]) <= 6
    assert all(len(one["images"]) == 6 and one["layer"] == "conv5" for one in told["units"])
    assert len(told["neighbours"]) == 6
    for one in told["neighbours"]:
        assert len(one["neighbours"]) == 5
        distances = [near["distance"] for near in one["neighbours"]]
        assert distances == sorted(distances)
        for near in one["neighbours"]:
            assert near["id"] not in found.ids  # they are training images
            assert near["id"].startswith(near["label"])


@pytest.mark.slow
def test_maps_lie_over_the_photograph_at_its_own_resolution(tmp_path):
    """Not over the few pixels that the network saw of it."""
    folder = tmp_path / "photos"
    for number in range(24):
        path = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(number, (8, 6)).resize((400, 300), Image.Resampling.BICUBIC).save(path)
    run = alexnet.train(
        folder, change(TINY, image_size=20, crop=16, epochs=1), out=tmp_path / "run"
    )
    found = RunDirectory(run).predictions()
    wrong = np.eye(2, dtype=np.float32)[1 - found.labels]
    dataclasses.replace(found, logits=wrong).save(run / "predictions.npz")
    told = json.loads(illustrate(run).read_text())["mistakes"][0]
    _, pixels = opened(folder / told["id"])
    middle = pixels[30:270, 80:320].astype(np.uint8)  # 16 of 20 px of the centre square
    expected = np.asarray(Image.fromarray(middle).resize((192, 192), Image.Resampling.BILINEAR))
    assert decoded(told["image"]).shape == decoded(told["cam"]).shape == (192, 192, 3)
    assert abs(decoded(told["image"]) - expected.astype(int)).mean() < 3
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    store = Store.open(next(iter((weights_folder().parent / "stores").glob("*"))))
    told = json.loads(illustrate(run, store).read_text())["mistakes"][0]
    assert decoded(told["cam"]).shape == (16, 16, 3)


def test_illustrations_repeat_and_take_an_open_store(run, folder):
    first = illustrate(run).read_bytes()
    store = Store.open(next(iter((weights_folder().parent / "stores").glob("*"))))
    shutil.rmtree(folder)
    assert illustrate(run, store).read_bytes() == first


def test_the_surest_mistakes_are_others_than_the_hardest(run):
    trained, found = RunDirectory(run).load(), RunDirectory(run).predictions()
    logits = np.zeros((40, 3), np.float32)
    labels = np.zeros(40, np.int64)
    logits[:, 1] = np.arange(40) / 10
    settings = RunDirectory(run).settings
    own = own_data(settings, trained.preprocessing)
    many = type(found)(logits, labels, [*own.store.ids[:40]], found.classes)
    show = showcase.Showcase(trained, own, many, settings)
    hardest, surest = show.mistakes()
    assert hardest == list(range(39, 27, -1))
    assert surest == list(range(27, 15, -1))


def test_what_cannot_be_illustrated(run, folder, tmp_path):
    with pytest.raises(RunError):
        illustrate(tmp_path)
    found = RunDirectory(run).predictions()
    np.savez(
        run / "predictions.npz", logits=found.logits, labels=found.labels, classes=found.classes,
        ids=[f"other/{one}" for one in found.ids],
    )  # fmt: skip
    with pytest.raises(DataError, match="12 images are not in it"):
        illustrate(run)
    np.savez(run / "predictions.npz", logits=found.logits, labels=found.labels + 9)
    with pytest.raises(RunError, match=r"predictions\.npz is damaged"):
        illustrate(run)
    shutil.rmtree(folder)
    (run / "predictions.npz").unlink()
    with pytest.raises(RunError):
        illustrate(run)


def test_images_as_data_uris_are_small():
    large = load_sample_image("china.jpg")
    uri = data_uri(large, 96)
    assert decoded(uri).shape == (64, 96, 3)
    assert len(uri) < 6000
    assert uri.startswith("data:image/jpeg;")
    assert data_uri(np.zeros((8, 8, 3), np.uint8), 96).startswith("data:image/png;")
    assert decoded(data_uri(large[:20, :30], 96)).shape == (20, 30, 3)


def test_samples_are_spread_over_the_classes():
    labels = np.array([0] * 50 + [1] * 5 + [2] * 2)
    order = spread(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(57))
    assert sorted(labels[order[:3]]) == sorted(labels[order[3:6]]) == [0, 1, 2]
    assert sorted(labels[order[6:8]]) == [0, 1]
    assert order != spread(labels, np.random.default_rng(1))
