"""Damages sample files of every format and looks at what the door to pictures makes of them:
pixels, or a BadImage; in less than 2 s and 500 MB; with the file as it was.

uv run python tests/long/fuzz_images.py --count 40000

The short form is a test (tests/test_images.py).
"""

import argparse
import io
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alexnet.data import images

MOST_SECONDS, MOST_BYTES = 2.0, 500e6
SIDE = 32
UNIT = 1 if sys.platform == "darwin" else 1024
# numbers that headers hold and that decoders stumble over
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 9450, 2**15 - 1, 2**15, 2**16 - 1, 2**16, 2**31 - 1]
NUMBERS += [2**31, 2**32 - 1]


def samples() -> list[bytes]:
    """Small files of every format, in most of its kinds."""
    across, down = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 48))
    pixels = np.stack([255 * across, 255 * down, 127 + 120 * np.sin(6 * across + 4 * down)], -1)
    base = Image.fromarray(pixels.astype(np.uint8))
    alpha = base.copy()
    alpha.putalpha(base.convert("L"))
    deep = Image.frombytes("I;16", base.size, (pixels[..., 0] * 257).astype("<u2").tobytes())
    exif = Image.Exif()
    exif[274] = 6
    exif.get_ifd(0x8769)[0x9000] = b"0230"
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (base, "JPEG", {"exif": exif}), (base, "JPEG", {"progressive": True, "subsampling": 0}),
        (base.convert("CMYK"), "JPEG", {}), (base.convert("L"), "JPEG", {"comment": b"words"}),
        (base, "PNG", {"exif": exif}), (alpha, "PNG", {}), (deep, "PNG", {}),
        (base.convert("P"), "PNG", {"transparency": 3}), (base.convert("1"), "PNG", {}),
        (base, "PNG", {"save_all": True, "append_images": [base.rotate(90)]}),
        (base, "WEBP", {"exif": exif}), (alpha, "WEBP", {"lossless": True}),
        (base, "WEBP", {"save_all": True, "append_images": [base.rotate(9)]}),
        (base, "GIF", {}), (base, "GIF", {"save_all": True, "append_images": [base.rotate(9)]}),
        (base, "BMP", {}), (base.convert("P"), "BMP", {}), (alpha, "BMP", {}),
        (base, "TIFF", {"exif": exif}), (deep, "TIFF", {"compression": "tiff_lzw"}),
        (base, "TIFF", {"compression": "jpeg"}),
        (base, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (base.convert("1"), "TIFF", {"compression": "group4"}), (base.convert("I"), "TIFF", {}),
        (base.convert("CMYK"), "TIFF", {"compression": "packbits"}),
        (base, "PPM", {}), (base.convert("L"), "PPM", {}), (base.convert("1"), "PPM", {}),
        (base.convert("I"), "PPM", {}), (base, "AVIF", {"exif": exif}), (alpha, "AVIF", {}),
        (base, "AVIF", {"save_all": True, "append_images": [base.rotate(9)]}),
    ]  # fmt: skip
    if images.heic_is_there():
        kinds += [(base, "HEIF", {"exif": exif}), (alpha, "HEIF", {})]
    made = []
    for image, kind, options in kinds:
        file = io.BytesIO()
        image.save(file, kind, **options)
        made.append(file.getvalue())
    return [*made, b"P3\n4 4\n255\n" + b"7 8 9 " * 16, b"P2\n4 4\n999\n" + b"700 " * 16]


def damaged(whole: list[bytes], draw: random.Random) -> bytes:
    """One of the files: with other bits, numbers or ends, or spliced with another."""
    content = bytearray(draw.choice(whole))
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        # most of what can go wrong stands at the beginning
        place = int(len(content) * draw.random() ** draw.choice([1, 3, 8]))
        kind = draw.randrange(6)
        if kind == 0 and content:
            content[min(place, len(content) - 1)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            width = draw.choice("BHI")
            number = draw.choice(NUMBERS) % 256 ** struct.calcsize(width)
            content[place : place + struct.calcsize(width)] = struct.pack(
                draw.choice("<>") + width, number
            )
        elif kind == 2:
            del content[place : place + draw.choice([1, 4, 64, 4096])]
        elif kind == 3:
            content[place:place] = draw.randbytes(draw.choice([1, 4, 64]))
        elif kind == 4:
            other = draw.choice(whole)
            start = int(len(other) * draw.random())
            content[place : place + 64] = other[start : start + draw.choice([8, 64, 512])]
        elif draw.random() < 0.3:
            del content[place:]
    return bytes(content)


def peak() -> int:
    """Bytes that this process has taken at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def fuzz(count: int, seed: int) -> Counter[str]:
    """Looks at so many damaged files; how many came to what.

    Raises:
        AssertionError: one of the promises is broken; the file lies in the folder it names.
    """
    whole, draw, found = samples(), random.Random(seed), Counter[str]()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-images-"))
    path = folder / "one"
    for one in whole:
        images.square_pixels(images.open_image(one), SIDE)
    start, slowest = peak(), 0.0
    for number in range(count):
        content = damaged(whole, draw)
        path.write_bytes(content)
        began = time.process_time()
        try:
            with open(path, "rb") as file:
                image = images.open_image(file if number % 2 else content)
                pixels = images.square_pixels(image, SIDE)
                assert pixels.shape[0] == 3 and pixels.dtype == np.uint8, path
            found[f"{image.format}: pixels"] += 1
        except images.BadImage as error:
            assert error.message, path
            found["bad image"] += 1
        except BaseException as error:
            raise AssertionError(f"{path}: {type(error).__name__}: {error}") from error
        took = time.process_time() - began
        slowest = max(slowest, took)
        assert took < MOST_SECONDS, f"{path} took {took:.1f} s"
        assert peak() - start < MOST_BYTES, f"{path} took {(peak() - start) / 1e6:.0f} MB"
        assert path.read_bytes() == content, path
    path.unlink(missing_ok=True)
    folder.rmdir()
    print(f"slowest {slowest:.2f} s, {(peak() - start) / 1e6:.0f} MB above the start")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for what, count in fuzz(given.count, given.seed).most_common():
        print(f"{count:7,} {what}")


if __name__ == "__main__":
    main()
