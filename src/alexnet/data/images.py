"""From the bytes of an image file to square RGB pixels: the one door that packing, evaluation,
prediction, serving and Python share. Imports torch only to enlarge.

What is believed of a file: its pixels, and its orientation. Metadata that cannot be read is as good
as none.
"""

import contextlib
import ctypes
import io
import logging
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from alexnet.errors import DataError

# Pillow knows more formats, some of which start other programs or have never seen a hostile file
FORMATS = {
    "JPEG": ".jpg .jpeg .jpe .jfif",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif .tiff",
    "PPM": ".ppm .pgm .pbm .pnm",
    "AVIF": ".avif",
    "HEIF": ".heic .heif",  # with the extra `heic`
}
EXTENSIONS = frozenset(ending for endings in FORMATS.values() for ending in endings.split())
HEIC = frozenset(FORMATS["HEIF"].split())
HEIC_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
INSTALL_HEIC = "pip install 'alexnet[heic]'"
SMALLEST_SIDE = 2
MOST_PIXELS = 2**28 // 3  # 89.5 million, where Pillow begins to warn: 256 MiB of RGB
# what one picture may take while it is decoded: that many pixels as Pillow holds them, and 100 MB
MOST_BYTES = 4 * MOST_PIXELS + 100_000_000
COSTS = {"WEBP": 12.5, "AVIF": 9.0, "HEIF": 5.0}  # bytes a pixel that decoders hold; measured
SLOW_CODECS = {"ppm", "ppm_plain", "bmp_rle"}  # in Python, which holds a picture four times
LARGE = 2**27  # bytes; of larger pictures one is decoded at a time, however many threads there are
STRIP = 2**19  # pixels that are converted at a time
GREYSCALE_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})  # and I;16 in all its byte orders
RANGES = (255, 1023, 4095, 16383, 65535)  # the greatest values of 8, 10, 12, 14 and 16 bits
WHOLE = 2**24  # pixels of an image that may be there twice
BILINEAR = Image.Resampling.BILINEAR
# uncompressed pixels in files: bytes of each, and which of them are the channels
RAW = {
    "RGB": (3, slice(3)),
    "BGR": (3, slice(None, None, -1)),
    "RGBX": (4, slice(3)),
    "BGRX": (4, slice(2, None, -1)),
    "RGBA": (4, slice(4)),
    "RGB;16L": (6, slice(1, None, 2)),
    "RGB;16B": (6, slice(0, None, 2)),
    "RGBA;16L": (8, slice(1, None, 2)),
    "RGBA;16B": (8, slice(0, None, 2)),
}
ORIENTATION = 0x0112
OURS, BITS = "alexnet-own", "alexnet-bits"  # keys of our own in an image's info
TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Pixels = NDArray[np.uint8]
_one_large = threading.Lock()
# without a handler Python itself would write Pillow's words to standard error
logging.getLogger("PIL").addHandler(logging.NullHandler())


class BadImage(DataError):
    """An image cannot be used; the message is the reason."""


class UnknownFormat(BadImage):
    """These bytes are no image of a known format."""


class TooManyPixels(BadImage):
    """The image is larger than any photograph."""


