"""Every kind of image file becomes the right pixels; a broken one is a BadImage with its reason."""

import contextlib
import io
import re
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import chunk, encoded, noise, smooth, with_chunk
from PIL import Image, ImageFile

from alexnet.data import images
from alexnet.data.images import (
    EXTENSIONS,
    FORMATS,
    MOST_PIXELS,
    BadImage,
    TooManyPixels,
    UnknownFormat,
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


def with_segment(content, marker, data):
    """A JPEG with one more segment of metadata."""
    head = bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2)
    return content[:2] + head + data + content[2:]


def with_lost_exif(image):
    """A TIFF whose EXIF block lies behind the end of the file."""
    content = encoded(image, "TIFF", tiffinfo={0x8769: {0x9000: b"0230"}})
    place = content.index(b"\x69\x87\4\0\1\0\0\0") + 8
    return content[:place] + b"\xff\xff\xff\x7f" + content[place + 4 :]


def test_every_ending_is_of_a_format_and_every_format_has_one():
    assert {ending for endings in FORMATS.values() for ending in endings.split()} == EXTENSIONS
    images.heic_is_there()
    known = Image.registered_extensions()
    assert all(known[ending] == name for name, ends in FORMATS.items() for ending in ends.split())


@pytest.mark.slow
def test_damaged_files_of_every_format_are_pixels_or_bad_images(capfd):
    from long.fuzz_images import fuzz

    found = fuzz(400, seed=0)
    assert sum(found.values()) == 400
    assert 20 < found["bad image"] < 380
    assert capfd.readouterr().err == ""  # what is wrong is said once, with the file's name


def test_libtiff_does_not_speak_for_itself(capfd):
    for mode, compression in (("1", "group4"), ("L", "tiff_lzw"), ("L", "jpeg")):
        content = encoded(smooth().convert(mode), "TIFF", compression=compression)
        with contextlib.suppress(BadImage):
            load_image(content[:8] + bytes(range(200, 240)) + content[48:], 8)
    assert capfd.readouterr().err == ""


HEADERS = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n",
    "EPS for DOS": b"\xc5\xd0\xd3\xc6" + struct.pack("<7I", 30, 40, 0, 0, 0, 0, 0) + b"%!PS-Adobe",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0"
    + struct.pack("<4hH", 0, 0, 99, 99, 96)
    + bytes(20)
    + b"\1\0\x09\0",
    "EMF": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60),
    "GRIB": b"GRIB\0\0\0\1" + bytes(40),
    "BUFR": b"BUFR" + bytes(40),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "SPIDER": struct.pack(">27f", 1, 9, 9, 0, 1, *[0] * 7, 9, *[0] * 14),
    "PDF": b"%PDF-1.7\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "MSP": b"DanM" + bytes(60),
}

WITHOUT_PROGRAMS = """
import pathlib, sys
from alexnet.data import images
images.heic_is_there()
seen = []
starts = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
          "os.forkpty", "pty.spawn", "os.startfile")
sys.addaudithook(lambda event, _: seen.append(event) if event in starts else None)
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        images.square_pixels(images.open_image(path.read_bytes()), 8)
    except images.BadImage:
        continue
    print(path.stem)
sys.exit(f"started {seen}" if seen else 0)
"""


def test_no_file_starts_a_program_and_only_known_formats_are_decoded(tmp_path):
    Image.init()
    images.heic_is_there()  # whose coder Pillow does not know by itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats that Pillow will not write for ever
        for kind in sorted(Image.SAVE):
            try:  # whatever its name says: a .jpg that holds something else
                (tmp_path / f"{kind}.jpg").write_bytes(encoded(smooth((32, 32)), kind))
            except (OSError, ValueError, KeyError):  # no handler, or not of RGB
                (tmp_path / f"{kind}.jpg").write_bytes(encoded(Image.new("1", (32, 32)), "MSP"))
    for kind, content in HEADERS.items():
        (tmp_path / f"header of {kind}.jpg").write_bytes(content + bytes(999))
    command = [sys.executable, "-c", WITHOUT_PROGRAMS, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) - {"MPO", "DIB"} == set(FORMATS)


