"""Memory and time of packing many images, and of opening them again.

    uv run python benchmarks/packing.py [--images 100000]

Writes that many small JPEGs to a temporary folder, packs them in a fresh process, opens the Store
in others, and prints the peak of anonymous memory above the bare process (everything imported,
nothing packed), from /proc/self/status (Linux).
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

CHILD = """
import sys, threading, time
from pathlib import Path
import torch
from alexnet.data.datasets import open_data

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

torch.zeros(1)
bare = peak = anonymous()
done = False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.01)
watcher = threading.Thread(target=watch)
watcher.start()
start = time.perf_counter()
store = open_data(sys.argv[1], image_size=64)
seconds = time.perf_counter() - start
done = True
watcher.join()
memory = f"bare {bare:.0f} MiB, peak {peak - bare:.0f} MiB above it"
print(f"{len(store):,} images in {seconds:.2f} s; {memory}")
"""


def write_images(folder: Path, count: int) -> None:
    """Ten class folders of 64 px JPEGs; 200 different ones, over and over."""
    different = []
    for seed in range(200):
        small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((64, 64)).save(buffer, "JPEG")
        different.append(buffer.getvalue())
    for number in range(count):
        path = folder / f"class {number % 10}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(different[number % 200])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100_000)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        write_images(folder, count)
        surroundings = {**os.environ, "ALEXNET_CACHE": f"{temporary}/cache"}
        for what in ("packing", "opening", "opening"):
            command = [sys.executable, "-c", CHILD, str(folder)]
            result = subprocess.run(
                command, env=surroundings, stdout=subprocess.PIPE, text=True, check=True
            )
            print(f"{what}: {result.stdout.strip()}")


if __name__ == "__main__":
    main()