@cache
def heic_is_there() -> bool:
    """Whether .heic files can be read; registers their decoder with Pillow, once."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
    )
    return True


def readable_extensions() -> frozenset[str]:
    """Those of EXTENSIONS that can be read with what is installed."""
    return EXTENSIONS if heic_is_there() else EXTENSIONS - HEIC


@cache
def _quieten_libtiff() -> None:
    """Takes from Pillow's libtiff its way to standard error, where it names no file; what is wrong
    reaches Pillow all the same."""
    with contextlib.suppress(Exception):  # where it is built in, it goes on talking
        ctypes.CDLL(sys.modules["PIL._imaging"].__file__).TIFFSetErrorHandler(None)


class _Quiet:
    """Keeps Pillow's warnings to itself, in any number of threads: they speak of metadata that is
    not looked at, and name no file. Held around many pictures, it costs them nothing each."""

    def __init__(self) -> None:
        self.lock, self.inside, self.stack = threading.Lock(), 0, contextlib.ExitStack()

    def __enter__(self) -> None:
        with self.lock:  # the filters belong to the process: who comes first sets them
            if not self.inside:
                self.stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif|alexnet\.data)\b")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.stack.close()


quiet = _Quiet()


def open_image(content: bytes | IO[bytes] | Pixels | Image.Image) -> Image.Image:
    """The image with its header read and its size checked, nothing decoded yet.

    Args:
        content: the bytes of a file, a file opened for reading (from its beginning, and until the
            pixels are read), pixels (H, W, 3) or (H, W) uint8, or a Pillow image.

    Raises:
        BadImage: not an image, or of a size that no photograph has.
    """
    if isinstance(content, np.ndarray):
        return _of_usual_size(Image.fromarray(content))
    if isinstance(content, Image.Image):
        lazy = isinstance(content, ImageFile.ImageFile) and bool(content.tile)
        stub = isinstance(content, ImageFile.StubImageFile)
        if stub or (lazy and content.format not in {*FORMATS, "MPO"}):
            raise UnknownFormat(f"{content.format} is not opened here; load the image before")
        return _of_usual_size(content)
    with quiet:
        if isinstance(content, bytes):
            if not content:
                raise BadImage("the file is empty")
            return _of_usual_size(_opened(io.BytesIO(content)))
        return _of_usual_size(_opened(content))


def _formats(file: IO[bytes]) -> list[str]:
    """Those of FORMATS that this file may be; the decoder of HEIC is loaded for its files alone."""
    heic = file.read(12)[4:8] == b"ftyp" and heic_is_there()
    file.seek(0)
    return [name for name in FORMATS if name != "HEIF" or heic]


def _opened(file: IO[bytes]) -> Image.Image:
    """The one place that lets Pillow look at a file."""
    try:
        formats = _formats(file)
        try:
            image: Image.Image = Image.open(file, formats=formats)
        except (UnidentifiedImageError, ValueError, OSError) as error:
            again = _without_metadata(file, error, formats)
            if again is None:
                raise
            image = again
        image.info[OURS] = True
        if image.format == "PNG" and is_deep(image):
            image.info[BITS] = _significant_bits(file)
        return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(f"more than {MOST_PIXELS / 1e6:.0f} megapixels") from error
    except UnidentifiedImageError as error:
        raise _unidentified(file) from error
    except Exception as error:  # Pillow raises whatever a damaged header leads it to
        raise BadImage(f"the header cannot be read ({_words(error)})") from error


def _unidentified(file: IO[bytes]) -> BadImage:
    file.seek(0)
    start = file.read(12)
    if not start:
        return BadImage("the file is empty")
    if start[4:8] == b"ftyp" and start[8:12] in HEIC_BRANDS and not heic_is_there():
        return UnknownFormat(f"HEIC needs pillow-heif: {INSTALL_HEIC}")
    return UnknownFormat("not an image, or of an unknown format")


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _of_usual_size(image: Image.Image) -> Image.Image:
    width, height = image.size
    pixels = width * height
    if pixels > MOST_PIXELS:
        raise TooManyPixels(f"{width}x{height} px is more than {MOST_PIXELS / 1e6:.0f} megapixels")
    if min(width, height) < SMALLEST_SIDE:
        raise BadImage(f"{width}x{height} px is too small to show anything")
    return image


def _cost(image: Image.Image, size: tuple[int, int]) -> float:
    """Bytes that decoding will hold at once, at most; `size` is that before `Image.draft`."""
    if not image.info.get(OURS):
        return 4.0 * image.width * image.height
    tiles: list[Any] = getattr(image, "tile", [])
    each = 16.0 if tiles and tiles[0][0] in SLOW_CODECS else COSTS.get(image.format or "", 4.0)
    cost = each * image.width * image.height
    layers: list[Any] = getattr(image, "layer", [])
    if image.info.get("progressive") and layers:
        # libjpeg holds all coefficients, two bytes each
        most = max(one[1] for one in layers) * max(one[2] for one in layers)
        cost += 2 * size[0] * size[1] * sum(one[1] * one[2] for one in layers) / max(1, most)
    return cost


def _without_metadata(
    file: IO[bytes], error: Exception, formats: list[str], load: bool = False
) -> Image.Image | None:
    """A PNG or JPEG opened (and loaded) without its metadata: first with its EXIF block, then
    without, for pixels that are sound though Pillow stumbles over what is said of them."""
    if "MAX_TEXT" in str(error):  # a text that would fill the memory is no slip
        return None
    file.seek(0)
    start = file.read(4)
    strip = {b"\x89PNG": _png_without_metadata, b"\xff\xd8\xff": _jpeg_without_metadata}
    for magic, stripped in strip.items():
        for exif in (True, False) if start.startswith(magic) else ():
            with contextlib.suppress(Exception):
                file.seek(0)
                image = Image.open(io.BytesIO(stripped(file.read(), exif)), formats=formats)
                if load:
                    image.load()
                return image
    return None


def _png_without_metadata(content: bytes, exif: bool) -> bytes:
    kept, place = [content[:8]], 8
    names = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", *([b"eXIf"] if exif else [])}
    while place + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        if name in names:
            kept.append(content[place : place + 12 + length])
        place += 12 + length
    return b"".join(kept)


def _jpeg_without_metadata(content: bytes, exif: bool) -> bytes:
    kept, place = [content[:2]], 2
    while content[place] == 0xFF and content[place + 1] != 0xDA:
        marker = content[place + 1]
        length = 2 + struct.unpack_from(">H", content, place + 2)[0]
        # JFIF and Adobe say what the colours are
        about = (0xE0 < marker <= 0xEF and marker != 0xEE) or marker == 0xFE
        if not about or (exif and content[place + 4 : place + 8] == b"Exif"):
            kept.append(content[place : place + length])
        place += length
    return b"".join([*kept, content[place:]])


def is_greyscale(image: Image.Image) -> bool:
    """Whether the file stores one grey channel (with or without transparency)."""
    return image.mode in GREYSCALE_MODES or image.mode.startswith("I;16")


def is_deep(image: Image.Image) -> bool:
    """Whether the pixels are whole numbers of more than 8 bits, whose white is not known."""
    return image.mode == "I" or image.mode.startswith("I;16")


def declared_white(image: Image.Image) -> int:
    """The value that a file with deep pixels says is white; 0 if it does not say so.

    A PGM's largest value is what Pillow scales to 65535; TIFF has 12 bits and 16, of which 16 says
    nothing.
    """
    bits = getattr(image, "tag_v2", {}).get(258, (16,))
    return 65535 if image.format == "PPM" else 4095 if bits == (12,) else 0


@dataclass
class Raster:
    """The decoded pixels of one image as they are stored, seen upright."""

    image: Image.Image
    stored: Image.Image | Pixels  # (H, W, C) or (H, W) where its decoder gave that: a copy less
    orientation: int = 1  # as EXIF counts

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        if isinstance(self.stored, Image.Image):
            width, height = self.stored.size
        else:
            height, width = self.stored.shape[:2]
        return (height, width) if self.orientation > 4 else (width, height)

    def part(self, left: int, top: int, right: int, bottom: int) -> Image.Image:
        """A copy of the pixels inside a box of the upright image."""
        width, height = self.size
        if self.orientation in (2, 3, 6, 7):
            left, right = width - right, width - left
        if self.orientation in (3, 4, 7, 8):
            top, bottom = height - bottom, height - top
        if self.orientation > 4:
            left, top, right, bottom = top, left, bottom, right
        if isinstance(self.stored, Image.Image):
            part = self.stored.crop((left, top, right, bottom))
        else:
            part = Image.fromarray(np.ascontiguousarray(self.stored[top:bottom, left:right]))
        turned = TRANSPOSED.get(self.orientation)
        return part if turned is None else part.transpose(turned)

    def needed_white(self) -> int:
        """Of deep pixels the least of RANGES that all are within, or what the file says of it.

        Raises:
            BadImage: no such range has pixels of these values.
        """
        least, greatest = self._extrema()
        if least < 0 or greatest > RANGES[-1]:
            raise BadImage(
                f"pixels from {least} to {greatest} have no known range; save it with 8 bits, or "
                "with 16 and from 0"
            )
        hints = [declared_white(self.image), *_hinted(self.image)]
        fitting = [one for one in hints if one >= greatest]
        return max(fitting, default=0) or next(one for one in RANGES if one >= greatest)

    def _extrema(self) -> tuple[int, int]:
        least, greatest = self.image.getextrema()  # of deep pixels, which have one channel
        return int(least), int(greatest)  # type: ignore[arg-type]

    def _white(self, white: int) -> int:
        """The value that becomes 255."""
        if white:
            self.needed_white()
        elif self.image.mode == "I":  # release 0.1.0 took each such file by itself
            white = 65535 if self._extrema()[1] > 255 else 255
        return white or 65535

    def square(self, size: int, white: int = 0) -> Pixels:
        """As `square_pixels`."""
        width, height = self.size
        shorter = min(width, height)
        left, top, *_ = box = _centre(width, height)
        if is_deep(self.image):
            white = self._white(white)
        if shorter <= size:
            across, down = int(left), int(top)
            image = rgb(self.part(across, down, across + shorter, down + shorter), white)
        elif isinstance(self.stored, Image.Image) and self.orientation == 1 and _is_rgb(self.image):
            image = self.stored.resize((size, size), BILINEAR, box)
        else:
            image = self._shrunk(size, white)
        # put in order here, in a thread that decodes, as long as they are in the processor's cache
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def _shrunk(self, size: int, white: int) -> Image.Image:
        """The same as conversion to RGB and `Image.resize`, with no second copy of a large image:
        that is converted a strip at a time, each is resized one way, and all together the other."""
        width, height = self.size
        left, top, right, bottom = box = _centre(width, height)
        how = _passes(width, height, size) if width * height > WHOLE else ""
        if how == "across":
            narrow = Image.new("RGB", (size, height))
            for start, stop in _pieces(height, width):
                strip = rgb(self.part(0, start, width, stop), white)
                strip = strip.resize((size, stop - start), BILINEAR, (left, 0, right, stop - start))
                narrow.paste(strip, (0, start))
            return narrow.resize((size, size), BILINEAR, (0, top, size, bottom))
        if how == "down":
            flat = Image.new("RGB", (width, size))
            for start, stop in _pieces(width, height):
                strip = rgb(self.part(start, 0, stop, height), white)
                strip = strip.resize((stop - start, size), BILINEAR, (0, top, stop - start, bottom))
                flat.paste(strip, (start, 0))
            return flat.resize((size, size), BILINEAR, (left, 0, right, size))
        whole = Image.new("RGB", (width, height))
        for start, stop in _pieces(height, width):
            whole.paste(rgb(self.part(0, start, width, stop), white), (0, start))
        return whole.resize((size, size), BILINEAR, box)


def _centre(width: int, height: int) -> tuple[float, float, float, float]:
    shorter = min(width, height)
    left, top = (width - shorter) / 2, (height - shorter) / 2
    return left, top, left + shorter, top + shorter


def _pieces(length: int, other: int) -> Iterator[tuple[int, int]]:
    step = max(1, STRIP // other)
    for start in range(0, length, step):
        yield start, min(start + step, length)


@lru_cache
def _passes(width: int, height: int, size: int) -> str:
    """Which way `Image.resize` goes first, "across" or "down": each pass rounds, and the order
    depends on the size and on Pillow's release, so it is asked. "" where it goes in neither way."""
    left, top, right, bottom = box = _centre(width, height)
    across = down = False
    for seed in range(8):  # the two are equal by chance where the result is tiny
        noise = np.random.default_rng(seed).integers(0, 256, 65537, dtype=np.uint8)
        image = Image.fromarray(np.resize(noise, (height, width)))
        found = image.resize((size, size), BILINEAR, box).tobytes()
        narrow = image.resize((size, height), BILINEAR, (left, 0, right, height))
        across = narrow.resize((size, size), BILINEAR, (0, top, size, bottom)).tobytes() == found
        flat = image.resize((width, size), BILINEAR, (0, top, width, bottom))
        down = flat.resize((size, size), BILINEAR, (left, 0, right, size)).tobytes() == found
        if across != down:
            break
    return "" if across == down else "across" if across else "down"


