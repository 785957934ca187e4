"""Every kind of image file becomes the right pixels; a broken one is a BadImage with its reason."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import encoded, noise, smooth
from PIL import Image, ImageFile

from alexnet.data.images import (
    BadImage,
    enlarged,
    is_greyscale,
    load_image,
    open_image,
    square_pixels,
)
from alexnet.errors import DataError


def halves(mode, left, right):
    """A 4x4 image of two colours."""
    image = Image.new(mode, (4, 4), left)
    image.paste(right, (2, 0, 4, 4))
    return image


def sixteen_bit(mode, left, right):
    values = np.repeat([[left, left, right, right]], 4, axis=0)
    return Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))


def palette(transparent=None):
    image = halves("P", 0, 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    return encoded(image, **({} if transparent is None else {"transparency": transparent}))


WHITE = (255, 255, 255)
# file, greyscale, the colours of the left and the right half
FILES = {
    "1": (encoded(halves("1", 0, 255)), True, (0, 0, 0), WHITE),
    "L": (encoded(halves("L", 7, 200)), True, (7, 7, 7), (200, 200, 200)),
    "LA": (encoded(halves("LA", (100, 255), (100, 0))), True, (100, 100, 100), WHITE),
    "P": (palette(), False, (10, 20, 30), (200, 100, 50)),
    "P with a transparent colour": (palette(0), False, WHITE, (200, 100, 50)),
    "P with alpha": (palette(b"\xff\x00"), False, (10, 20, 30), WHITE),
    "RGBA": (
        encoded(halves("RGBA", (200, 100, 0, 51), (1, 2, 3, 255))),
        False,
        (244, 224, 204),
        (1, 2, 3),
    ),
    "CMYK": (
        encoded(halves("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)), "TIFF"),
        False,
        (255, 0, 0),
        (0, 0, 0),
    ),
    "I;16": (encoded(sixteen_bit("I;16", 32896, 65535)), True, (128, 128, 128), WHITE),
    "I": (encoded(sixteen_bit("I", 32896, 65535), "TIFF"), True, (128, 128, 128), WHITE),
    "I of 8 bits": (encoded(sixteen_bit("I", 9, 255), "TIFF"), True, (9, 9, 9), WHITE),
    "RGB": (encoded(halves("RGB", (1, 2, 3), (250, 150, 50))), False, (1, 2, 3), (250, 150, 50)),
    "RGB with a transparent colour": (
        encoded(halves("RGB", (1, 2, 3), (250, 150, 50)), transparency=(1, 2, 3)),
        False,
        WHITE,
        (250, 150, 50),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_mode_becomes_the_rgb_one_sees(name):
    content, greyscale, left, right = FILES[name]
    image = open_image(content)
    assert image.mode == name.split()[0]
    assert is_greyscale(image) is greyscale
    pixels = load_image(content, 4)
    assert pixels.dtype == np.uint8
    for place, colour in ((0, left), (3, right)):
        assert pixels[:, 1, place].tolist() == list(colour)


def test_floating_point_pixels_are_refused():
    content = encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF")
    with pytest.raises(BadImage, match="floating-point pixels have no known range"):
        load_image(content, 4)


ORIENTATIONS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(orientation):
    image, exif = noise(size=(8, 12)), Image.Exif()
    exif[274] = orientation
    upright = ORIENTATIONS[orientation](np.asarray(image))
    top, left = (upright.shape[0] - 8) // 2, (upright.shape[1] - 8) // 2
    expected = upright[top : top + 8, left : left + 8].transpose(2, 0, 1)
    assert np.array_equal(load_image(encoded(image, exif=exif), 8), expected)


def test_exif_orientation_is_applied_to_a_jpeg_decoded_small():
    image, exif = smooth((400, 400)), Image.Exif()
    exif[274] = 6
    expected = load_image(np.rot90(np.asarray(image), -1).copy(), 32).astype(int)
    found = load_image(encoded(image, "JPEG", exif=exif, quality=95), 32)
    assert np.abs(found - expected).mean() < 2


@pytest.mark.parametrize("width, height", [(60, 40), (40, 60), (40, 40), (40, 400)])
def test_shrinking_is_pillows_resize_of_the_centre_square(width, height):
    image = noise(size=(width, height))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    found = load_image(encoded(image), 16).transpose(1, 2, 0)
    assert np.array_equal(found, image.resize((16, 16), Image.Resampling.BILINEAR, box))
    # away from its edge, where the filter reaches over it, the square is all that counts
    square = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found - square)[1:-1, 1:-1].max() <= 1


@pytest.mark.parametrize("width, height", [(8, 8), (20, 8), (9, 16), (32, 10)])
def test_square_pixels_enlarges_nothing(width, height):
    image = noise(size=(width, height))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    centre = np.asarray(image)[top : top + side, left : left + side].transpose(2, 0, 1)
    small = square_pixels(open_image(encoded(image)), 32)
    assert np.array_equal(small, centre)
    assert np.array_equal(load_image(encoded(image), 32), enlarged(small, 32))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(512, 400), (300, 900)])
def test_a_jpeg_decoded_small_is_close_to_all_of_it(size, mode):
    content = encoded(smooth(size).convert(mode), "JPEG", quality=95)
    image = open_image(content)
    found = square_pixels(image, 32)
    assert image.size != size  # it was decoded at a fraction of its size
    whole = Image.open(open_image(content).fp)
    whole.load()
    assert np.abs(found - load_image(whole, 32).astype(int)).mean() < 1.5


@pytest.mark.parametrize("array", [np.zeros((9, 7, 3), np.uint8), np.full((5, 6), 9, np.uint8)])
def test_arrays_are_images_too(array):
    pixels = load_image(array, 6)
    assert pixels.shape == (3, 6, 6)
    assert (pixels == array.flat[0]).all()


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16"]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(MODES),
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.integers(2, 24),
    st.integers(0, 9),
)
def test_any_mode_and_size_becomes_three_bytes_per_pixel(mode, size, side, seed):
    generator = np.random.default_rng(seed)
    if mode in ("I", "I;16"):
        image = Image.fromarray(generator.integers(0, 2**16, size[::-1]).astype(np.uint16))
        image = image.convert(mode)
    else:
        pixels = generator.integers(0, 256, 4 * size[0] * size[1], dtype=np.uint8).tobytes()
        image = Image.frombytes(mode, size, pixels[: len(Image.new(mode, size).tobytes())])
    pixels = load_image(image, side)
    assert (pixels.shape, pixels.dtype) == ((3, side, side), np.uint8)


def png_claiming(width, height):
    """A PNG whose header promises more than the file holds."""

    def chunk(kind, content):
        sum_ = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + sum_

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("warned", [True, False])
@pytest.mark.parametrize("side", [10_000, 20_000])  # Pillow warns of the one, raises for the other
def test_a_huge_image_is_refused_from_its_header(side, warned, monkeypatch):
    def decoded(self):
        raise AssertionError("decoded")

    content = png_claiming(side, side)
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    before = Image.core.get_stats()
    with warnings.catch_warnings():
        warnings.simplefilter("error" if warned else "ignore")
        with pytest.raises(BadImage, match="more than 89 megapixels"):
            load_image(content, 8)
    assert Image.core.get_stats() == before  # Pillow's allocator was not asked for anything


PHOTO = encoded(smooth((64, 64)), "JPEG", quality=90)
AVIF = encoded(smooth((16, 16)), "AVIF")
AVIF_DATA = AVIF.index(b"mdat") + 4
BAD = {
    "a JPEG cut short": (PHOTO[: len(PHOTO) * 6 // 10], "damaged or cut short"),
    "a PNG cut short": (encoded(noise(size=(32, 32)))[:1500], "damaged or cut short"),
    "a PNG cut in its header": (encoded(noise())[:20], "header|unknown format"),
    "no bytes": (b"", "the file is empty"),
    "text": (b"this is not a photograph\n" * 9, "not an image, or of an unknown format"),
    "one pixel": (encoded(noise(size=(1, 1))), "1x1 px is too small"),
    "one row": (encoded(noise(size=(9, 1))), "9x1 px is too small"),
    "an AVIF with another header": (AVIF.replace(b"av01", b"av99"), "header cannot be read"),
    "an AVIF with damaged pixels": (
        AVIF[:AVIF_DATA] + bytes(8) + AVIF[AVIF_DATA + 8 :],
        "damaged or cut short",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_says_why(name):
    content, reason = BAD[name]
    with pytest.raises(BadImage, match=reason) as caught:
        load_image(content, 8)
    assert isinstance(caught.value, DataError)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    st.floats(0.1, 1),
)
def test_a_damaged_file_is_an_image_or_a_bad_image(kind, changes, kept):
    content = bytearray(WHOLE[kind])
    for place, value in changes:
        content[int(place * len(content))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's doubts about a damaged file
        try:
            assert load_image(bytes(content[: int(kept * len(content))]), 8).shape == (3, 8, 8)
        except BadImage as error:
            assert error.message


WHOLE = {
    kind: encoded(smooth((16, 16)), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF")
}
