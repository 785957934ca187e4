"""Is a feature Store the same, byte for byte, if its computation was killed ten times on the way?

    uv run benchmarks/killed_extraction.py DATA --weights NAME

Runs `alexnet train DATA --recipe finetune` for one epoch of the head in two empty caches: once
undisturbed, once killed (SIGKILL) at ten random moments and started again each time.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alexnet.cache import cache_folder


def command(options, cache, out):
    return subprocess.Popen(
        [
            sys.executable, "-m", "alexnet.cli", "train", options.data, "--weights",
            options.weights, "--recipe", "finetune", "--finetune-epochs", "0", "--epochs", "1",
            "--no-tensorboard", "--out", str(out),
        ],
        env=os.environ | {"ALEXNET_CACHE": str(cache)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def checksums(cache):
    return {
        str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((cache / "features").rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def size(cache):
    files = (cache / "features").rglob("x.bin")
    return sum(file.stat().st_size for file in files)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--weights", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        caches = [folder / "whole", folder / "killed"]
        for cache in caches:  # the images are packed already
            for part in ("weights", "stores", "index"):
                shutil.copytree(cache_folder() / part, cache / part)
        start = time.perf_counter()
        whole = command(options, caches[0], folder / "run-0")
        if whole.wait():
            sys.exit("the undisturbed run failed")
        seconds = time.perf_counter() - start
        print(f"undisturbed: {seconds:.1f} s, {size(caches[0]) / 2**20:.0f} MiB", flush=True)
        kills, attempt = 0, 0
        draw = random.Random(0)
        while kills < 10:
            attempt += 1
            child = command(options, caches[1], folder / f"run-{attempt}")
            time.sleep(4 + draw.uniform(0, seconds / 7))
            if child.poll() is not None:
                sys.exit(f"it was done before the kill after {kills} kills; give more data")
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
            print(f"kill {kills}: {size(caches[1]) / 2**20:.1f} MiB so far", flush=True)
        if command(options, caches[1], folder / "run-last").wait():
            sys.exit("the last run failed")
        one, other = (checksums(cache) for cache in caches)
        print(f"{len(one)} files, equal: {one == other}")
        sys.exit(one != other)


if __name__ == "__main__":
    main()
