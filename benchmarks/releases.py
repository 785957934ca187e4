"""This tree and an earlier release, one after the other in turns: what the same commands take.

    git worktree add ../alexnet-0.1.0 add7639
    uv run python benchmarks/releases.py ../alexnet-0.1.0/src [--rounds 5] [--images 10000]

Each command runs in a fresh process, with a cache folder of its own. Prints the medians, their
ratio, and the range of the ratios of single rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from packing import write_images

HERE = Path(__file__).parent.parent / "src"
COMMAND = "import sys; from alexnet.cli import main; sys.exit(main())"
PACK = """
import sys, time
from alexnet.data.datasets import open_data
begun = time.perf_counter()
open_data(sys.argv[1], image_size=64)
print(time.perf_counter() - begun)
"""


class Release:
    """The sources of one release, and the folder that its runs and its cache lie in."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        hidden = {"PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
        self.environment = {key: os.environ[key] for key in os.environ.keys() - hidden}
        self.environment |= {"PYTHONPATH": str(source), "ALEXNET_CACHE": str(self.cache)}

    def call(self, code: str, *words: object) -> tuple[float, str]:
        """Seconds of a fresh process, from its start to its end, and what it printed."""
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            env=self.environment, cwd=self.folder, text=True, capture_output=True,
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise SystemExit(f"{words}: {done.stderr}")
        return seconds, done.stdout

    def round(self, images: Path, number: int) -> dict[str, float]:
        """Seconds of everything that is measured."""
        one, run = next(images.glob("*/*")), f"run-{number}"
        rest = f"--recipe cifar10 --epochs 2 --warmup 0 --out {run} --no-report".split()
        self.environment["ALEXNET_CACHE"] = str(self.folder / f"cache-{number}")
        found = {
            "--help": self.call(COMMAND, "--help")[0],
            "packing": float(self.call(PACK, images)[1]),
            "train digits": self.call(COMMAND, *f"train digits --out digits-{number}".split())[0],
        }
        self.call(COMMAND, "train", images, *rest)
        lines = (self.folder / run / "epochs.jsonl").read_text().splitlines()
        return found | {
            "an epoch": json.loads(lines[-1])["seconds"],
            "predict, one picture": self.call(COMMAND, "predict", run, one)[0],
            "predict, 1,000 pictures": self.call(COMMAND, "predict", run, images / "class 0")[0],
        }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("earlier", type=Path, help="the folder that holds its package")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--images", type=int, default=10_000)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        for name in "earlier", "now":
            Path(folder, name).mkdir()
        images.mkdir()
        write_images(images, given.images)
        earlier = Release(given.earlier.resolve(), Path(folder, "earlier"))
        now = Release(HERE.resolve(), Path(folder, "now"))
        rounds = []
        for number in range(given.rounds + 1):
            order = (earlier, now) if number % 2 else (now, earlier)
            found = {release: release.round(images, number) for release in order}
            if number:  # the first compiles the modules
                rounds.append((found[earlier], found[now]))
                print(f"round {number} of {given.rounds}", file=sys.stderr)
        for what in rounds[0][0]:
            then, here = ([each[k][what] for each in rounds] for k in (0, 1))
            ratios = sorted(b / a for a, b in zip(then, here, strict=True))
            a, b = statistics.median(then), statistics.median(here)
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            print(f"{what:24} {a:8.2f} s {b:8.2f} s   {b / a:5.2f}   ({spread})")


if __name__ == "__main__":
    main()
