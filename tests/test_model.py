"""The networks, against torchvision, torch's own layers, and the paper's numbers."""

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from alexnet.errors import ModelError, RecipeError
from alexnet.network.description import ARCHITECTURES, Architecture, architecture
from alexnet.network.model import (
    AdaptiveAverage,
    AlexNet,
    AverageAndMaximum,
    Conv2d,
    LocalResponseNorm,
    parameter_count,
)
from alexnet.recipes import Recipe
from alexnet.runs.network import network_of


def small_copy(name, **changes):
    """A network of the family with few channels, quick to build."""
    return architecture(name, width=0.1, **changes)


@pytest.mark.slow
def test_2014_network_equals_torchvisions():
    theirs = torchvision.models.alexnet(weights=None).eval()
    ours = AlexNet(ARCHITECTURES["2014"], 1000).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    assert parameter_count(ours) == 61_100_840
    for side in (224, 100, 64):  # below 224 the adaptive pool has work to do
        x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
        with torch.inference_mode():
            torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_last_maps_are_as_large_as_torchvisions_and_blended_only_where_they_do_not_fit():
    with torch.device("meta"):
        theirs = torchvision.models.alexnet(weights=None).features
        for side in range(63, 300):
            found = theirs(torch.empty(1, 3, side, side)).shape[-1]
            ours = ARCHITECTURES["2014"]
            assert ours.feature_side(side) == found
            assert ours.blends(side) == (found in (4, 5))  # 1, 2 and 3 are repeated evenly
    assert [name for name in ("2012", "2014") if ARCHITECTURES[name].blends(224)] == ["2012"]
    assert [ARCHITECTURES[name].fitting_input for name in ("2012", "2014", "small")] == [
        227, 223, 31,
    ]  # fmt: skip


def test_2012_network_has_the_papers_parameters():
    with torch.device("meta"):
        assert parameter_count(AlexNet(ARCHITECTURES["2012"], 1000)) == 60_965_224
    assert ARCHITECTURES["2012"].feature_side(227) == 6


@pytest.mark.parametrize(
    ("name", "changes", "smallest"),
    [("2012", {}, 67), ("2014", {}, 63), ("small", {}, 31), ("small", {"pool": "max"}, 16)],
)
def test_smallest_input(name, changes, smallest):
    assert architecture(name, **changes).smallest_input == smallest
    model = AlexNet(small_copy(name, **changes), 3).eval()
    assert model(torch.zeros(1, 3, smallest, smallest)).shape == (1, 3)
    with pytest.raises(ModelError, match=f"{smallest - 1} px are too small") as info:
        model(torch.zeros(1, 3, smallest - 1, smallest - 1))
    assert f"--image-size {smallest}" in info.value.hint


@pytest.mark.parametrize("k", [1.0, 2.0])
@pytest.mark.parametrize("channels", [1, 3, 5, 16, 33, 70, 96])
def test_lrn_equals_torchs(channels, k):
    x = torch.randn(2, channels, 4, 5, generator=torch.Generator().manual_seed(channels)) * 50
    x.requires_grad_()
    ours = LocalResponseNorm(channels, k=k)(x)
    theirs = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=k)(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(ours)
    ours_grad = torch.autograd.grad((ours * weights).sum(), x)[0]
    theirs_grad = torch.autograd.grad((theirs * weights).sum(), x)[0]
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-4, atol=1e-5)


@given(side=st.integers(1, 8), height=st.integers(1, 20), width=st.integers(1, 20))
def test_adaptive_average_equals_torchs(side, height, width):
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(AdaptiveAverage(side)(x), nn.AdaptiveAvgPool2d(side)(x))


@given(side=st.integers(1, 3), height=st.integers(1, 7), width=st.integers(1, 7))
def test_averages_come_before_the_maximum_of_each_channel(side, height, width):
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    found = AverageAndMaximum(side)(x)
    torch.testing.assert_close(found[:, :-3], AdaptiveAverage(side)(x).flatten(1))
    assert torch.equal(found[:, -3:], nn.AdaptiveMaxPool2d(1)(x).flatten(1))


