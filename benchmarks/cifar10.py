"""CIFAR-10 to 81.37 % on the test images: `alexnet train --recipe cifar10-fast` against the method
of airbench94, each seed in a process of its own, in turns; the images are packed before.

    uv run python benchmarks/cifar10.py --seeds 10 [--data real-data/cifar10] [--threads 2]

- ours: the whole command, report included, and the seconds of its epochs, validation included;
- airbench: the network, schedule, augmentation and views of Jordan, "94% on CIFAR-10 in 3.29
  seconds on a single GPU" (2024), in code of ours, from the same packed images, without any report;
  shorter than its 9.9 epochs, since 81.37 % is wanted and not 94. bfloat16 autocast, channels last,
  and freed memory kept, as ours has them.

Prints mean accuracies, median seconds and their ratio, and writes all of it as JSON. The runs of
ours stay in --runs, for `docs/results.py add cifar10-fast RUN ...`.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
WANTED = 0.8137  # the best of the notebook that docs/results.md lists
OURS, AIRBENCH = "alexnet train --recipe cifar10-fast", "airbench94's method"
COMMAND = "import sys; from alexnet.cli import main; sys.exit(main())"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


# -- airbench94's method ---------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, inputs, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, padding="same", bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding="same", bias=False)
        self.norm1, self.norm2 = (
            nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4) for _ in range(2)
        )
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            nn.init.dirac_(conv.weight.data[: conv.in_channels])
            norm.weight.requires_grad = False

    def forward(self, x):
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Net(nn.Module):
    def __init__(self, images):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        patches = F.unfold(images, 2).transpose(1, 2).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 5e-4).sqrt()).T.reshape(-1, 3, 2, 2)
        self.whiten.weight.data = torch.cat([filters, -filters])
        self.whiten.weight.requires_grad = False
        self.whiten.bias = nn.Parameter(torch.zeros(24))
        self.blocks = nn.Sequential(Block(24, 64), Block(64, 256), Block(256, 256))
        self.last = nn.Linear(256, 10, bias=False)

    def forward(self, x):
        x = self.blocks(F.gelu(self.whiten(x)))
        return self.last(F.max_pool2d(x, 3).flatten(1)) / 9


def shifted(x, top, left, by):
    """Windows that begin `top` and `left` px, each (B,), into images with a mirrored border."""
    wide = F.pad(x, (by,) * 4, mode="reflect")
    windows = wide.unfold(2, x.shape[-1], 1).unfold(3, x.shape[-1], 1)
    return windows[torch.arange(len(x)), :, top, left]


def normalised(x):
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (MEAN, STD))
    return ((x.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def rates(steps):
    """The share of the rate at each step."""
    rise = int(steps * 0.23)
    return [
        0.2 + 0.8 * step / rise if step < rise else 1 - 0.93 * (step - rise) / (steps - rise)
        for step in range(steps)
    ]


def optimiser(model, batch, momentum=0.85, rate=11.5, decay=0.0153, bias_scaler=64.0):
    """SGD whose rate and decay are for 1,024 images, and higher for the biases of normalisation."""
    unit = 1024 * (1 + 1 / (1 - momentum))
    lr, wd = rate / unit, decay * batch / unit
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    groups = [
        {"params": [one for name, one in named if ("norm" in name) is biases], "base": base}
        | {"lr": base, "weight_decay": wd / base}
        for biases, base in ((True, lr * bias_scaler), (False, lr))
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=True)


def train_airbench(x, y, seed, epochs, batch=1024):
    """A network trained as the paper says, for so many epochs."""
    torch.manual_seed(seed)
    model = (
        Net(normalised(x[torch.randperm(len(x))[:5000]]))
        .to(memory_format=torch.channels_last)
        .train()
    )
    optimizer, per_epoch = optimiser(model, batch), len(x) // batch
    steps = math.ceil(per_epoch * epochs)
    share, slow = rates(steps), {name: one.clone() for name, one in model.state_dict().items()}

    def look_ahead(decay):
        for name, one in model.state_dict().items():
            if one.is_floating_point():
                slow[name].lerp_(one, 1 - decay)
                one.copy_(slow[name])

    flipped = torch.rand(len(x)) < 0.5  # alternately from here on
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0:
            order = torch.randperm(len(x))
            model.whiten.bias.requires_grad = epoch < 3
        rows = order[place * batch : (place + 1) * batch]
        mirrored = flipped[rows] ^ bool(epoch % 2)
        images = torch.where(mirrored.view(-1, 1, 1, 1), x[rows].flip(-1), x[rows])
        top, left = torch.randint(5, (2, batch))
        images = shifted(images, top, left, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(normalised(images))
        loss = F.cross_entropy(logits.float(), y[rows], label_smoothing=0.2, reduction="sum")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * share[step]
        optimizer.step()
        if step % 5 == 4:
            look_ahead(0.95**5 * ((step + 1) / steps) ** 3)
    look_ahead(1.0)
    return model.eval()


def seen_by_airbench(model, x):
    """Logits of six views: as it is, and a pixel up and left, and down and right, each mirrored."""
    found = []
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for images in x.split(1000):
            total = torch.zeros(len(images), 10)
            for by, weight in ((1, 0.5), (0, 0.25), (2, 0.25)):
                place = torch.full((len(images),), by)
                view = normalised(shifted(images, place, place, 1))
                total += weight * (model(view).float() + model(view.flip(-1)).float()) / 2
            found.append(total)
    return torch.cat(found)


def airbench(asked):
    """A process of its own: trains, looks at the test images, prints what came of it."""
    from alexnet.data.datasets import open_data
    from alexnet.runtime import keep_memory

    keep_memory()
    torch.set_num_threads(asked.threads)
    store = open_data(asked.data, image_size=32)
    begin, end = store.info["splits"]["train"]
    x, y = torch.from_numpy(np.array(store.x[begin:end])), torch.from_numpy(store.y[begin:end])
    begun = time.perf_counter()
    model = train_airbench(x, y, asked.seed, asked.epochs)
    seconds = time.perf_counter() - begun
    begin, end = store.info["splits"]["test"]
    logits = seen_by_airbench(model, torch.from_numpy(np.array(store.x[begin:end])))
    hits = logits.argmax(1).numpy() == store.y[begin:end]
    print(json.dumps({"top1": float(hits.mean()), "training": seconds}))


# -- the race --------------------------------------------------------------------------------------


def timed(words, asked):
    """What a process printed; its seconds from start to end, and those of its processors."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": str(asked.threads)}
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=environment, text=True, capture_output=True
    )
    whole, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr}")
    processor = sum(getattr(after, one) - getattr(before, one) for one in ("ru_utime", "ru_stime"))
    return done.stdout, {"command": whole, "processor": processor}


