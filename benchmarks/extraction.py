"""Frozen layers against the arithmetic of the machine: images per second, and what share of the
rate of a large matrix product that is. Weights are random: the time does not depend on them.

    uv run benchmarks/extraction.py
"""

import statistics
from functools import partial

import torch
from torch import nn

from alexnet.network.description import ARCHITECTURES
from alexnet.network.frozen import FrozenPart
from alexnet.network.model import AlexNet
from alexnet.runtime import choose_device, choose_precision
from alexnet.sweeping.limits import best_seconds, matrix_rate

SIDES = (1024, 2048, 4096)


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
            rates.append(matrix_rate(device, dtype, SIDES))
            speeds.append(512 / best_seconds(partial(frozen, x), 1))
            shares.append(speeds[-1] * work / rates[-1])
        print(
            f"{name}, freeze {freeze}: {statistics.median(speeds):,.0f} images/s, "
            f"{work / 1e9:.2f} GFLOP each, {statistics.median(shares):.0%} of the "
            f"{statistics.median(rates) / 1e9:,.0f} GFLOP/s of a {dtype} matrix product",
            flush=True,
        )


if __name__ == "__main__":
    main()
