"""What Python programs hold of pictures, as `images.open_image` takes it: paths, bytes, open files,
Pillow images, NumPy arrays, torch tensors, and batches of them. Imports no torch."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.data.images import BadImage, Pixels, to_bytes
from alexnet.errors import DataError

CHANNELS = (1, 3, 4)
EXPECTED = (
    "expected (H, W), (H, W, 1), (H, W, 3) RGB, (H, W, 4) RGBA, or with the channels first, of "
    "uint8, uint16, bool, or floating-point numbers from 0 to 1"
)
FLOAT_SLIP = 1e-5  # beyond 0 and 1, from resizing in float32


class SupportsArray(Protocol):
    """A torch tensor, or another array."""

    def __array__(self, /) -> NDArray[Any]: ...


Picture = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image
    | NDArray[Any] | SupportsArray
)  # fmt: skip


def as_list(images: Picture | Sequence[Picture]) -> list[Any]:
    """One picture or several as a list of pictures. An array of four dimensions is a batch, one of
    three whose first and last are no channels is a batch of grey ones.

    Raises:
        DataError: these are no pictures.
    """
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
        return [images]
    if hasattr(images, "read"):
        return [images]
    if _is_array(images):
        shape = tuple(int(side) for side in images.shape)  # type: ignore[union-attr]
        kind = getattr(getattr(images, "dtype", None), "kind", None)  # of NumPy, and of pandas
        words = kind is not None and kind in "OUST"
        batch = len(shape) == 4 or (len(shape) == 3 and not {shape[0], shape[2]} & {*CHANNELS})
        if not batch and not (words and len(shape) == 1) and not hasattr(images, "columns"):
            return [images]
    try:
        if isinstance(images, dict) or hasattr(images, "columns"):  # of which one is meant
            raise TypeError
        return list(images)  # type: ignore[arg-type]
    except TypeError:
        raise DataError(
            f"{type(images).__name__} is no picture and no sequence of pictures.",
            "Give paths, bytes, open files, Pillow images, arrays, or a list of these, such as the "
            "column of a table.",
        ) from None


def name_of(image: object, place: int) -> str:
    """What messages call a picture: its path, or its place."""
    return str(image) if isinstance(image, (str, os.PathLike)) else f"image {place}"


@contextlib.contextmanager
def content_of(image: object, white: int = 0) -> Iterator[bytes | IO[bytes] | Pixels | Image.Image]:
    """One picture as `images.open_image` takes it, for as long as the context lasts. The object is
    not changed; an open file stays where it is.

    Args:
        image: a `Picture`.
        white: the value of uint16 that becomes white; 0 for 65535.

    Raises:
        OSError: there is no such file, or it cannot be read. BadImage: not a picture; says what it
        is, and what is expected.
    """
    if isinstance(image, (str, os.PathLike)):
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(image)):
            raise BadImage("http(s) addresses are not fetched: download it first")
        path = os.path.expanduser(image)  # noqa: PTH111
        if "\0" in str(path):
            raise BadImage("no path holds a zero byte")
        with open(path, "rb") as file:
            yield file if file.seekable() else file.read()
    elif isinstance(image, (bytes, Image.Image)):
        yield image
    elif isinstance(image, (bytearray, memoryview)):
        yield bytes(image)
    elif hasattr(image, "read"):
        yield _read(image)
    elif _is_array(image):
        yield _pixels(as_numpy(image), white)
    else:
        raise BadImage(
            f"a {type(image).__name__} is no picture; expected a path, bytes, an open file, a "
            "Pillow image or an array"
        )


def _is_array(image: object) -> bool:
    return hasattr(image, "__array__") and hasattr(image, "shape")


def _read(file: Any) -> bytes:
    """All of an open file, from its beginning where that can be gone back to."""
    try:
        seekable = file.seekable() if hasattr(file, "seekable") else False
        here = file.tell() if seekable else 0
        if seekable:
            file.seek(0)
        content = file.read()
        if seekable:
            file.seek(here)
    except ValueError as error:
        raise BadImage(f"the file cannot be read ({error})") from error
    if isinstance(content, str):
        raise BadImage('the file was opened as text; open it with "rb"')
    return bytes(content)


def as_numpy(image: Any) -> NDArray[Any]:
    """An array, or a tensor wherever it is, as one of NumPy. BadImage where it is no plain one."""
    try:
        if hasattr(image, "detach"):  # a tensor, of any device
            image = image.detach().cpu()
            # NumPy does not know bfloat16
            image = image.float() if image.dtype.is_floating_point else image
        return np.asarray(image)
    except Exception as error:  # sparse, without content, ...: of every kind
        raise BadImage(f"a {type(image).__name__} that is no plain array ({error})") from error


def _pixels(array: NDArray[Any], white: int) -> Pixels | Image.Image:
    """(H, W) or (H, W, 3) uint8, or an RGBA image."""
    told = f"an array of {array.dtype}, shape {array.shape}"
    if 0 in array.shape or array.ndim not in (2, 3):
        raise BadImage(f"{told}; {EXPECTED}")
    if array.ndim == 3:
        array = _channels_last(array, told)
    values = _as_bytes(array, told, white)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    values = np.ascontiguousarray(values)
    return Image.fromarray(values) if values.shape[2:] == (4,) else values


def _channels_last(array: NDArray[Any], told: str) -> NDArray[Any]:
    first, last = (array.shape[place] in CHANNELS for place in (0, 2))
    if first and last and array.shape[::2] != (4, 3):  # RGB, as release 0.1.0 took it
        raise BadImage(
            f"{told}, which could have its channels first or last; give a Pillow image, or a batch "
            "of shape (1, H, W, 3) made of a larger one"
        )
    if not first and not last:
        raise BadImage(f"{told}; {EXPECTED}")
    return array if last else array.transpose(1, 2, 0)


def _as_bytes(array: NDArray[Any], told: str, white: int) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return to_bytes(array, white or 65535)
    if array.dtype.kind == "f":
        least, greatest = float(array.min()), float(array.max())
        if not (least >= -FLOAT_SLIP and greatest <= 1 + FLOAT_SLIP):  # NaN is neither
            raise BadImage(f"{told}, from {least:g} to {greatest:g}; {EXPECTED}")
        found: NDArray[np.uint8] = (array * 255).round().clip(0, 255).astype(np.uint8)
        return found
    raise BadImage(f"{told}; {EXPECTED}")