def ours(seed, asked):
    run = asked.runs / str(seed)
    words = f"--recipe cifar10-fast --seed {seed} --out {run}".split()
    _, took = timed(["-c", COMMAND, "train", asked.data, *words], asked)
    lines = (run / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
    training = sum(json.loads(line)["seconds"] for line in lines)
    figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {"top1": figures["top1"], "training": training, **took}


def theirs(seed, asked):
    words = f"--seed {seed} --epochs {asked.epochs} --threads {asked.threads}".split()
    said, took = timed([__file__, "--data", asked.data, "--airbench", *words], asked)
    return {**json.loads(said), **took}


def told(name, rounds, best):
    top1 = [one["top1"] for one in rounds]
    training, command, processor = (
        statistics.median(one[what] for one in rounds)
        for what in ("training", "command", "processor")
    )
    error = statistics.stdev(top1) / len(top1) ** 0.5 if len(top1) > 1 else math.nan
    return (
        f"{name:38} {statistics.mean(top1):.2%} (standard error {error:.2%})  training "
        f"{training:.1f} s  command {command:.1f} s  processor {processor:.1f} s  "
        f"{training / best:.2f} times"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT / "real-data" / "cifar10")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--epochs", type=float, default=2.5, help="of airbench94; 0: ours alone")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "cifar10-fast")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "cifar10-speed.json")
    parser.add_argument("--airbench", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.airbench:
        return airbench(asked)
    from alexnet.data.datasets import open_data
    from alexnet.runtime import environment

    fingerprint = open_data(asked.data, image_size=32).fingerprint
    around = environment(torch.device("cpu"), torch.bfloat16, fingerprint)
    rounds = {OURS: []} | ({AIRBENCH: []} if asked.epochs else {})
    for seed in range(asked.seeds):
        for name in list(rounds)[:: -1 if seed % 2 else 1]:
            rounds[name].append((ours if name == OURS else theirs)(seed, asked))
            print(f"{name}, seed {seed}: {rounds[name][-1]}", file=sys.stderr)
    best = statistics.median(one["training"] for one in rounds[OURS])
    for name, found in rounds.items():
        print(told(name, found, best))
    summary = {
        "job": f"CIFAR-10 to {WANTED:.2%}; {asked.epochs:g} epochs of airbench",
        "command": f"benchmarks/cifar10.py --seeds {asked.seeds} --epochs {asked.epochs:g}",
        "processor": around["processor"],
        "threads": asked.threads,
        "version": around["versions"]["alexnet"],
        "date": date.today().isoformat(),
        "contestants": rounds,
    }
    asked.out.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
