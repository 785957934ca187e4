"""Decoding on a budget: small pictures in a few threads, the cheapest first; costly ones one at a
time in a process of their own. So one client's large pictures neither hold up the small ones of
others nor take the memory of several at once.

Run as a module, it is that process: the bytes of an image file in, its centre square out.
"""

import contextlib
import io
import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from alexnet.data.images import BadImage, Pixels, open_image, square_pixels

Work = Callable[[], None]

THREADS = max(2, min(4, os.cpu_count() or 2))
# The cost of a picture, in pixels that are decoded whole. All THREADS at this limit, as JPEGs, and
# one of MOST_PIXELS are less than 2 * MOST_PIXELS at any time.
SMALL = 2**22
MOST_LARGE = 16  # costly pictures that wait, at most
LARGE_SECONDS = 60  # of a processor, for one of them
MOST_SECONDS = 300.0  # on the clock: it is not in a hurry, and the machine may be busy
UNUSABLE = 5  # exit code: the reason is on stderr; 1 and 2 are Python's own
PATIENCE = 1e-6  # s/px: a picture is overtaken by a cheaper one that came so much later, at most


class Busy(Exception):
    """So many images wait already that one more is refused."""


def cost_of(content: bytes) -> int:
    """What it costs to decode an image file, in pixels, from its header alone. A JPEG is decoded to
    a fraction of its size, but once for each of its scans, of which a hostile one has thousands.

    Raises:
        BadImage: it cannot be used.
    """
    image = open_image(content)
    pixels = image.width * image.height
    if image.format not in ("JPEG", "MPO"):
        return pixels
    scans = content.count(b"\xff\xda")
    return pixels * max(8, scans) // 32


class Decoders:
    """The threads that decode, shared by all models."""

    def __init__(self) -> None:
        self.stopped = False
        self._numbers = itertools.count()  # of two that are due at once, the first comes first
        self._small: queue.PriorityQueue[tuple[float, int, Work | None]] = queue.PriorityQueue()
        self._large: queue.PriorityQueue[tuple[float, int, Work | None]] = queue.PriorityQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name="decode", daemon=True)
            for lane in (*[self._small] * THREADS, self._large)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, cost: int, work: Work) -> None:
        """Has `work` done when it is its turn; it raises nothing.

        Raises:
            Busy: it is costly, and too many of its kind are waiting.
        """
        large = cost > SMALL
        if large and self._large.qsize() >= MOST_LARGE:
            raise Busy
        due = time.monotonic() + (0 if large else PATIENCE * cost)
        (self._large if large else self._small).put((due, next(self._numbers), work))

    def stop(self) -> None:
        """Ends the threads, after what they are doing; costly pictures are given up. It waits for
        them: where Python ends while a thread lets go of a tensor, the process is aborted (C++ code
        cannot be left in the middle, where it asks for Python's lock)."""
        self.stopped = True
        for lane in (*[self._small] * THREADS, self._large):
            lane.put((0, next(self._numbers), None))
        for thread in self._threads:
            thread.join()

    def _work(self, lane: "queue.PriorityQueue[tuple[float, int, Work | None]]") -> None:
        while (work := lane.get()[2]) is not None:
            work()
            del work  # and the picture with it, before the next one comes


def square_apart(content: bytes, side: int, white: int, given_up: Callable[[], bool]) -> Pixels:
    """The centre square of a costly image file, (H, W, 3) uint8, decoded in a process of its own:
    some modes hold Python's lock for seconds, a process gives its memory back, and it can be ended.

    Args:
        content: the file.
        side: the square is shrunk to this; S is less where the picture is smaller.
        white: `Preprocessing.range`.
        given_up: whether nobody waits for it any more; asked again and again.

    Raises:
        BadImage: it cannot be used, takes too long, or was given up.
    """
    begun, given = time.monotonic(), content
    words = [sys.executable, "-m", "alexnet.serving.decoding", str(side), str(white)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe) as process:  # noqa: S603
        assert process.stdin is not None  # noqa: S101
        # in one call; `communicate` would ask for Python's lock every 4 KiB, and wait for it
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(given)
        while True:
            try:
                pixels, told = process.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                if given_up() or time.monotonic() - begun > MOST_SECONDS:
                    process.kill()
        if process.returncode == 0:
            square: Pixels = np.load(io.BytesIO(pixels), allow_pickle=False)
            return square
    if process.returncode == UNUSABLE:
        raise BadImage(told.decode("utf-8", "replace"))
    raise BadImage("decoding it takes too much time or memory")


def main() -> int:
    """The process: 0 with the square on stdout, or UNUSABLE with a reason on stderr."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has neither
        import resource

        os.nice(5)  # everybody's small pictures come first
        resource.setrlimit(resource.RLIMIT_CPU, (LARGE_SECONDS, LARGE_SECONDS))
    try:
        side, white = map(int, sys.argv[1:])
        pixels = square_pixels(open_image(sys.stdin.buffer.read()), side, white)
    except BadImage as error:
        sys.stderr.buffer.write(error.message.encode())
        return UNUSABLE
    np.save(sys.stdout.buffer, pixels.transpose(1, 2, 0), allow_pickle=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
