"""A new head on frozen convolutions: `alexnet train` against what else people write, timed whole.

    uv run benchmarks/transfer.py real-data/tiny-imagenet-100 real-data/bvlc_alexnet_q7_int8.npz

The job: a linear classifier of Tiny Image10's ten classes on the convolutions of BVLC's 2012
network, Adam, each epoch sees each training image or its mirror at 227 px. Every contestant is a
program of its own, timed from its start to its accuracy on the same 500 test images:

- ours: `alexnet train` with an empty cache, packing and extraction included, and again with a full
  one; without report and TensorBoard, which the others do not write;
- the loop everybody writes: fp32, NCHW, ImageFolder and DataLoader, frozen layers in every epoch;
- the same in bf16 and channels last, with workers that stay;
- a cache written by hand (`cached`): features of image and mirror once, then the head; and again.

They take turns, so that all see the same moments of a noisy machine, and medians are told. The
loops get one or two threads for the arithmetic, whichever a trial finds quicker, and look at no
image for validation. With --batches the loops are timed over so many batches and scaled to the job:
for larger jobs; accuracies are then not theirs to tell. Writes results/transfer-speed.json.

Caveat: torch computes the 2012 network's LRN slowly, which the plain loop pays for in every epoch;
in bf16 it does not at all, so those who want it write their own (`Lrn`).
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

SIDE, BATCH, LR = 227, 100, 1e-3
WARM_UP = 5  # batches that are not timed: the workers have a head start
FEATURES = 256 * 6 * 6
MEAN, STD = (123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3  # of BVLC's network
RESULT = Path(__file__).resolve().parent.parent / "results" / "transfer-speed.json"

OURS, PLAIN = "alexnet train", "the loop everybody writes"
TUNED, CACHED = "the same in bf16, channels last", "a cache written by hand"


# -- the contestants: each returns whether each test image is right, by its path -------------------


TORCH_LRN = partial(nn.LocalResponseNorm, 5, 1e-4, 0.75, 1.0)


class Lrn(nn.Module):
    """The same for bf16, in which torch's own does not run."""

    def forward(self, x):
        squares = F.pad(x * x, (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, place : place + x.shape[1]] for place in range(5))
        return x / (1 + 1e-4 / 5 * total) ** 0.75


def convolutions(weights, lrn=TORCH_LRN):
    """The 2012 network's, in torch's own layers, as anybody would write them."""
    layers = nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), lrn(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), lrn(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(),
    )  # fmt: skip
    known = load_file(weights)
    mine = {n.removeprefix("features."): x for n, x in known.items() if n.startswith("features.")}
    layers.load_state_dict(mine)
    return layers.eval().requires_grad_(False)


