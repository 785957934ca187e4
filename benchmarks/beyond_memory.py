"""Training on a Store several times as large as the memory that there is.

    uv run python benchmarks/beyond_memory.py [--limit 1000] [--times 4] [--side 64] [--window 8192]
    uv run python benchmarks/beyond_memory.py --shuffles cifar10 [--window 5000] [--seeds 3]

An epoch of the recipe cifar10-fast on made-up pictures, of which it sees 32 px, in turns: with all
memory; in a control group of `--limit` megabytes (Linux, root), shuffled at once; and there with
`--shuffle-window`. Before each the file is dropped from the page cache; with all memory it is read
once. The second form trains on DATA with a full shuffle and with a window, for each seed.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import sem, t

import alexnet
from alexnet import marks
from alexnet.data.store import StoreWriter

GROUP = "alexnet-benchmark"


def made_up(folder: Path, size: float, side: int) -> Path:
    """A Store of about so many bytes, of pictures of `side` px."""
    generator, count = np.random.default_rng(0), int(size) // (3 * side * side)
    piece = max(1, 2**24 // side**2)
    with StoreWriter(folder, (3, side, side), "uint8") as writer:
        for start in range(0, count, piece):
            shape = (min(piece, count - start), 3, side, side)
            writer.append(generator.integers(0, 256, shape, np.uint8))
        names = [str(name) for name in range(10)]
        info = {
            "classes": names, "names": names, "splits": {"all": [0, count]},
            "fingerprint": "0" * 64, "source": "made up", "left_out": [], "native": side, "bad": [],
            "greyscale": {"found": 0, "policy": "convert"}, "layout": "made up",
        }  # fmt: skip
        y = np.arange(count) * 10 // count
        return writer.finish("made-up", info, y, [f"{number}" for number in range(count)])


@contextlib.contextmanager
def control_group(limit: int) -> Iterator[Path]:
    """A control group of so many bytes of memory."""
    top = Path("/sys/fs/cgroup")
    old = (top / "memory" / "memory.limit_in_bytes").exists()
    group = (top / "memory" if old else top) / GROUP
    group.mkdir(exist_ok=True)
    (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit))
    try:
        yield group
    finally:
        group.rmdir()


def epoch(store: Path, side: int, group: Path | None, words: list[str]) -> dict[str, float]:
    """What an epoch of the command came to."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "alexnet", "train", str(store), "--recipe", "cifar10-fast",
                   "--image-size", str(side), "--crop", "32", "--epochs", "1", "--warmup", "0.2",
                   "--no-report", "--out", str(run), *words]  # fmt: skip
        joined = (lambda: (group / "cgroup.procs").write_text(str(os.getpid()))) if group else None
        subprocess.run(command, check=True, preexec_fn=joined, stdout=subprocess.DEVNULL)
        [line] = (run / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
        figures: dict[str, float] = json.loads(line)
        return figures


def rates(limit: int, times: float, side: int, window: int, rounds: int) -> None:
    """Prints images a second of each way."""
    with tempfile.TemporaryDirectory() as folder, control_group(limit) as group:
        os.environ["ALEXNET_CACHE"] = str(Path(folder) / "cache")
        store = made_up(Path(folder), times * limit, side)
        ways: dict[str, tuple[Path | None, list[str]]] = {
            "all memory, full shuffle": (None, []),
            "beyond memory, full shuffle": (group, []),
            f"beyond memory, windows of {window:,}": (group, ["--shuffle-window", str(window)]),
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (where, words) in ways.items():
                with open(store / marks.ARRAY, "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    while where is None and file.read(2**24):
                        pass
                one = epoch(store, side, where, words)
                found[way].append(one["train_images_per_second"])
                print(f"{way}: {found[way][-1]:,.0f} images/s, waiting {one['waiting']:.0%}",
                      flush=True)  # fmt: skip
        first, *_ = map(statistics.median, found.values())
        for way, each in found.items():
            median = statistics.median(each)
            print(f"{way}: median {median:,.0f}, {median / first:.2f} of the first")


def shuffles(data: str, window: int, seeds: int) -> None:
    """Prints what a full shuffle and a window come to, and their difference seed by seed."""
    found: dict[int, list[float]] = {0: [], window: []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for size, scores in found.items():
                run = alexnet.train(
                    data, "cifar10-fast", out=Path(folder) / f"{seed}-{size}", seed=seed,
                    shuffle_window=size, report=False,
                )  # fmt: skip
                scores.append(100 * alexnet.load(run).metrics["top1"])
    for size, scores in found.items():
        print(f"window {size}: {statistics.mean(scores):.2f} % {[round(one, 2) for one in scores]}")
    apart = [one - other for one, other in zip(found[window], found[0], strict=True)]
    low, high = t.interval(0.95, seeds - 1, statistics.mean(apart), sem(apart))
    print(f"windows less full: {statistics.mean(apart):+.2f} points ({low:+.2f} to {high:+.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--limit", type=int, default=1000, help="megabytes")
    parser.add_argument("--times", type=float, default=4, help="the Store is so many times larger")
    parser.add_argument("--side", type=int, default=64, help="px of the pictures")
    parser.add_argument("--window", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--shuffles", metavar="DATA", default="")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    if asked.shuffles:
        shuffles(asked.shuffles, asked.window, asked.seeds)
    else:
        rates(asked.limit * 10**6, asked.times, asked.side, asked.window, asked.rounds)


if __name__ == "__main__":
    main()
