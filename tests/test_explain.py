"""Explanations: against formulas by hand, a reference Grad-CAM, and scikit-learn's neighbours."""

import itertools

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_sample_image
from sklearn.neighbors import NearestNeighbors
from torch import nn

from alexnet import augment, explain
from alexnet.checkpoint import Preprocessing
from alexnet.model import AlexNet, architecture
from alexnet.recipes import IMAGENET_MEAN, IMAGENET_STD

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


def test_grad_cam_equals_a_reference_on_torchvisions_network():
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet(num_classes=10).eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    ours = AlexNet(architecture("2014"), 10)
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
] + [("2014", {"activation": "tanh"}), ("2012", {"activation": "leaky-relu", "fc_norm": "batch"})]


@pytest.mark.parametrize(("base", "changes"), VARIANTS)
def test_grad_cam_of_every_variant(base, changes):
    model = network(base, **changes)
    for layer in model.modules():  # what batch normalisation has learned
        if isinstance(layer, nn.BatchNorm2d):
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
        if isinstance(layer, nn.BatchNorm2d):
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
    assert len(found) == 4
    spread = maxima.numpy().var(0)
    assert set(found) == set(np.argsort(-spread)[:4].tolist())
    for unit, rows in found.items():
        assert rows.tolist() == np.argsort(-maxima[:, unit].numpy(), kind="stable")[:3].tolist()
    assert len(explain.exciting_images(maxima.numpy()[:2], units=99)) == maxima.shape[1]


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
