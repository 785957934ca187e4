"""What this machine can do at most: large matrix products, copies, pictures decoded; and how much
of it other programs leave."""

import hashlib
import io
import itertools
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from alexnet.data.images import load_image
from alexnet.runtime import as_found

SIDES = (1024, 2048)  # of the matrices
COPIED = 2**27  # bytes: more than caches hold
PICTURE = (500, 375)  # px, the most frequent size of ImageNet's pictures
PICTURES = 32  # decoded in each round
LOOKED = 0.3  # seconds for which it is looked how much of the processor there is

Rates = dict[str, dict[int, float]]  # by what is measured, by threads


def best_seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """The best time of a function, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def matrix_rate(
    device: torch.device, dtype: torch.dtype, sides: Iterable[int], repeats: int = 3
) -> float:
    """The best rate of a square matrix product, FLOP/s."""
    found = []
    for n in sides:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        found.append(2 * n**3 / best_seconds(lambda a=a, b=b: a @ b, repeats))  # type: ignore[misc]
    return max(found)


def copy_rate(device: torch.device) -> float:
    """Bytes copied in a second, within the memory of the device; each is read and written."""
    a = torch.ones(COPIED, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return COPIED / best_seconds(lambda: b.copy_(a))


def made_up_jpeg(seed: int = 0, size: tuple[int, int] = PICTURE) -> bytes:
    """A picture of about as many bytes as a photograph of its size."""
    noise = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    picture.save(file, "JPEG", quality=95)
    return file.getvalue()


def decoding_rate(threads: int) -> float:
    """Pictures in a second, from the bytes of a JPEG to a square of 256 px."""
    jpeg = made_up_jpeg()
    with ThreadPoolExecutor(threads) as pool:

        def decode() -> object:
            return list(pool.map(lambda _: load_image(jpeg, 256), range(PICTURES)))

        return PICTURES / best_seconds(decode)


def counts(threads: int) -> list[int]:
    """Numbers of threads that are worth measuring: 1, 2, 4, ..., and all."""
    powers = itertools.takewhile(lambda n: n < threads, (2**k for k in itertools.count()))
    return [*powers, threads]


@as_found()
def machine_rates(device: torch.device, dtypes: Iterable[torch.dtype]) -> Rates:
    """What it can do, by what is measured, with its unit, and by the number of threads. On a GPU a
    product or a copy has one rate, under 0."""
    found: Rates = {}

    def note(what: str, threads: int, rate: float) -> None:
        found.setdefault(what, {})[threads] = rate

    every = counts(torch.get_num_threads())
    for threads in every if device.type == "cpu" else [0]:
        if threads:
            torch.set_num_threads(threads)
        for dtype in dtypes:
            name = str(dtype).removeprefix("torch.")
            note(
                f"matrix product, {name}, GFLOP/s", threads, matrix_rate(device, dtype, SIDES) / 1e9
            )
        note("copying memory, GB/s", threads, copy_rate(device) / 1e9)
    for threads in every:
        note("decoding JPEGs, pictures/s", threads, decoding_rate(threads))
    return found


def share_of_processor(threads: int) -> float:
    """How much of so many threads' time this process gets, from 0 to 1, while it wants all of it;
    the rest goes to other programs, or is above a quota."""
    begun, content = time.perf_counter(), bytes(2**20)

    def work(_: int) -> float:
        start = time.thread_time()
        while time.perf_counter() < begun + LOOKED:
            hashlib.sha256(content)  # lets go of Python's lock
        return time.thread_time() - start

    threads = min(threads, os.cpu_count() or threads)
    with ThreadPoolExecutor(threads) as pool:
        taken = sum(pool.map(work, range(threads)))
    return min(1.0, taken / threads / (time.perf_counter() - begun))