@contextlib.contextmanager
def decoded(image: Image.Image, size: int) -> Iterator[Raster]:
    """The pixels of an opened image, for a square of `size` px.

    A JPEG is decoded straight to a fraction of its size that keeps twice as many pixels, unless a
    user holds it: what comes from Python is not changed.

    Raises:
        BadImage: the file is truncated or damaged.
    """
    with quiet, contextlib.ExitStack() as stack:
        try:
            whole, shorter = image.size, min(image.size)
            if image.info.get(OURS) and shorter > 2 * size:
                goal = (image.width * 2 * size // shorter, image.height * 2 * size // shorter)
                image.draft(None, goal)
            cost = _cost(image, whole)
            if cost > MOST_BYTES:
                raise TooManyPixels(
                    f"{whole[0]}x{whole[1]} px is too large for a picture of its kind "
                    f"({image.format}): decoding it takes {cost / 1e6:,.0f} MB"
                )
            if cost > LARGE:
                stack.enter_context(_one_large)
            if image.width * image.height > WHOLE and shorter > size:
                # asked before there are pixels, so that both are never in memory; TIFF knows
                # already that it is turned
                turned = image.format != "TIFF" and "exif" in image.info and _orientation(image) > 4
                _passes(*(image.size[::-1] if turned else image.size), size)
            yield _raster(image)
        except BadImage:
            raise
        except MemoryError as error:
            raise BadImage("there is too little memory to decode it") from error
        except Exception as error:  # Pillow raises whatever damaged data leads it to
            raise BadImage(f"damaged or cut short ({_words(error)})") from error


def _raster(image: Image.Image) -> Raster:
    if not image.info.get(OURS):
        image.load()
        return Raster(image, image, _orientation(image))
    if image.format == "TIFF":  # Pillow would turn it while it loads, with a copy
        _quieten_libtiff()
        orientation = _orientation(image)
        image._exif = Image.Exif()
        image._exif._loaded = True
        stored = _raw_array(image)
        if stored is not None:
            return Raster(image, stored, orientation)
        image.load()
        image._size = image.im.size
        return Raster(image, image, orientation)
    stored = _decoder_array(image)
    if stored is None:
        stored = _raw_array(image)
    if stored is not None:
        return Raster(image, stored, _orientation(image))
    try:
        image.load()
    except Exception as error:
        # where Pillow has let go of the file all of it was read: then the data is what is wrong
        file: Any = getattr(image, "fp", None)
        if file is None or file.closed:
            raise
        again = _without_metadata(file, error, [image.format or ""], load=True)
        if again is None:
            raise
        image = again
    return Raster(image, image, _orientation(image))


def _raw_array(image: Any) -> Pixels | None:
    """(H, W, C) of a large file that lies in memory and is not compressed; None for all others."""
    width, height = image.size
    if width * height <= WHOLE or not isinstance(image.fp, io.BytesIO) or not image.tile:
        return None
    codec, _, first, arguments = image.tile[0]
    if codec != "raw" or image.mode not in ("RGB", "RGBA"):
        return None
    name, stride, direction = arguments if isinstance(arguments, tuple) else (arguments, 0, 1)
    if name not in RAW:
        return None
    each, channels = RAW[name]
    stride = stride or each * width
    together = all(
        tile[0] == codec
        and (tile[1][0], tile[1][2]) == (0, width)
        and tile[2:] == (first + tile[1][1] * stride, arguments)
        for tile in image.tile
    )
    if not together or (len(image.tile) > 1 and direction != 1):
        return None
    # a file that is cut short has too few bytes: a ValueError
    data = np.frombuffer(image.fp.getvalue(), np.uint8, height * stride, first)
    rows = data.reshape(height, stride)[:: direction or 1, : width * each]
    return rows.reshape(height, width, each)[:, :, channels]


def _decoder_array(image: Any) -> Pixels | None:
    """(H, W, C) of the first frame, from decoders that hold it already: Pillow would copy it
    twice. None for all others, and where a later Pillow works in another way."""
    width, height = image.size
    try:
        if image.format == "WEBP":
            data = image._get_next()[0]
            stride = len(data) // height
        elif image.format == "AVIF":
            data = image._decoder.get_frame(0)[0]
            stride = len(data) // height
        elif image.format == "HEIF":
            frame = image._heif_file[image.tell()]
            data, stride = frame.data, frame.stride
            width, height = frame.size
        else:
            return None
    except AttributeError:
        return None
    bands = 4 if getattr(image, "rawmode", "") == "RGBX" else len(image.getbands())
    image._decoder = image._heif_file = None  # what they hold is not needed any more
    rows = np.frombuffer(data, np.uint8, height * stride).reshape(height, stride)
    pixels = rows[:, : width * bands].reshape(height, width, bands)
    return pixels[:, :, 0] if bands == 1 else pixels[:, :, : len(image.getbands())]


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF counts; 1 where that cannot be read."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
        return found if found in TRANSPOSED else 1
    except Exception:  # of every kind: a broken block of metadata is none
        return 1


def _hinted(image: Image.Image) -> Iterator[int]:
    """What metadata says of the range of deep pixels, without being bound to it: PNG's significant
    bits, TIFF's greatest sample."""
    bits = image.info.get(BITS, 0)
    if 8 < bits < 16:
        yield 2**bits - 1
    tags = getattr(image, "tag_v2", {})
    for tag in (281, 341):  # MaxSampleValue, SMaxSampleValue
        found = tags.get(tag)
        value = found[0] if isinstance(found, tuple) and found else found
        if isinstance(value, int | float) and 0 < value <= RANGES[-1]:
            yield next(one for one in RANGES if one >= value)


def _significant_bits(file: IO[bytes]) -> int:
    """What the sBIT chunk of a grey PNG says, 0 if there is none; Pillow reads over it."""
    here = file.tell()
    file.seek(8)
    found = 0
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"sBIT":
            found = (file.read(1) or b"\0")[0]
            break
        file.seek(length + 4, io.SEEK_CUR)
    file.seek(here)
    return found


def square_pixels(image: Image.Image, size: int, white: int = 0) -> Pixels:
    """The centre square of an opened image, (3, S, S) uint8 RGB; S is `size`, or the shorter side
    where that is smaller.

    The orientation in EXIF is applied, transparency is laid over white, and shrinking is bilinear
    and antialiased. Nothing is enlarged here: `augment.resize` does that, the same for all that
    follows. `white` is the value of pixels of more than 8 bits that becomes 255; 0 for 65535, and
    for 255 in files of 32 bits that have no greater one.

    Raises:
        BadImage: the file is truncated or damaged.
    """
    with decoded(image, size) as raster:
        return raster.square(size, white)


def _is_rgb(image: Image.Image) -> bool:
    return image.mode == "RGB" and not image.has_transparency_data


@cache
def _bytes_of(white: int) -> Pixels:
    """(65536,) the byte of each 16-bit value, where `white` becomes 255."""
    table = (np.arange(65536, dtype=np.float64) * (255 / white)).round().clip(0, 255)
    return table.astype(np.uint8)


def to_bytes(values: NDArray[Any], white: int) -> Pixels:
    """Whole numbers of any shape as uint8, where `white` becomes 255, and what is outside of 0 to
    `white` black and white."""
    found: Pixels = _bytes_of(white)[values.clip(0, 65535).astype(np.uint16)]
    return found


def rgb(image: Image.Image, white: int = 65535) -> Image.Image:
    """A decoded image of any mode as RGB; `white` is the value of pixels of more than 8 bits that
    becomes 255."""
    if _is_rgb(image):
        return image
    if is_deep(image):
        return Image.fromarray(to_bytes(np.asarray(image), white)).convert("RGB")
    if image.mode == "F":
        raise BadImage("floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white_paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white_paper, image).convert("RGB")
    return image.convert("RGB")


def load_image(
    content: bytes | IO[bytes] | Pixels | Image.Image, size: int, white: int = 0
) -> Pixels:
    """One image, from whatever `open_image` takes, to (3, size, size) uint8; `white` as in
    `square_pixels`."""
    return enlarged(square_pixels(open_image(content), size, white), size)


def enlarged(pixels: Any, size: int) -> Pixels:
    """(3, S, S) pixels, S <= size, as (3, size, size)."""
    import torch

    from alexnet.data.augment import resize

    result: Pixels = resize(torch.from_numpy(np.array(pixels))[None], size)[0].numpy()
    return result