@pytest.mark.parametrize("kind", HEADERS)
def test_other_formats_are_none(kind):
    with pytest.raises(UnknownFormat, match="not an image, or of an unknown format"):
        open_image(HEADERS[kind] + bytes(999))


def test_a_lazily_opened_image_of_another_format_is_not_decoded():
    lazy = Image.open(io.BytesIO(HEADERS["EPS"]))
    with pytest.raises(UnknownFormat, match="EPS is not opened here; load the image before"):
        load_image(lazy, 8)
    assert lazy.tile


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF"])
def test_a_pillow_image_is_not_changed_and_need_not_be_loaded(kind):
    exif = Image.Exif()
    exif[274] = 6
    content = encoded(smooth((300, 200)), kind, **({} if kind == "GIF" else {"exif": exif}))
    lazy = Image.open(io.BytesIO(content))
    size, mode = lazy.size, lazy.mode
    found = load_image(lazy, 16)
    assert (lazy.size, lazy.mode) == (size, mode)
    assert np.array_equal(found, load_image(lazy, 16))
    assert np.abs(found - load_image(content, 16).astype(int)).mean() < 2


ODD = {
    "a block of text with a wrong checksum": with_chunk(
        encoded(smooth()), chunk(b"tEXt", b"a\0b", wrong=1)
    ),
    "a colour profile that is none": with_chunk(encoded(smooth()), chunk(b"iCCP", b"x")),
    "sizes cut short": with_chunk(encoded(smooth()), chunk(b"pHYs", b"abc")),
    "sizes cut short behind the pixels": with_chunk(
        encoded(smooth()), chunk(b"pHYs", b"abc"), last=True
    ),
    "EXIF that is none": with_chunk(encoded(smooth()), chunk(b"eXIf", b"MM\0*\xff\xff\xff")),
    "EXIF that is none, in TIFF": with_lost_exif(smooth()),
}


@pytest.mark.parametrize("name", ODD)
def test_pixels_are_sound_whatever_is_said_of_them(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(load_image(ODD[name], 16), load_image(encoded(smooth()), 16))


@pytest.mark.parametrize(
    "data", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0" + bytes(9)]
)
@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xFE])
def test_a_jpeg_is_sound_whatever_its_segments_say(data, marker):
    for start in (
        b"",
        b"MPF\0",
        b"ICC_PROFILE\0",
        b"Photoshop 3.0\0",
        b"http://ns.adobe.com/xap/1.0/\0",
    ):
        odd = with_segment(PHOTO, marker, start + data)
        assert np.array_equal(load_image(odd, 16), load_image(PHOTO, 16))


def test_text_that_would_fill_the_memory_is_a_bad_image():
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**24)))
    with pytest.raises(BadImage, match="too large"):
        load_image(with_chunk(encoded(smooth()), bomb), 8)
    for error in (MemoryError(), RecursionError("deep"), AttributeError("none"), KeyError(3)):
        with pytest.MonkeyPatch.context() as patch:

            def failing(*_, error=error):
                raise error

            patch.setattr(ImageFile.ImageFile, "load", failing)
            with pytest.raises(BadImage):
                load_image(PHOTO, 8)


def test_a_bomb_inside_is_a_bad_image():
    png = png_claiming(20_000, 20_000)
    icns = b"icns" + struct.pack(">I", 16 + len(png)) + b"ic10" + struct.pack(">I", 8 + len(png))
    for content, kind in ((icns + png, UnknownFormat), (png, TooManyPixels)):
        with pytest.raises(kind):
            load_image(content, 8)


def test_pillows_warnings_are_kept_in_many_threads():
    odd = with_lost_exif(smooth())
    failed = []

    def work():
        try:
            for _ in range(20):
                load_image(odd, 8)
        except Exception as error:
            failed.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert list(warnings.filters) == before
    assert not failed


def plain(content, size):
    """What release 0.1.0 did, on the whole image at once."""
    from PIL import ImageOps

    image = Image.open(io.BytesIO(content))
    image = images.rgb(ImageOps.exif_transpose(image))
    shorter = min(image.size)
    left, top = (image.width - shorter) / 2, (image.height - shorter) / 2
    if shorter > size:
        box = (left, top, left + shorter, top + shorter)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box)
    else:
        image = image.crop((int(left), int(top), int(left) + shorter, int(top) + shorter))
    return np.asarray(image).transpose(2, 0, 1)


