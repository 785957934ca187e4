"""`alexnet teach` as a program, without a browser: killed at random moments while pictures come,
and timed from the last picture to the first answer.

uv run python tests/long/teach.py --kills 20 --pictures 60 3 500 10

After each kill every picture whose arrival was confirmed must lie in the folder, byte for byte, and
nothing else that looks like one. The short form is a test (tests/test_teach.py).
"""

import argparse
import concurrent.futures
import contextlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from makers import encoded

LINES = 4  # connections at once, as the page has
MOST_SECONDS = 6.0  # after the start, in which a kill comes


@contextlib.contextmanager
def teaching(folder, *flags):
    """The program, at a free port; yields the process and its address."""
    words = [sys.executable, "-m", "alexnet", "teach", str(folder), *flags, "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            home = next(line.split()[1] for line in process.stderr if line.startswith("open "))
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield process, home
        finally:
            process.kill()


def frame(label, draw):
    """A picture of a class: its own stripes, in noise."""
    ground = 128 + 90 * np.sin(np.arange(224) / (3 + 2 * label))
    pixels = ground[:, None, None] + draw.normal(0, 20, (224, 224, 3))
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "JPEG", quality=92)


def add(client, class_):
    """Makes a class, unless it is there."""
    client.post("/v1/teach/change", json={"do": "add", "to": class_})


def send(client, class_, name, content):
    """The name that a picture got, once that is confirmed."""
    where = {"class": class_, "name": name}
    answer = client.post("/v1/teach/picture", params=where, content=content)
    answer.raise_for_status()
    return answer.json()["name"]


def killed_once(folder, confirmed, seconds, draw):
    """Sends pictures until the program is killed, and notes those that were confirmed; how many
    came in this time."""
    before = len(confirmed)
    with teaching(folder) as (process, home), httpx.Client(base_url=home, timeout=20) as client:
        classes = ["a", "b", "c"]
        for class_ in classes:
            add(client, class_)
        kill = threading.Timer(seconds, process.kill)
        kill.start()
        with contextlib.suppress(httpx.HTTPError):
            for number in range(10_000):
                label = number % len(classes)
                content = frame(label, draw)
                name = send(client, classes[label], f"{number}.jpg", content)
                confirmed[f"{classes[label]}/{name}"] = content
        kill.join()
    return len(confirmed) - before


def require_all(folder, confirmed):
    """What was confirmed is there; beside it at most one picture, whose answer was cut off."""
    there = {
        f"{path.parent.name}/{path.name}": path.read_bytes() for path in folder.glob("[!.]*/[!.]*")
    }
    lost = [name for name, content in confirmed.items() if there.get(name) != content]
    assert not lost, f"lost: {lost}"
    for name in there.keys() - confirmed.keys():
        Image.open(folder / name).load()
        confirmed[name] = there[name]


def seconds_to_answer(folder, pictures, classes):
    """From the last of so many pictures to the first answer; and from the first one."""
    draw = np.random.default_rng(0)
    with teaching(folder) as (_, home), httpx.Client(base_url=home, timeout=60) as client:
        for label in range(classes):
            add(client, f"class {label}")
        made = [(n % classes, frame(n % classes, draw)) for n in range(pictures)]
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(LINES) as lines:
            list(
                lines.map(lambda one: send(client, f"class {one[0]}", "take-a-1.jpg", one[1]), made)
            )
        sent = time.monotonic()
        while client.post("/v1/predict", content=made[0][1]).status_code != 200:
            time.sleep(0.05)
        now = time.monotonic()
        told = client.get("/v1/teach/state").json()["learned"]
    return now - sent, now - begun, told


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pictures", type=int, nargs="*", default=[60, 3, 500, 10])
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    for pictures, classes in zip(words.pictures[::2], words.pictures[1::2], strict=True):
        with tempfile.TemporaryDirectory() as place:
            last, first, told = seconds_to_answer(Path(place) / "things", pictures, classes)
        print(
            f"{pictures} pictures in {classes} classes: first answer {last:.1f} s after the last, "
            f"{first:.1f} s after the first; {told['right']} of {told['tested']} right"
        )
    random.seed(words.seed)
    draw, confirmed = np.random.default_rng(words.seed), {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "things"
        for number in range(words.kills):
            seconds = random.uniform(0.05, MOST_SECONDS)
            came = killed_once(folder, confirmed, seconds, draw)
            require_all(folder, confirmed)
            print(f"kill {number + 1} after {seconds:.2f} s: {came} pictures, none lost")
    print(f"{words.kills} kills, {len(confirmed)} pictures, none lost")


if __name__ == "__main__":
    main()