def images(folder, split, flip=0.0, **how):
    """Torchvision's data set and torch's loader of one split."""
    from torchvision import datasets, transforms

    steps = [
        transforms.Resize(SIDE),
        transforms.RandomHorizontalFlip(flip),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    found = datasets.ImageFolder(folder / split, transforms.Compose(steps))
    return torch.utils.data.DataLoader(found, batch_size=BATCH, num_workers=2, **how)


def right(network, loader, folder):
    """Whether each image of a loader is classified right."""
    with torch.no_grad():
        hits = torch.cat([network(x).argmax(1) == y for x, y in loader]).tolist()
    paths = [Path(path).relative_to(folder).as_posix() for path, _ in loader.dataset.samples]
    return dict(zip(paths, hits, strict=True))


def loop(folder, weights, epochs, batches, tuned):
    """The plain loop: everything in every epoch. With `batches` only so many after some others;
    then the seconds of the whole job, scaled, are printed instead of an accuracy."""
    train = images(folder, "train", 0.5, shuffle=True, persistent_workers=tuned)
    body = convolutions(weights, Lrn) if tuned else convolutions(weights)
    network = body.append(nn.Linear(FEATURES, len(train.dataset.classes)))
    kind = torch.channels_last if tuned else torch.contiguous_format
    network.to(memory_format=kind)
    optimizer = torch.optim.Adam(network[-1].parameters(), lr=LR)

    def forward(x):
        with torch.autocast("cpu", torch.bfloat16, enabled=tuned):
            return network(x.contiguous(memory_format=kind)).float()

    ends = []
    for _ in range(
        epochs + batches + WARM_UP * bool(batches)
    ):  # enough for so many batches, however few an epoch has
        for x, y in train:
            optimizer.zero_grad()
            F.cross_entropy(forward(x), y).backward()
            optimizer.step()
            ends.append(time.perf_counter())
            if batches and len(ends) == batches + WARM_UP:
                return (ends[-1] - ends[WARM_UP - 1]) / batches * len(train) * epochs
    return right(forward, images(folder, "test"), folder)


def cached(folder, weights, epochs, kept):
    """The cache: features of each image and its mirror, computed once and kept in a file."""

    def features(split, flip):
        body = convolutions(weights, Lrn).to(torch.bfloat16, memory_format=torch.channels_last)
        found = []
        with torch.no_grad():
            for x, _ in images(folder, split, flip):
                x = x.to(torch.bfloat16, memory_format=torch.channels_last)
                found += [body(piece).half() for piece in x.split(16)]
        return torch.cat(found)

    train, test = (images(folder, split) for split in ("train", "test"))
    if not kept.exists():
        views = torch.stack([features("train", 0.0), features("train", 1.0)])
        torch.save({"train": views, "test": features("test", 0.0)}, kept)
    x = torch.load(kept, mmap=True)
    y = torch.tensor(train.dataset.targets)
    head = nn.Linear(FEATURES, len(train.dataset.classes))
    optimizer = torch.optim.Adam(head.parameters(), lr=LR)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(BATCH):
            views = torch.randint(2, (len(rows),))
            optimizer.zero_grad()
            F.cross_entropy(head(x["train"][views, rows].float()), y[rows]).backward()
            optimizer.step()
    hits = (head(x["test"].float()).argmax(1) == torch.tensor(test.dataset.targets)).tolist()
    paths = [Path(path).relative_to(folder).as_posix() for path, _ in test.dataset.samples]
    return dict(zip(paths, hits, strict=True))


# -- the race --------------------------------------------------------------------------------------


def child(name, work, asked, threads, batches=0, kept="kept"):
    """(seconds from start to end, what it found) of a rival in a process of its own."""
    words = [name, work / "data", work / "weights.safetensors", asked.epochs, batches, work / kept]
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import transfer"
    command = [sys.executable, "-c", f"{code}; transfer.rival(*sys.argv[1:])", *map(str, words)]
    start = time.perf_counter()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True,
        env=environment(threads),
    )  # fmt: skip
    return time.perf_counter() - start, json.loads(done.stdout)


def rival(name, folder, weights, epochs, batches, kept):
    """What such a process does."""
    torch.manual_seed(time.time_ns() % 2**32)
    job = Path(folder), weights, int(epochs)
    found = (
        cached(*job, Path(kept))
        if name == CACHED
        else loop(*job, int(batches), tuned=name == TUNED)
    )
    json.dump(found, sys.stdout)


