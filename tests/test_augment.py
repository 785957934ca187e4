"""Each batched transform against torchvision, or against a loop over the images."""

from typing import Any

import pytest
import scipy.stats
import torch
import torchvision.transforms.v2.functional as tv
from hypothesis import given
from hypothesis import strategies as st

from alexnet.data import augment


def images(n=6, side=12, seed=0, width=None):
    shape = (n, 3, side, width or side)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).byte()


def generator(seed=7):
    return torch.Generator().manual_seed(seed)


AXES = (0.23, 0.07, -0.03, 0.24, -0.01, 0.06, 0.22, -0.08, -0.03)  # red, green, blue by axis
RANDOM = {
    "random_crop": lambda x, g: augment.random_crop(x, 8, g),
    "random_resized_crop": lambda x, g: augment.random_resized_crop(x, 8, 0.3, g),
    "random_flip": augment.random_flip,
    "jitter": lambda x, g: augment.adjust_colours(x, 0.4, g),
    "lighting": lambda x, g: augment.add_lighting(x.float(), 0.5, AXES, (1, 1, 1), g),
    "erase": lambda x, g: augment.erase_square(x, 0.5, (0.5, 0.5, 0.5), g),
    "mixup": lambda x, g: augment.mix(0.8, 0, x.float(), g)[0],
    "cutmix": lambda x, g: augment.mix(0, 2, x, g)[0],
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_transforms_are_pure(name):
    x = images()
    before = x.clone()
    first, again = RANDOM[name](x, generator()), RANDOM[name](x, generator())
    assert first.dtype == (torch.float32 if name in ("lighting", "mixup") else torch.uint8)
    assert torch.equal(first, again)
    assert torch.equal(x, before)
    assert not torch.equal(first, RANDOM[name](x, generator(8)))


@given(alpha=st.floats(0.1, 4), seed=st.integers(0, 999))
def test_images_are_blended_by_the_share_that_is_said(alpha, seed):
    x = images().float()
    y, own = augment.mix(alpha, 0, x, generator(seed))
    torch.testing.assert_close(y, tv_mixup(x, own), atol=1e-3, rtol=1e-5)


def tv_mixup(x, own):
    return x.roll(1, 0).mul(1 - own).add(x.mul(own))  # as torchvision.transforms.v2.MixUp


@given(alpha=st.floats(0.1, 4), seed=st.integers(0, 999), width=st.integers(1, 40))
def test_a_rectangle_is_as_large_as_the_share_that_is_said(alpha, seed, width):
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 20, width)
    y, own = augment.mix(0, alpha, x, generator(seed))
    others = y != x
    assert torch.equal(y, torch.where(others, x.roll(1, 0), x))
    assert (others == others[:1]).all()
    rows, columns = others[0, 0].any(1), others[0, 0].any(0)
    assert torch.equal(others[0, 0], rows[:, None] & columns)
    for line in (rows, columns):
        assert (line.int().diff().abs()).sum() <= 2  # in one piece
    assert own == pytest.approx(1 - others[0, 0].double().mean().item())


@pytest.mark.parametrize("alpha", [0.3, 1, 3])
def test_shares_are_of_a_beta_distribution(alpha):
    x = torch.zeros(2, 1, 1, 1)
    shares = [augment.mix(alpha, 0, x, generator(seed))[1] for seed in range(2000)]
    assert scipy.stats.kstest(shares, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-4


def test_each_batch_has_one_kind_of_mixing_by_chance():
    x = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 9, 9)
    whole = [augment.mix(1, 1, x, generator(seed))[0] for seed in range(400)]
    blended = sum(bool(((y != 0) & (y != 1)).any()) for y in whole)
    assert 150 < blended < 250


@pytest.mark.parametrize(("side", "size"), [(12, 30), (12, 7), (32, 70), (64, 32)])
def test_resize_equals_torchvisions(side, size):
    x = images(side=side)
    assert torch.equal(augment.resize(x, size), tv.resize(x, [size, size], antialias=True))


def test_pad_equals_torchvisions_reflection():
    x = images(side=9, width=7)
    assert torch.equal(augment.pad(x, 4), tv.pad(x, [4], padding_mode="reflect"))
    assert augment.pad(x, 0) is x


@given(side=st.integers(4, 20), size=st.integers(1, 20), seed=st.integers(0, 99))
def test_every_random_crop_is_a_window_of_its_image(side, size, seed):
    size = min(size, side)
    x = images(side=side, seed=seed)
    for image, crop in zip(x, augment.random_crop(x, size, generator(seed)), strict=True):
        windows = image.unfold(1, size, 1).unfold(2, size, 1)  # (3, rows, columns, size, size)
        assert (windows == crop[:, None, None]).all(dim=4).all(dim=3).all(dim=0).any()


def test_random_crops_reach_every_place():
    ramp = torch.arange(10).byte().expand(2000, 3, 10, 10)
    lefts = augment.random_crop(ramp, 6, generator())[:, 0, 0, 0]
    assert lefts.unique().tolist() == [0, 1, 2, 3, 4]


