"""Duplicates: planted ones are found, and nothing else."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import pictures_store, textures
from PIL import Image, ImageEnhance

from alexnet.data import duplicates
from alexnet.data.duplicates import Pair, connected, detail, find_duplicates, search


def pixels(images):
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])


def saved_again(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def smaller_and_back(image):
    return image.resize((image.width * 3 // 4,) * 2, Image.Resampling.BILINEAR).resize(image.size)


CHANGES = {
    "saved at quality 75": lambda image: saved_again(image, 75),
    "saved at quality 40": lambda image: saved_again(image, 40),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "resized": smaller_and_back,
    "shifted": lambda image: image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, image.width / 32, 0, 1, 0)
    ),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and saved": lambda image: saved_again(
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 75
    ),
}


@pytest.mark.parametrize("side", [32, 50, 96])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(change, side):
    images = textures(30, side, seed=side)
    copies = [CHANGES[change](image) for image in images]
    found = search(pixels(images + copies))
    assert found.exact == []
    assert {(pair.a, pair.b) for pair in found.pairs} == {(n, n + 30) for n in range(30)}
    assert {pair.mirrored for pair in found.pairs} == {change.startswith("mirrored")}
    assert sorted(found.near) == [[n, n + 30] for n in range(30)]
    assert all(0 <= pair.distance <= 0.2 for pair in found.pairs)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 16, 32, 64]))
def test_clean_textures_have_none(seed, side):
    found = search(pixels(textures(60, side, seed)))
    assert (found.exact, found.near, found.pairs, found.blank) == ([], [], [], [])


def skies(count, seed):
    """Gradients with a little noise: all alike from afar, and different pictures."""
    generator = np.random.default_rng(seed)
    down = np.linspace(0, 1, 32)[:, None, None]
    for _ in range(count):
        top, bottom = generator.integers(80, 240, (2, 3))
        noise = generator.normal(0, 1.5, (32, 32, 3))
        yield top + (bottom - top) * down + noise


def ships(count, seed):
    """A horizon in the middle and a dark speck somewhere on it."""
    for image, where in zip(
        skies(count, seed), np.random.default_rng(seed).integers(4, 26, count), strict=True
    ):
        image[16:] *= 0.5
        image[14:16, where : where + 3] = 20
        yield image


@pytest.mark.parametrize("make", [skies, ships])
@pytest.mark.parametrize("seed", range(3))
def test_skies_and_seas_are_not_all_the_same(make, seed):
    images = np.stack([image.clip(0, 255).astype(np.uint8) for image in make(200, seed)])
    found = search(images.transpose(0, 3, 1, 2))
    assert (found.exact, found.pairs) == ([], [])


def test_flat_images_saved_again_are_not_all_the_same():
    flat = [Image.new("RGB", (32, 32), (colour, 200, 100)) for colour in range(0, 200, 10)]
    found = search(pixels([saved_again(image, 75) for image in flat]))
    assert found.pairs == []
    assert found.blank == list(range(20))


def test_equal_images_and_their_near_duplicates_are_one_group():
    a, b, c, d = textures(4, 32, seed=1)
    found = search(pixels([a, b, a, saved_again(a, 60), c, a, d, d]))
    assert found.exact == [[0, 2, 5], [6, 7]]
    assert [(pair.a, pair.b) for pair in found.pairs] == [(0, 3)]
    assert found.near == [[0, 2, 3, 5]]
    assert found.groups == [[0, 2, 3, 5], [6, 7]]
    assert found.blank == []


def test_blank_images_are_found():
    white = np.full((3, 32, 32), 255, np.uint8)
    noisy = np.random.default_rng(0).normal(90, 1, (3, 32, 32)).astype(np.uint8)
    spot = white.copy()
    spot[:, 10:14, 10:14] = 0
    one_channel = np.zeros((3, 32, 32), np.uint8)
    one_channel[2] = pixels(textures(1, 32, seed=0))[0, 2]
    assert search(np.stack([white, spot, noisy, one_channel])).blank == [0, 2]


def test_coarse_search_in_blocks_is_the_same(monkeypatch):
    images = textures(25, 32, seed=3)
    x = pixels(images + [saved_again(image, 70) for image in images])
    whole = search(x)
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    monkeypatch.setattr(duplicates, "CHUNK_BYTES", 20_000)
    assert search(x) == whole
    assert len(whole.pairs) == 25


def test_images_that_are_all_alike_cost_no_more(monkeypatch):
    images = textures(20, 32, seed=7)
    copies = [saved_again(image, quality) for image in images for quality in (90, 80, 70)]
    x = pixels(images + copies)
    monkeypatch.setattr(duplicates, "CANDIDATE", -1.0)  # every pair is a candidate
    monkeypatch.setattr(duplicates, "MOST_IN_BLOCK", 400)
    groups = [[n, 20 + 3 * n, 21 + 3 * n, 22 + 3 * n] for n in range(20)]
    assert sorted(search(x).near) == groups


def test_many_copies_of_one_image_stay_one_group():
    image = textures(1, 32, seed=5)[0]
    copies = [ImageEnhance.Brightness(image).enhance(0.5 + n / 100) for n in range(60)]
    found = search(pixels(copies))
    assert found.near == [list(range(60))]
    assert len(found.pairs) <= 2 * 60 * duplicates.NEIGHBOURS < 60 * 59 / 2


def test_detail_knows_neither_brightness_nor_horizons_and_mirrors_by_signs():
    x = pixels(textures(3, 40, seed=2))
    plain = detail(x)
    assert plain.shape == (3, 16, 16)
    assert np.allclose(detail(np.clip(x, 20, 200)), detail(np.clip(x, 20, 200) + 9), atol=1e-3)
    signs = np.where(np.arange(16) % 2, -1, 1)
    assert np.allclose(detail(x[:, :, :, ::-1]), plain * signs, atol=1e-3)
    stripes = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None] * 5, (1, 3, 40, 40))
    assert np.allclose(detail(stripes), 0, atol=1e-3)


def test_detail_does_not_depend_on_the_size():
    image = textures(1, 64, seed=4)[0]
    half = image.resize((32, 32), Image.Resampling.BOX)
    large, small = detail(pixels([image])), detail(pixels([half]))
    assert abs(large - small).max() < 0.2 * abs(large).max()


def test_no_images_and_one():
    for count in (0, 1):
        found = search(pixels(textures(1, 32, seed=0))[:count])
        assert (found.exact, found.near, found.pairs) == ([], [], [])


def test_connected_components():
    assert connected([], 5) == []
    assert connected([(0, 3), (4, 3), (1, 2)], 6) == [[0, 3, 4], [1, 2]]


def test_a_second_search_reads_the_first(tmp_path, monkeypatch):
    images = textures(5, 32, seed=6)
    store = pictures_store(tmp_path / "stores", [*images, saved_again(images[2], 70)])
    first = find_duplicates(store)
    assert [(pair.a, pair.b) for pair in first.pairs] == [(2, 5)]
    [kept] = (tmp_path / "cache" / "checks").iterdir()
    monkeypatch.setattr(duplicates, "search", lambda x: pytest.fail("searched again"))
    assert find_duplicates(store) == first
    assert isinstance(find_duplicates(store).pairs[0], Pair)
    assert {path.name for path in store.path.iterdir()} == {
        "store.json", "x.bin", "crc32.npy", "y.npy", "ids.txt",
    }  # fmt: skip
    monkeypatch.undo()
    for damage in ("", "{}", json.dumps({"exact": [], "near": [], "pairs": [1], "blank": []})):
        kept.write_text(damage)
        monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
        assert find_duplicates(store) == first
