"""What Python programs hold of pictures: right, or an error that says what it is and what is
expected."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import encoded, noise
from PIL import Image

from alexnet.classification.classifier import Classifier
from alexnet.data.images import load_image
from alexnet.data.objects import as_list, content_of
from alexnet.errors import DataError

SIDE = 8


class Squares(Classifier):
    """Keeps the squares it is asked about."""

    classes = names = ["a", "b"]
    metrics = {}
    calibration = examined = None

    def __init__(self, white=0):
        self.white = white

    def square(self, image):
        return load_image(image, SIDE, self.white)

    def probabilities(self, squares):
        self.squares = squares
        return np.full((len(squares), 2), 0.5, np.float32)


def squares(images, white=0):
    classifier = Squares(white)
    count = len(classifier.predict_proba(images))
    return classifier.squares if count else []


PIXELS = np.asarray(noise(1, (14, 9)))
EXPECTED = load_image(PIXELS, SIDE)
FILE = encoded(noise(1, (14, 9)))


class NotSeekable(io.BytesIO):
    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation


SAME = {
    "bytes": FILE,
    "a bytearray": bytearray(FILE),
    "a memoryview": memoryview(FILE),
    "BytesIO": io.BytesIO(FILE),
    "a stream": NotSeekable(FILE),
    "a Pillow image": noise(1, (14, 9)),
    "a lazy Pillow image": Image.open(io.BytesIO(FILE)),
    "HWC": PIXELS,
    "CHW": PIXELS.transpose(2, 0, 1),
    "not contiguous": np.repeat(PIXELS, 2, 1)[:, ::2],
    "RGBA": np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)]),
    "float32": (PIXELS / 255).astype(np.float32),
    "float64": PIXELS / 255,
    "uint16": PIXELS.astype(np.uint16) * 257,
    "a tensor of CHW": torch.from_numpy(PIXELS.transpose(2, 0, 1).copy()),
    "a tensor of HWC": torch.from_numpy(PIXELS.copy()),
    "a tensor of floats": torch.from_numpy(PIXELS.transpose(2, 0, 1).copy()) / 255,
    "a tensor with a gradient": (torch.from_numpy(PIXELS.copy()) / 255).requires_grad_(),
}


@pytest.mark.parametrize("name", SAME)
def test_one_picture_in_any_form_is_the_same_picture(name):
    for given_, count in ((SAME[name], 1), ([SAME[name], PIXELS], 2)):
        if name == "a stream":
            SAME[name].__init__(FILE)
        found = squares(given_)
        assert len(found) == count
        assert np.array_equal(found[0], EXPECTED)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_a_batch_is_a_sequence(last, make, kind):
    batch = np.stack([PIXELS, 255 - PIXELS])
    batch = batch if last else batch.transpose(0, 3, 1, 2).copy()
    found = squares(make(batch if kind == "uint8" else batch / 255))
    assert len(found) == 2
    assert np.array_equal(found[0], EXPECTED)
    assert np.array_equal(found[1], load_image(255 - PIXELS, SIDE))
    assert squares(make(batch[:0])) == []


def test_grey_and_black_and_white():
    grey = PIXELS[:, :, 0]
    for one in (grey, grey[:, :, None], grey[None], grey / 255):
        assert np.array_equal(squares(one)[0], load_image(grey, SIDE))
    mask = grey > 127
    assert np.array_equal(squares(mask)[0], load_image(mask * np.uint8(255), SIDE))
    many = np.stack([grey] * 5)  # five grey ones: no side could be channels
    assert len(squares(many)) == 5


def test_sixteen_bits_are_of_the_range_of_the_run():
    values = np.full((9, 14), 1023, np.uint16)
    assert (squares(values, 1023)[0] == 255).all()
    assert (squares(values, 4095)[0] == 64).all()
    assert (squares(values)[0] == 4).all()
    image = Image.frombytes("I;16", (14, 9), values.astype("<u2").tobytes())
    assert (squares(image, 1023)[0] == 255).all()


def test_files_are_read_where_they_are_and_left_as_they_were(tmp_path):
    path = tmp_path / "a b.png"
    path.write_bytes(FILE)
    with open(path, "rb") as file:
        file.seek(5)
        for one in (str(path), path, file, [path, str(path)], np.array([str(path)])):
            assert np.array_equal(squares(one)[0], EXPECTED)
        assert file.tell() == 5
    assert path.read_bytes() == FILE


WRONG = {
    "floats beyond 1": (PIXELS.astype(np.float32), "float32.*from 0 to 2.*numbers from 0 to 1"),
    "negative floats": (PIXELS / 255 - 0.5, "from -0.5"),
    "not a number": (np.full((9, 9), np.nan), "nan"),
    "infinite": (np.full((9, 9), np.inf), "inf"),
    "ambiguous": (np.zeros((3, 5, 3), np.uint8), r"\(3, 5, 3\).*channels first or last"),
    "empty": (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
    "objects": (np.full((9, 9, 3), None), "object"),
    "int64": (PIXELS.astype(np.int64), r"int64, shape \(9, 14, 3\).*expected"),
    "int8": (PIXELS.astype(np.int8), "int8"),
    "two channels": ([np.zeros((9, 9, 2), np.uint8)], r"\(9, 9, 2\)"),
    "a list of batches": ([np.zeros((2, 9, 9, 3), np.uint8)], r"\(2, 9, 9, 3\)"),
    "one number": (np.zeros(7, np.uint8), r"shape \(7,\)"),
    "a number": (3, "int is no picture"),
    "numbers": ([3, 4], "image 0 cannot be used: a int is no picture"),
    "a dictionary": ({"a": FILE}, "dict is no picture"),
    "nothing": (None, "NoneType"),
    "an address": ("https://example.org/cat.jpg", "are not fetched: download it first"),
    "an address as a path": (Path("http://example.org/cat.jpg"), "download it first"),
    "no file": ("no/such.jpg", "there is no file no/such.jpg"),
    "a folder": (".", "cannot be read"),
    "text": (io.StringIO("abc"), 'open it with "rb"'),
    "text as bytes": (b"hello", "not an image"),
    "a path as bytes": (b"cat.jpg", "not an image"),
    "a zero byte": ("a\0b", "no path holds"),
    "a sparse tensor": (torch.eye(9).to_sparse(), "no plain array"),
    "a tensor without content": (torch.zeros(9, 9, device="meta"), "no plain array"),
    "complex": (np.zeros((9, 9), complex), "complex128"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_picture_says_so(name):
    given_, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        squares(given_)


def test_a_closed_file_says_so():
    file = io.BytesIO(FILE)
    file.close()
    with pytest.raises(DataError, match="closed file"):
        squares(file)


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_a_column_of_paths_is_a_sequence(tmp_path, dtype):
    pandas = pytest.importorskip("pandas")
    paths = [str(tmp_path / f"{place}.png") for place in range(3)]
    frame = pandas.DataFrame({"path": pandas.Series(paths, [7, 8, 9], dtype=dtype)})
    assert as_list(frame["path"]) == as_list(frame["path"].to_numpy()) == paths
    with pytest.raises(DataError, match=r"DataFrame is no picture.*\n.*column of a table"):
        as_list(frame)


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 9]), max_size=5).map(tuple)
KINDS = (
    "bool uint8 int8 uint16 int16 int32 int64 float16 float32 float64 complex64 object U3".split()
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(SHAPES, st.sampled_from(KINDS), st.integers(-1, 300), st.booleans())
def test_any_array_is_pictures_or_an_error_that_names_it(shape, kind, value, tensor):
    array = np.full(shape, value).astype(kind)
    if tensor and kind not in ("object", "U3", "uint16"):
        array = torch.from_numpy(array)
    try:
        found = squares(array)
    except DataError as error:
        assert error.message
        return
    assert all(one.shape == (3, SIDE, SIDE) and one.dtype == np.uint8 for one in found)
    assert len(found) == len(as_list(array))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(5, 20),
    st.integers(5, 20),
    st.sampled_from([0, 1, 3, 4]),
    st.booleans(),
    st.sampled_from(["uint8", "float32", "uint16"]),
)
def test_layouts_and_types_agree(height, width, channels, last, kind):
    shape = (height, width, channels) if channels else (height, width)
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with content_of(array) as content:
        expected = load_image(content, SIDE)
    if channels and not last:
        array = array.transpose(2, 0, 1)
    if kind == "float32":
        array = array.astype(np.float32) / 255
    elif kind == "uint16":
        array = array.astype(np.uint16) * 257
    assert np.array_equal(squares(array)[0], expected)