KINDS = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "TIFF": ["L", "RGB", "RGBA", "CMYK", "I;16"],
    "BMP": ["L", "RGB"], "PPM": ["L", "RGB"], "WEBP": ["RGB", "RGBA"], "AVIF": ["L", "RGB", "RGBA"],
    "GIF": ["P"],
}  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([(kind, mode) for kind, modes in KINDS.items() for mode in modes]),
    st.tuples(st.integers(2, 60), st.integers(2, 60)),
    st.integers(1, 8),
    st.integers(8, 40),
    st.sampled_from([2**24, 500]),
    st.integers(0, 9),
)
def test_strips_are_the_whole_image(how, size, orientation, side, whole, seed):
    (kind, mode), exif = how, Image.Exif()
    exif[274] = orientation
    image = noise(seed, size)
    if mode == "I;16":
        values = np.random.default_rng(seed).integers(0, 65536, size[::-1]).astype("<u2")
        image = Image.frombytes("I;16", size, values.tobytes())
    elif mode in ("RGBA", "LA"):
        image.putalpha(noise(seed + 1, size, "L"))
    content = encoded(
        image.convert(mode), kind, **({} if kind in ("GIF", "BMP", "PPM") else {"exif": exif})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "WHOLE", whole)
        patch.setattr(images, "STRIP", 100)
        found = square_pixels(open_image(content), side)
    assert np.array_equal(found, plain(content, side))


MEASURED = """
import io, resource, sys
from alexnet.data import images
import numpy as np
images.load_image(np.zeros((64, 64, 3), np.uint8), 16), images.heic_is_there()
content = open(sys.argv[1], "rb").read()
unit = 1 if sys.platform == "darwin" else 1024
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
before = peak()
images.square_pixels(images.open_image(content), 256)
print(peak() - before)
"""
SIDE = 9450  # of nearly as many pixels as there may be
LARGEST = {  # one of each way through the door: strips, in place, the decoder's own, at full size
    "I;16.png": {}, "RGBA.png": {}, "RGB.bmp": {}, "CMYK.tif": {"compression": "tiff_lzw"},
    "RGB.jpg": {"progressive": True},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"), [*((name, SIDE // 2) for name in LARGEST), ("RGB.jpg", SIDE)]
)
def test_the_largest_picture_takes_four_bytes_a_pixel_and_100_mb(tmp_path, name, side):
    mode = name.partition(".")[0]
    image = Image.linear_gradient("L").resize((side, side))
    if mode == "I;16":
        values = np.asarray(image).astype("<u2") * 257
        image = Image.frombytes("I;16", image.size, values.tobytes())
    elif mode in ("LA", "RGBA"):
        image = Image.merge(mode, (image,) * len(mode))
    options = {"compress_level": 1} if name.endswith("png") else LARGEST[name]
    image.convert(mode).save(tmp_path / name, **options)
    assert SIDE**2 <= MOST_PIXELS
    command = [sys.executable, "-c", MEASURED, str(tmp_path / name)]
    took = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert took < 4 * side**2 + 100e6


def test_heic_is_read_where_its_extra_is_installed():
    pytest.importorskip("pillow_heif")
    assert images.heic_is_there()
    content = encoded(smooth((96, 64)), "HEIF", quality=90)
    assert content[4:8] == b"ftyp"
    found = load_image(content, 32).astype(int)
    assert np.abs(found - load_image(encoded(smooth((96, 64))), 32)).mean() < 3
    with pytest.raises(BadImage):
        load_image(content[: len(content) // 2], 8)


def test_heic_says_what_to_install_where_it_is_not(monkeypatch):
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    monkeypatch.setattr(images, "heic_is_there", lambda: False)
    with pytest.raises(UnknownFormat, match=re.escape("pip install 'alexnet[heic]'")):
        load_image(content, 8)
    assert ".heic" not in images.readable_extensions()