@given(
    batch=st.integers(1, 9),
    height=st.integers(3, 9),
    width=st.integers(1, 8),
    kernel=st.sampled_from([1, 3, 5]),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
)
def test_small_maps_side_by_side_are_convolved_as_alone(batch, height, width, kernel, groups, bias):
    generator = torch.Generator().manual_seed(0)
    conv = Conv2d(4, 6, kernel, padding=kernel // 2, groups=groups, bias=bias)
    for one in conv.parameters():
        nn.init.normal_(one, generator=generator)
    conv = conv.bfloat16()
    x = torch.randn(batch, 4, height, width, generator=generator).bfloat16().requires_grad_()
    want = nn.Conv2d.forward(conv, x)
    g = torch.randn(want.shape, generator=generator).bfloat16()
    found = conv(x)
    assert found.shape == want.shape
    inputs = [x, *conv.parameters()]
    gradients = [torch.autograd.grad(y, inputs, g) for y in (found, want)]
    torch.testing.assert_close(found, want, rtol=0.02, atol=0.1)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.02 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", ["2012", "2014", "small", "compact", "fast", "wide"])
@pytest.mark.parametrize(
    "changes",
    [{"conv_layers": n} for n in (3, 4)]
    + [{"fc_layers": n} for n in (1, 2, 3, 4)]
    + [{"norm": n} for n in ("none", "lrn", "batch", "batch-for-lrn")]
    + [{"columns": 1}]
    + [{"pool": n} for n in ("max", "average", "overlapping")]
    + [{"activation": n} for n in ("leaky-relu", "tanh")]
    + [{"dropout": 0.0}, {"width": 0.2}],
)
def test_every_variant_trains(name, changes):
    description = architecture(name, **{"width": 0.1, **changes})
    model = AlexNet(description, 4)
    side = description.smallest_input
    logits = model(torch.randn(4, 3, side, side))
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for name, one in model.named_parameters():
        assert one.grad.isfinite().all(), name
        if name.endswith("weight"):
            assert one.grad.any(), f"{name} learns nothing"
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == changes.get("conv_layers", 5)
    if "fc_layers" in changes:
        linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
        assert len(linears) == changes["fc_layers"]
    if changes.get("norm") == "lrn":
        assert sum(isinstance(m, LocalResponseNorm) for m in model.modules()) == 2


def test_fewer_convolutions_leave_out_conv4_then_conv3():
    full = [conv.channels for conv in ARCHITECTURES["2014"].convs]
    assert [c.channels for c in architecture("2014", conv_layers=4).convs] == full[:3] + full[4:]
    assert [c.channels for c in architecture("2014", conv_layers=3).convs] == full[:2] + full[4:]


def test_one_tower_instead_of_two_columns():
    assert [conv.groups for conv in ARCHITECTURES["2012"].convs] == [1, 2, 1, 2, 2]
    assert [conv.groups for conv in architecture("2012", columns=1).convs] == [1] * 5
    assert [conv.channels for conv in architecture("2012", columns=1).convs] == [
        conv.channels for conv in ARCHITECTURES["2012"].convs
    ]


def test_columns_that_meet_in_the_fully_connected_layers_only():
    linked, unlinked = (architecture("2012", columns=one) for one in (None, "unlinked"))
    assert [conv.groups for conv in unlinked.convs] == [1, 2, 2, 2, 2]
    assert (linked.columns, unlinked.columns) == (2, "unlinked")
    assert architecture(unlinked, columns=1).columns == 1
    whole, half = (AlexNet(one, 2, "empty").state_dict() for one in (linked, unlinked))
    assert half["features.8.weight"].shape[1] == whole["features.8.weight"].shape[1] / 2
    for columns in (2, "unlinked"):
        with pytest.raises(RecipeError, match=f"columns is {columns}, but the 2014 network is one"):
            network_of(Recipe().replace(model="2014", columns=columns), None)


def test_batch_normalisation_in_the_places_of_lrn():
    kinds = [
        type(m).__name__ for m in AlexNet(small_copy("2012", norm="batch-for-lrn"), 3).features
    ]
    assert kinds[:4] == ["Conv2d", "ReLU", "BatchNorm2d", "MaxPool2d"]
    assert kinds.count("BatchNorm2d") == 2


def test_dropout_stands_where_the_networks_have_it():
    kinds = {
        name: [type(layer).__name__ for layer in AlexNet(small_copy(name), 3).classifier]
        for name in ("2012", "2014")
    }
    names = [type(layer).__name__ for layer in AlexNet(small_copy("small"), 3).classifier]
    assert names == ["Dropout", "Linear"]
    assert kinds["2012"] == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert kinds["2014"] == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]


def test_paper_initialisation():
    torch.manual_seed(0)
    model = AlexNet(architecture("2012", width=0.25), 10, init="paper")
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert [float(layer.bias.detach()[0]) for layer in layers] == [0, 1, 0, 1, 1, 1, 1, 0]
    for layer in layers:
        assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.1)


@pytest.mark.slow
def test_torchs_own_initialisation_can_be_kept():
    torch.manual_seed(0)
    ours = AlexNet(architecture("2014"), 10, init="torch")
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet(weights=None, num_classes=10)
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)


@pytest.mark.slow
def test_he_initialisation_keeps_the_variance():
    torch.manual_seed(0)
    model = AlexNet(architecture("2014"), 10).eval()
    x = torch.randn(8, 3, 224, 224)
    with torch.inference_mode():
        assert 0.2 < float(model.features(x).std()) < 5


def test_a_description_survives_json():
    import json

    for description in ARCHITECTURES.values():
        copy = Architecture.from_dict(json.loads(json.dumps(description.to_dict())))
        assert copy == description


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2013",), "unknown network '2013'"),
        (("2012", {"conv_layers": 2}), "expected 3 to 5 and 1 to 4"),
        (("2012", {"fc_layers": 5}), "expected 3 to 5 and 1 to 4"),
    ],
)
def test_impossible_descriptions(arguments, message):
    name, *rest = arguments
    with pytest.raises(ModelError, match=message) as info:
        architecture(name, **(rest[0] if rest else {}))
    assert info.value.hint


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("changes", [{"norm": "batch"}, {"norm": "none"}, {"fc_norm": "batch"}])
def test_what_batch_normalisation_sees_of_an_image(name, changes):
    description = architecture(name, width=0.1, **changes)
    model, seen = AlexNet(description, 4), []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_hook(lambda _, x, y: seen.append(x[0][0, 0].numel()))
    for side in (description.smallest_input, description.smallest_input + 40):
        seen.clear()
        model(torch.randn(3, 3, side, side))
        assert description.least_normalised(side) == min(seen, default=0)
