"""How time and memory grow with the number of images, from a folder of files to the report.

    uv run python benchmarks/growth.py [--counts 10000 100000 1000000] [--figure docs/growth.svg]

1,000 made-up pictures of 32 px in 10 classes, each as many times as it takes (hard links, so that
the files cost no room), and for each count, every command in a process of its own:

- packing: `alexnet data prepare`;
- extraction and heads: `alexnet train --freeze conv` on the built-in backbone, one view, one epoch,
  cut into what came before the first epoch, the epochs, and the rest;
- `alexnet eval` and `alexnet report`.

Prints seconds, the most memory of its own that each process had (Linux), and with which power of
the count the time grows from each count to the next.
"""

import argparse
import contextlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
DIFFERENT, CLASSES, SIDE = 1000, 10, 32


def made_up(folder: Path, count: int) -> None:
    """Class folders of so many pictures."""
    generator = np.random.default_rng(0)
    for number in range(DIFFERENT):
        label = number % CLASSES
        pixels = generator.normal(60 + 12 * label, 30, (SIDE, SIDE, 3)).clip(0, 255)
        packed = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(packed, "JPEG", quality=85)
        place = folder / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        first = place / f"{number:04d}-0000000.jpg"
        first.write_bytes(packed.getvalue())
        for copy in range(1, count // DIFFERENT):
            os.link(first, place / f"{number:04d}-{copy:07d}.jpg")


def command(*words: object) -> tuple[float, float]:
    """Seconds of one command, and the most megabytes of its own that it had: not counting pages of
    files that it looks into, which the system takes back when it needs the room."""
    begun, most = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "alexnet", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                own = next(line for line in lines if line.startswith("RssAnon"))
                most = max(most, int(own.split()[1]) / 1024)
            time.sleep(0.05)
        seconds = time.perf_counter() - begun
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{words}: {said.read()}")
    return seconds, most


def measured(folder: Path, count: int) -> dict[str, tuple[float, float]]:
    """Seconds and megabytes of each step."""
    photos, run = folder / "photos", folder / "run"
    made_up(photos, count)
    found = {"packing": command("data", "prepare", photos, "--image-size", SIDE)}
    how = "--weights backbone --freeze conv --image-size 32 --crop 32 --crop-area 1 --no-flip"
    how += " --cached-views 1 --views 1 --epochs 1 --finetune-epochs 0 --batch-size 256"
    how += " --bad-images skip --no-report"
    seconds, memory = command("train", photos, *how.split(), "--out", run)
    line = json.loads((run / "epochs.jsonl").read_text(encoding="utf-8").splitlines()[0])
    found["a head, one epoch"] = line["seconds"], memory
    found["extraction, splits, evaluation"] = seconds - line["seconds"], memory
    found["eval"] = command("eval", run)
    found["report"] = command("report", run)
    return found


def exponent(smaller: tuple[int, float], larger: tuple[int, float]) -> float:
    """Time grows as count to the power of this."""
    return math.log(larger[1] / smaller[1]) / math.log(larger[0] / smaller[0])


def draw(table: dict[str, dict[int, float]], out: Path) -> None:
    """Seconds of each step against images, as an SVG file."""
    with plt.rc_context({"svg.hashsalt": "alexnet", "svg.fonttype": "none", "font.size": 10}):
        figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
        for step, seconds in table.items():
            axes.loglog(list(seconds), list(seconds.values()), marker="o", label=step)
        counts = list(next(iter(table.values())))
        axes.loglog(counts, [count / counts[0] for count in counts], ":", color="grey",
                    label="in proportion")  # fmt: skip
        axes.set(xlabel="images", ylabel="seconds")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--counts", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--figure", type=Path, help="an .svg file to draw them to")
    asked = parser.parse_args()
    table: dict[str, dict[int, float]] = {}
    before: dict[str, tuple[int, float]] = {}
    for count in asked.counts:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["ALEXNET_CACHE"] = f"{folder}/cache"
            for step, one in measured(Path(folder), count).items():
                now = count, one[0]
                grown = f"  power {exponent(before[step], now):.2f}" if step in before else ""
                before[step] = now
                table.setdefault(step, {})[count] = one[0]
                print(f"{count:10,} {step:32} {one[0]:8.1f} s {one[1]:7,.0f} MB{grown}", flush=True)

    if asked.figure:
        draw(table, asked.figure)


if __name__ == "__main__":
    main()
