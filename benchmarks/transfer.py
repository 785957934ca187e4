"""Transfer learning against the plain loop, and extraction against the arithmetic of the machine.

    uv run benchmarks/transfer.py real-data/tiny-imagenet-100 [--views 2]

The job is that of a public program people learn from: 20 epochs of a new last layer on the frozen
2014 network, 50,000 images. Three figures are printed, all of one run on one machine:

- extraction: images per second and share of the machine's matrix-product rate, 2014 and 2012;
- ours: the whole command, from packing to test figures, twice: with an empty cache and with a full
  one (weights are random: the time does not depend on them), with so many cached views of an image;
- plain: torchvision's transforms and network, a DataLoader with 2 workers, frozen layers run in
  every epoch. It is measured on some batches, with one thread and with two for the arithmetic, and
  the better of both is scaled to the whole job: start-up, checkpoints, and all passes over the
  validation images but one are left out, in its favour.

Caveats: on two cores the workers and the arithmetic share the cores; a second busy program makes
all of it slower. Quote ratios, not seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

from alexnet.data.datasets import open_data
from alexnet.network.checkpoint import Network, save_network
from alexnet.network.description import ARCHITECTURES
from alexnet.network.frozen import FrozenPart
from alexnet.network.model import AlexNet
from alexnet.network.weights import TORCHVISION
from alexnet.runtime import choose_device, choose_precision

EPOCHS, BATCH, VAL_BATCH = 20, 100, 10


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


def extraction(device, dtype):
    """Prints images per second of frozen layers, and their share of the matrix-product rate."""
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
            f"extraction, {name}, freeze {freeze}: {statistics.median(speeds):,.0f} images/s, "
            f"{work / 1e9:.2f} GFLOP each, {statistics.median(shares):.0%} of the "
            f"{statistics.median(rates) / 1e9:,.0f} GFLOP/s of a {dtype} matrix product",
            flush=True,
        )


def plain(data, images, val_images, classes, batches, batches_val):
    """Seconds of the whole job, scaled from some batches."""
    import torchvision
    from torchvision import transforms

    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    train = torchvision.datasets.ImageFolder(
        data / "train",
        transforms.Compose(
            [
                transforms.RandomResizedCrop(224),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                normalise,
            ]
        ),
    )
    val = torchvision.datasets.ImageFolder(
        data / "val",
        transforms.Compose(
            [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalise]
        ),
    )
    model = torchvision.models.alexnet(weights=None)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.classifier[6] = nn.Linear(4096, classes)
    optimizer = torch.optim.Adam(model.classifier[6].parameters(), lr=0.001)
    loss = nn.CrossEntropyLoss()

    def per_batch(folder, batch_size, count, training):
        loader = torch.utils.data.DataLoader(
            folder, batch_size=batch_size, shuffle=training, num_workers=2
        )
        model.train(training)
        times, last = [], None
        for number, (x, y) in enumerate(loader):
            with torch.set_grad_enabled(training):
                value = loss(model(x), y)
            if training:
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            now = time.perf_counter()
            if last is not None and number > 4:  # the workers' head start
                times.append(now - last)
            last = now
            if number >= count + 4:
                break
        return statistics.mean(times)

    best = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        best[threads] = per_batch(train, BATCH, batches // 10, True)
    threads = min(best, key=best.__getitem__)
    torch.set_num_threads(threads)
    training = per_batch(train, BATCH, batches, True)
    validation = per_batch(val, VAL_BATCH, batches_val, False)
    torch.set_num_threads(2)
    seconds = EPOCHS * images / BATCH * training + val_images / VAL_BATCH * validation
    shown = f"{threads} thread{'s' if threads > 1 else ''}"
    print(
        f"plain loop: {training * 1e3:,.0f} ms a training batch of {BATCH} (mean of {batches}, "
        f"{shown}), {validation * 1e3:,.0f} ms a validation batch of {VAL_BATCH} (mean of "
        f"{batches_val}); {EPOCHS} epochs of {images:,} images and one pass over {val_images:,}, "
        f"scaled: {seconds:,.0f} s",
        flush=True,
    )
    return seconds


def ours(data, folder, which, views):
    """Seconds of the whole command."""
    command = [
        sys.executable, "-m", "alexnet.cli", "train", str(data), "--recipe",
        "tiny-imagenet-last-layer", "--weights", str(folder / "random-2014.safetensors"),
        "--epochs", str(EPOCHS), "--val-size", "0.0001", "--cached-views", str(views),
        "--flip" if views > 1 else "--no-flip",
        "--out", str(folder / which),
    ]  # fmt: skip
    env = os.environ | {"ALEXNET_CACHE": str(folder / "cache")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # as after an ordinary installation
    start = time.perf_counter()
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    epochs = [
        json.loads(line) for line in (folder / which / "epochs.jsonl").read_text().splitlines()
    ]
    inside = sum(epoch["seconds"] for epoch in epochs)
    print(
        f"ours, {which}: {seconds:.1f} s, of which {inside:.1f} s for {len(epochs)} epochs",
        flush=True,
    )
    return seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="Tiny ImageNet in its official layout")
    parser.add_argument("--batches", type=int, default=200, help="of the plain loop, measured")
    parser.add_argument("--views", type=int, default=1, help="cached views: 2 adds the mirror")
    options = parser.parse_args()
    device = choose_device("auto")
    dtype, _ = choose_precision("auto", device)
    print(f"torch {torch.__version__}, {device}, {dtype}, {torch.get_num_threads()} threads")
    extraction(device, dtype)
    store = open_data(options.data, image_size=64)
    images, val_images = len(store.split("train")), len(store.split("test"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = AlexNet(ARCHITECTURES["2014"], 1000)
        path = folder / "random-2014.safetensors"
        save_network(
            path, Network(path, model.architecture, model.state_dict(), [], [], TORCHVISION)
        )
        first = ours(options.data, folder, "first", options.views)
        second = ours(options.data, folder, "second", options.views)
        slow = plain(
            options.data, images, val_images, len(store.classes), options.batches, options.batches
        )
    print(f"plain / ours: {slow / first:.1f} times, second run {slow / second:.0f} times")


if __name__ == "__main__":
    main()
