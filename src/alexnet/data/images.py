"""From the bytes of an image file to square RGB pixels: the one loader that packing, evaluation and
prediction share. Imports torch only to enlarge."""

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from alexnet.errors import DataError

EXTENSIONS = frozenset(  # lower case
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .avif".split()
)
SMALLEST_SIDE = 2
MOST_PIXELS = 2**28 // 3  # 89.5 million, where Pillow begins to warn: 256 MiB of RGB
GREYSCALE_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})  # and I;16 in all its byte orders

Pixels = NDArray[np.uint8]


class BadImage(DataError):
    """An image cannot be used; the message is the reason."""


def open_image(content: bytes | Pixels) -> Image.Image:
    """The image with its header read and its size checked, nothing decoded yet.

    Raises:
        BadImage: not an image, or of a size that no photograph has.
    """
    if not isinstance(content, bytes):
        return Image.fromarray(content)
    if not content:
        raise BadImage("the file is empty")
    try:
        image = Image.open(io.BytesIO(content))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"more than {MOST_PIXELS / 1e6:.0f} megapixels") from error
    except UnidentifiedImageError as error:
        raise BadImage("not an image, or of an unknown format") from error
    except (OSError, ValueError, SyntaxError, struct.error, RuntimeError) as error:
        raise BadImage(f"the header cannot be read ({error})") from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise BadImage(f"{width}x{height} px is more than {MOST_PIXELS / 1e6:.0f} megapixels")
    if min(width, height) < SMALLEST_SIDE:
        raise BadImage(f"{width}x{height} px is too small to show anything")
    return image


def is_greyscale(image: Image.Image) -> bool:
    """Whether the file stores one grey channel (with or without transparency)."""
    return image.mode in GREYSCALE_MODES or image.mode.startswith("I;16")


def square_pixels(image: Image.Image, size: int) -> Pixels:
    """The centre square of an opened image, (3, S, S) uint8 RGB; S is `size`, or the shorter side
    where that is smaller.

    The orientation in EXIF is applied, transparency is laid over white, 16-bit grey is scaled to 8
    bits, and shrinking is bilinear and antialiased. Nothing is enlarged here: `augment.resize` does
    that, the same for all that follows.

    Raises:
        BadImage: the file is truncated or damaged.
    """
    try:
        # a JPEG decodes straight to half, a quarter or an eighth of its size; twice the goal keeps
        # all the detail
        shorter = min(image.size)
        if shorter > 2 * size:
            image.draft(
                None, (image.width * 2 * size // shorter, image.height * 2 * size // shorter)
            )
        image.load()
        image = rgb(ImageOps.exif_transpose(image))
    except (
        OSError,
        ValueError,
        SyntaxError,
        struct.error,
        EOFError,
        IndexError,
        TypeError,
        RuntimeError,
    ) as error:
        raise BadImage(f"damaged or cut short ({error})") from error
    shorter = min(image.size)
    left, top = (image.width - shorter) / 2, (image.height - shorter) / 2
    if shorter > size:
        image = image.resize(
            (size, size), Image.Resampling.BILINEAR, (left, top, left + shorter, top + shorter)
        )
    else:
        image = image.crop((int(left), int(top), int(left) + shorter, int(top) + shorter))
    return np.asarray(image).transpose(2, 0, 1)


def rgb(image: Image.Image) -> Image.Image:
    """A decoded image of any mode as RGB."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.float64)
        # Pillow opens some 16-bit files as I, which also holds 8-bit values
        sixteen = image.mode != "I" or values.max() > 255
        grey = (values * (255 / 65535 if sixteen else 1)).round().clip(0, 255)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise BadImage("floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def load_image(content: bytes | Pixels | Image.Image, size: int) -> Pixels:
    """One image, from a file's bytes, an array (H, W, 3) or (H, W) uint8, or a Pillow image, to (3,
    size, size) uint8."""
    # a copy, because decoding changes an image that was opened lazily
    image = content.copy() if isinstance(content, Image.Image) else open_image(content)
    return enlarged(square_pixels(image, size), size)


def enlarged(pixels: Any, size: int) -> Pixels:
    """(3, S, S) pixels, S <= size, as (3, size, size)."""
    import torch

    from alexnet.data.augment import resize

    result: Pixels = resize(torch.from_numpy(np.array(pixels))[None], size)[0].numpy()
    return result