def test_random_flip_mirrors_half_of_the_images():
    x = images(n=400, side=4)
    y = augment.random_flip(x, generator())
    same = (y == x).flatten(1).all(1)
    mirrored = (y == x.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 150 < int(mirrored.sum()) < 250


def test_random_resized_crop_samples_a_window_of_the_asked_area():
    ramp = torch.arange(0, 240, 5).float()  # 48 px wide, 5 per px
    x = ramp.expand(300, 3, 48, 48)
    across = augment.random_resized_crop(x, 16, 0.25, generator()) / 5
    down = augment.random_resized_crop(x.transpose(2, 3), 16, 0.25, generator()) / 5
    wide = (across[:, 0, 0, 12] - across[:, 0, 0, 3]) / 9 * 16  # px of the source
    tall = (down[:, 0, 12, 0] - down[:, 0, 3, 0]) / 9 * 16
    share, ratio = wide * tall / 48**2, wide / tall
    assert 0.22 < share.min() < 0.3
    assert 0.9 < share.max() <= 1.01
    # a window of nearly all of the image must be nearly square to fit into it
    assert (ratio > 0.7).all()
    assert (ratio < 1.42).all()
    assert across.min() >= 0
    assert across.max() <= 47


def test_jitter_equals_torchvisions_adjustments():
    x = images()
    factors = augment.uniform((3, len(x), 1, 1, 1), 0.6, 1.4, generator(), x).flatten(1).T
    ours = augment.adjust_colours(x, 0.4, generator())
    for image, mine, (brightness, contrast, saturation) in zip(x, ours, factors, strict=True):
        theirs = tv.adjust_brightness(image.float() / 255, float(brightness))
        theirs = tv.adjust_contrast(theirs, float(contrast))
        theirs = tv.adjust_saturation(theirs, float(saturation)) * 255
        assert (mine - theirs).abs().max() <= 0.51  # rounding to bytes


def test_lighting_equals_the_papers_formula():
    x = torch.full((4, 3, 2, 2), 128).byte()
    std = (0.2, 0.25, 0.5)
    plain = augment.normalise(x, (0.4, 0.5, 0.6), std)
    alpha = torch.randn(4, 3, generator=generator()) * 0.1
    ours = augment.add_lighting(plain.clone(), 0.1, AXES, std, generator())
    for place in range(4):
        shift = torch.tensor(AXES).view(3, 3) @ alpha[place]  # [p1, p2, p3][a1 l1, a2 l2, a3 l3]
        expected = plain[place] + (shift / torch.tensor(std))[:, None, None]
        torch.testing.assert_close(ours[place], expected)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_erase_sets_one_square_inside_each_image(share):
    x = torch.zeros(50, 3, 12, 12).byte()
    y = augment.erase_square(x, share, (0.2, 0.4, 1.0), generator())
    erased = y[:, 0] == 51
    side = round(12 * share)
    assert (erased.sum((1, 2)) == side * side).all()
    assert (erased.any(1).sum(1) == side).all()
    assert (erased.any(2).sum(1) == side).all()
    assert y[0, :, erased[0]].unique(dim=1).flatten().tolist() == [51, 102, 255]
    assert len(erased.unique(dim=0)) > 10


def test_normalise_equals_torchvisions():
    x = images()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = augment.normalise(x, mean, std)
    torch.testing.assert_close(ours, tv.normalize(x.float() / 255, mean, std), rtol=1e-5, atol=1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)


PLAIN: dict[str, Any] = {"border": 0, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def test_evaluation_transform_is_resize_crop_normalise():
    x = images(side=8)
    transform, mirrored = augment.evaluation_views(image_size=20, crop=16, views=2, **PLAIN)
    ours = transform(x, generator())
    assert torch.equal(mirrored(x.flip(-1), generator()), ours)
    theirs = tv.center_crop(tv.resize(x, [20, 20], antialias=True), [16, 16]).float() / 255
    torch.testing.assert_close(
        ours, tv.normalize(theirs, PLAIN["mean"], PLAIN["std"]), rtol=1e-5, atol=1e-5
    )


def test_a_border_is_what_a_centre_crop_beyond_the_image_gives():
    x = images(side=8)
    plain = PLAIN | {"border": 5}
    [transform] = augment.evaluation_views(image_size=8, crop=18, views=1, **plain)
    theirs = tv.center_crop(x, [18, 18]).float() / 255
    theirs = tv.normalize(theirs, PLAIN["mean"], PLAIN["std"])
    torch.testing.assert_close(transform(x, generator()), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {}, {"crop": 10}, {"crop_padding": 3}, {"crop_area": 0.5}, {"flip": True}, {"jitter": 0.3},
        {"lighting": 0.1}, {"erase": 0.3},
    ],
)  # fmt: skip
def test_training_transform_does_what_is_asked(change):
    fields = {
        "image_size": 16, "crop": 16, "crop_padding": 0, "crop_area": 1.0, "flip": False,
        "jitter": 0.0, "lighting": 0.0, "axes": AXES, "erase": 0.0, **PLAIN, **change,
    }  # fmt: skip
    x = images(side=16)
    y = augment.training_transform(**fields)(x, generator())
    assert y.shape == (6, 3, fields["crop"], fields["crop"])
    [plain] = augment.evaluation_views(image_size=16, crop=fields["crop"], views=1, **PLAIN)
    assert torch.equal(y, plain(x, generator())) == (not change)
