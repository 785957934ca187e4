"""What `describe` says of a network is what the network is: against torch, torchvision, and numbers
worked out by hand."""

import csv
import dataclasses
import io
import itertools
from xml.etree import ElementTree

import pytest
import torch
from makers import network_of
from PIL import Image
from torch import nn

import alexnet
from alexnet.cli import main
from alexnet.errors import InputError, ModelError, RunError, WeightsError
from alexnet.network.checkpoint import save_network
from alexnet.network.description import ARCHITECTURES, architecture
from alexnet.network.layers import layers
from alexnet.network.model import AlexNet, Whitening, parameter_count
from alexnet.runs.directory import RunDirectory


def shapes(model, side):
    """The output of every module that changes one, in order, from one pass."""
    found = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | nn.Linear):
            module.register_forward_hook(lambda _, __, out: found.append(tuple(out.shape[1:])))
    model.eval()(torch.zeros(1, 3, side, side))
    return found


CHANGES = [
    {}, {"conv_layers": 3}, {"fc_layers": 3, "hidden": 24, "fc_norm": "batch"}, {"pool": "max"},
    {"norm": "batch"}, {"norm": "lrn"}, {"norm": "batch-for-lrn"}, {"map_side": 2},
    {"columns": 1, "activation": "tanh", "dropout": 0.0},
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), [*itertools.product(ARCHITECTURES, CHANGES)])
def test_layers_are_those_of_the_model(name, changes):
    own = architecture(name, width=0.125, **changes)
    side = 80 if name == "small" else 150
    model = AlexNet(own, 7)
    found = layers(own, 7, side)
    assert sum(one.parameters for one in found) == parameter_count(model)
    moved = [one.output for one in found if one.kind in ("conv", "pool", "dense")]
    assert moved == shapes(model, side)
    assert found[0].output == (3, side, side)


def test_the_network_of_2012_by_hand():
    found = {one.name: one for one in layers(ARCHITECTURES["2012"], 1000, 227)}
    products = {name: one.multiplications for name, one in found.items()}
    assert products["conv1"] == 55 * 55 * 96 * 11 * 11 * 3
    assert products["conv2"] == 27 * 27 * 256 * 5 * 5 * 48  # each column sees half
    assert products["fc6"] == 6 * 6 * 256 * 4096
    assert sum(products.values()) == 724_406_816
    assert sum(one.parameters for one in found.values()) == 60_965_224  # as the paper: 60 million
    fields = [found[name].field for name in "conv1 pool1 conv2 pool2 conv3 conv4 conv5".split()]
    assert fields == [11, 19, 51, 67, 99, 131, 163]
    assert found["pool5"].field == 195
    assert found["fc6"].field == 227
    assert found["conv1"].then == ("ReLU", "LRN")
    assert found["fc6"].then == ("ReLU", "dropout")


def test_the_network_of_2014_is_torchvisions():
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.alexnet(weights=None)
    found = layers(ARCHITECTURES["2014"], 1000, 224)
    assert [one.output for one in found if one.kind in ("conv", "pool", "dense")] == shapes(
        theirs, 224
    )
    assert sum(one.parameters for one in found) == parameter_count(theirs)
    products = 0

    def count(module, _, out):
        nonlocal products
        products += module.weight[0].numel() * out[0].numel()

    for module in theirs.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    theirs(torch.zeros(1, 3, 224, 224))
    assert sum(one.multiplications for one in found) == products == 714_188_480


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_receptive_fields_are_how_far_gradients_reach(name):
    own = architecture(name, width=0.125, norm="none", activation="tanh", map_side=2)
    own = dataclasses.replace(own, pool_first=False)
    side = 300
    model = AlexNet(own, 3).double().eval()
    for place, layer in enumerate(model.features):
        if isinstance(layer, nn.MaxPool2d):  # whose gradients go to one place only
            model.features[place] = nn.AvgPool2d(layer.kernel_size, layer.stride)
        if isinstance(layer, nn.Conv2d):  # nothing cancels
            nn.init.constant_(layer.weight, 0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        if isinstance(layer, Whitening):
            nn.init.constant_(layer.weight, 0.01)
    x = torch.full((1, 3, side, side), 0.001, dtype=torch.float64, requires_grad=True)
    found = [one for one in layers(own, 3, side) if one.kind in ("whitening", "conv", "pool")]
    maps, told = x, iter(found)
    for layer in model.features:
        maps = layer(maps)
        if isinstance(layer, Whitening | nn.Conv2d | nn.AvgPool2d):
            middle = maps.shape[-1] // 2
            [gradient] = torch.autograd.grad(maps[0, 0, middle, middle], x, retain_graph=True)
            reached = (gradient[0, 0] != 0).any(0).sum()
            assert reached == next(told).field < side


def test_too_small_images_are_refused():
    with pytest.raises(ModelError, match="too small"):
        layers(ARCHITECTURES["2012"], 10, 32)


# -- describe


def test_describing_a_network_by_name():
    found = alexnet.describe("2012")
    assert (found.side, found.classes) == (227, 1000)
    assert found.parameters == 60_965_224
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "the network 2012, 227 px, 1,000 classes"
    assert lines[-1].split() == ["all", "60,965,224", "724,406,816"]
    assert alexnet.describe("small", classes=3, image_size=64).layers[-1].output == (3,)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_network_is_described_and_drawn(name):
    found = alexnet.describe(name)
    assert found.layers[-1].output == (found.classes,)
    ElementTree.fromstring(found.drawing.svg)


def test_describing_a_run(photos_run):
    found, trained = alexnet.describe(photos_run), RunDirectory(photos_run).load()
    assert found.parameters == parameter_count(trained.model)
    assert found.classes == 3
    assert alexnet.describe(photos_run / "best.safetensors") == found


def test_what_cannot_be_described(tmp_path):
    for what, error, message in (
        ("2O12", InputError, "no network '2O12'"),
        (tmp_path, RunError, "not a run directory"),
        (tmp_path / "gone", InputError, "no network"),
    ):
        with pytest.raises(error, match=message):
            alexnet.describe(what)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read"):
        alexnet.describe(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="classes is -1"):
        alexnet.describe("2012", classes=-1)
    with pytest.raises(ModelError, match="too small"):
        alexnet.describe("2014", image_size=20)
    path = tmp_path / "w.safetensors"
    network = network_of(path, architecture("small", width=0.125), 3)
    save_network(path, dataclasses.replace(network, classes=[], names=[]))
    with pytest.raises(InputError, match="names no classes"):
        alexnet.describe(path)
    assert alexnet.describe(path, classes=5).classes == 5


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_a_drawing(tmp_path, capsys):
    for ending in ("svg", "png", "csv"):
        path = tmp_path / f"network.{ending}"
        assert main(["describe", "2012", "--out", str(path)]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[-1] == str(path)
        assert out[-6].startswith("pool5")
    root = ElementTree.fromstring((tmp_path / "network.svg").read_bytes())
    words = " ".join("".join(one.itertext()) for one in root.iter() if one.tag.endswith("text"))
    for word in ("11×11", "stride 4", "48", "192", "4,096", "1,000", "dense", "pooled to 13"):
        assert word in words
    assert Image.open(io.BytesIO((tmp_path / "network.png").read_bytes())).width > 2000
    with open(tmp_path / "network.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["parameters"] or 0) for row in rows[:-1]) == int(rows[-1]["parameters"])
    assert rows[2]["kernel"] == "3x3 /2"
    assert main(["describe", "2012", "--out", str(tmp_path / "network.pdf")]) == 2
    assert "network.pdf ends in .pdf, expected .svg or .png or .csv" in capsys.readouterr().err
