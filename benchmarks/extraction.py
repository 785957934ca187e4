"""Frozen layers against the arithmetic of the machine: images per second, and what share of the
rate of a large matrix product that is. Weights are random: the time does not depend on them.

    uv run benchmarks/extraction.py
"""

import statistics
import time
from functools import partial

import torch
from torch import nn

from alexnet.network.description import ARCHITECTURES
from alexnet.network.frozen import FrozenPart
from alexnet.network.model import AlexNet
from alexnet.runtime import choose_device, choose_precision


def median_seconds(function, repeats=7):
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matrix_rate(device, dtype):
    """The best rate of a square matrix product, FLOP/s."""
    best = 0.0
    for n in (1024, 2048, 4096):
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        best = max(best, 2 * n**3 / median_seconds(lambda a=a, b=b: a @ b))
    return best


def flop_per_image(model, side):
    """Multiply-adds of convolutions and fully connected layers, times two."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        total += 2 * output.numel() * layer.weight[0].numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return total


def main():
    device = choose_device("auto")
    dtype, _ = choose_precision("auto", device)
    print(f"torch {torch.__version__}, {device}, {dtype}, {torch.get_num_threads()} threads")
    for name, side, freeze in (
        ("2014", 224, "all-but-last"),
        ("2014", 224, "conv"),
        ("2012", 227, "conv"),
    ):
        body, _ = AlexNet(ARCHITECTURES[name], 1000).split(freeze)
        work = flop_per_image(body, side)
        frozen = FrozenPart(body, device, dtype)
        x = torch.randn(512, 3, side, side, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        speeds, shares, rates = [], [], []
        for _ in range(5):  # in turn, so that both see the same moments of a noisy machine
            rates.append(matrix_rate(device, dtype))
            speeds.append(512 / median_seconds(partial(frozen, x), 1))
            shares.append(speeds[-1] * work / rates[-1])
        print(
            f"{name}, freeze {freeze}: {statistics.median(speeds):,.0f} images/s, "
            f"{work / 1e9:.2f} GFLOP each, {statistics.median(shares):.0%} of the "
            f"{statistics.median(rates) / 1e9:,.0f} GFLOP/s of a {dtype} matrix product",
            flush=True,
        )


if __name__ == "__main__":
    main()