def ours(work, asked, cache, seed):
    """The same of `alexnet train`, with what it says of its surroundings."""
    from alexnet.runs.directory import RunDirectory

    out = work / f"run-{cache}-{time.monotonic_ns()}"
    recipe = (
        f"--recipe finetune --weights {work / 'weights.safetensors'} --image-size {SIDE} "
        f"--crop {SIDE} --fc-layers 1 --hidden auto --fc-norm none --views 1 --batch-size {BATCH} "
        f"--epochs {asked.epochs} --optimizer adam --lr {LR} --weight-decay 0 --dropout 0 "
        "--label-smoothing 0 --schedule constant --finetune-epochs 0 --no-report --no-tensorboard"
    )
    words = [sys.executable, "-m", "alexnet", "train", work / "data", *recipe.split()]
    words += ["--seed", seed, "--out", out]
    start = time.perf_counter()
    subprocess.run(
        list(map(str, words)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment(asked.threads, ALEXNET_CACHE=str(work / f"cache-{cache}")),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    run = RunDirectory(out)
    predictions = run.predictions()
    hits = dict(zip(predictions.ids, predictions.hits.tolist(), strict=True))
    return seconds, hits, run.settings.surroundings[0]


def environment(threads, **changes):
    """As after an ordinary installation, with compiled bytecode; 0 threads: as torch likes it."""
    hidden = {"PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS"}
    kept = {key: os.environ[key] for key in os.environ.keys() - hidden} | changes
    return kept | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def quicker(name, work, asked):
    """One or two threads for a rival's arithmetic, unless it is said."""
    if asked.threads:
        return asked.threads
    trial = {n: child(name, work, asked, n, batches=4)[1] for n in (1, 2)}
    return min(trial, key=trial.__getitem__)


def race(work, asked):
    """{contestant: {"seconds", "again", "hits"}}, lists over the runs, and our surroundings."""
    threads = {name: quicker(name, work, asked) for name in (PLAIN, TUNED)}
    threads[CACHED] = threads[TUNED]
    found = {
        name: {"seconds": [], "again": [], "hits": []} for name in (OURS, PLAIN, TUNED, CACHED)
    }

    def note(name, seconds, hits, key="seconds"):
        told = isinstance(hits, dict)  # else it is the scaled time
        found[name][key].append(seconds if told else hits)
        found[name]["hits"] += [hits] * (told and key == "seconds")
        print(f"{name}, {key}: {found[name][key][-1]:.1f} s", file=sys.stderr, flush=True)

    for number in range(asked.runs):
        for key in ("seconds", "again"):
            seconds, hits, around = ours(work, asked, number, number)
            note(OURS, seconds, hits, key)
            seconds, hits = child(CACHED, work, asked, threads[CACHED], kept=f"kept-{number}")
            note(CACHED, seconds, hits, key)
        for name in (TUNED, PLAIN):
            note(name, *child(name, work, asked, threads[name], asked.batches))
    return found, around


def compared(found):
    """(accuracies, difference to ours) of each contestant that was trained to its end."""
    from alexnet.scoring.significance import difference, training_noise

    def matrix(hits):
        return np.array([[one[image] for image in sorted(one)] for one in hits])

    told = {name: matrix(one["hits"]) for name, one in found.items() if one["hits"]}
    noise = training_noise(list(told.values()))
    return {
        name: (hits.mean(1).tolist(), difference(hits, told[OURS], noise))
        for name, hits in told.items()
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="Tiny ImageNet in its official layout")
    parser.add_argument("weights", type=Path, help="of BVLC's 2012 network")
    parser.add_argument("--per-class", type=int, default=50, help="training images")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batches", type=int, default=0, help="of the loops, scaled; 0: all")
    parser.add_argument("--threads", type=int, default=0, help="of everything; 0: the better")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        prepare(work, asked)
        found, around = race(work, asked)
    same = compared(found)
    contestants = []
    for name, one in found.items():
        tops, gap = same.get(name, ([], None))
        contestants.append(
            {
                "name": name,
                "seconds": [round(s, 1) for s in one["seconds"]],
                "again": [round(s, 1) for s in one["again"]],
                "top1": [round(top, 4) for top in tops],
                "difference": [round(x, 4) for x in (gap.mean, gap.low, gap.high)] if gap else [],
            }
        )
        print(line(contestants[-1], contestants[0]))
    write(asked, contestants, around)


def prepare(work, asked):
    """The data, as a folder of class folders, and the weights, as one file."""
    from alexnet.data.finding import read_source
    from alexnet.data.subset import select, write_folder
    from alexnet.network.weights import import_weights

    part = select(read_source(asked.data), classes=10, per_class=(asked.per_class, 10, 50))
    write_folder(part, work / "data")
    os.environ["ALEXNET_CACHE"] = str(work / "cache")
    import_weights(asked.weights, "bvlc-2012").rename(work / "weights.safetensors")


def line(one, first):
    """A contestant's row of the table."""
    median = statistics.median
    again = f"again {median(one['again']):7.1f} s" if one["again"] else " " * 15
    ratio = median(one["seconds"]) / median(first["seconds"])
    text = f"{one['name']:32} {median(one['seconds']):8.1f} s {again}  {ratio:6.1f} times"
    with contextlib.suppress(ValueError):
        mean, low, high = one["difference"]
        noise = "within noise" if low <= 0 <= high else "NOT within noise"
        text += (
            f"  {statistics.mean(one['top1']):.1%}, {100 * mean:+.1f} points from ours "
            f"({100 * low:+.1f} to {100 * high:+.1f}: {noise})"
        )
    return text


def write(asked, contestants, around):
    """The summary, from which docs/results.py writes the README's sentence."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parent,
    ).stdout.strip()  # fmt: skip
    found = {
        "job": f"{asked.epochs} epochs of a new last layer on {10 * asked.per_class:,} images",
        "processor": around["processor"],
        "precision": around["precision"],
        "threads": around["threads"],
        "caveat": f"the loops scaled from {asked.batches} batches"
        if asked.batches
        else "start to end, nothing scaled",
        "command": "benchmarks/transfer.py tiny-imagenet-100 bvlc_alexnet_q7_int8.npz "
        f"--per-class {asked.per_class} --epochs {asked.epochs} --batches {asked.batches}",
        "version": around["versions"]["alexnet"],
        "commit": commit,
        "date": date.today().isoformat(),
        "contestants": contestants,
    }
    asked.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
