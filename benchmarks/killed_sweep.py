"""Kills a small sweep with SIGKILL at random moments, runs it again to its end, and compares its
results.csv with that of a sweep nobody disturbed. Then compares trials that trained side by side
with the same trials alone.

    python benchmarks/killed_sweep.py [--kills 20]

The data are the digits; heads side by side stand on the convolutions of a network trained on them
first. Seconds are left out of the comparison. Takes about ten minutes.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FAST = ["--no-tensorboard", "--no-report"]


def alexnet(*words: object, kill_after: float = 0.0) -> bool:
    """Runs a command; False if it was killed."""
    command = [sys.executable, "-m", "alexnet.cli", *map(str, words)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )
    try:
        _, said = process.communicate(timeout=kill_after or None)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        raise SystemExit(said)
    return True


def table(sweep: Path) -> list[dict[str, str]]:
    with open(sweep / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def killed(folder: Path, name: str, command: list[str], kills: int) -> None:
    start = time.perf_counter()
    alexnet(*command, "--out", folder / f"{name}-whole")
    whole = time.perf_counter() - start
    generator, done = random.Random(0), 0
    while done < kills:
        path = folder / f"{name}-killed"
        if alexnet(*command, "--out", path, kill_after=generator.uniform(0.1, 1.2) * whole):
            shutil.rmtree(path)  # it came to its end first: from the beginning
            continue
        done += 1
    alexnet(*command, "--out", folder / f"{name}-killed")
    same = table(folder / f"{name}-whole") == table(folder / f"{name}-killed")
    print(
        f"{name}: {whole:.1f} s undisturbed, {done} kills, the same results.csv: {same}", flush=True
    )


def losses(run: Path) -> list[float]:
    lines = (run / "epochs.jsonl").read_text().splitlines()
    return [json.loads(line)["val_loss"] for line in lines]


def side_by_side(folder: Path, base: list[str], sweep: Path) -> None:
    apart, probabilities, agree = 0.0, 0.0, []
    for number, trial in enumerate(sorted((sweep / "trials").iterdir())):
        recipe = json.loads((trial / "recipe.json").read_text())["recipe"]
        alone = folder / f"alone-{number}"
        words = [f"--{key.replace('_', '-')}" for key in ("lr", "momentum")]
        values = [recipe["lr"], recipe["momentum"]]
        flags = [word for pair in zip(words, values, strict=True) for word in pair]
        alexnet("train", *base, *flags, "--out", alone)
        first, second = (
            [
                json.loads(line)["val_loss"]
                for line in (run / "epochs.jsonl").read_text().splitlines()
            ]
            for run in (trial, alone)
        )
        apart = max(apart, *(abs(a - b) / b for a, b in zip(first, second, strict=True)))
        alexnet("eval", alone, "--split", "val", "--save", folder / "alone.npz")
        one, two = (np.load(p)["logits"] for p in (trial / "predictions.npz", folder / "alone.npz"))
        one, two = (np.exp(x - x.max(1, keepdims=True)) for x in (one, two))
        one, two = (x / x.sum(1, keepdims=True) for x in (one, two))
        probabilities = max(probabilities, float(np.abs(one - two).max()))
        agree.append(float((one.argmax(1) == two.argmax(1)).mean()))
    print(
        f"side by side against alone, {len(agree)} settings: validation losses of all epochs at "
        f"most {apart:.2g} apart (relative), probabilities at most {probabilities:.2g}, "
        f"the same guess for {min(agree):.2%} to {max(agree):.2%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alexnet("train", "digits", "--epochs", "4", *FAST, "--out", folder / "base")
        grid = ["--grid", "lr=0.05,0.005", "--grid", "momentum=0.9,0.5"]
        networks = ["sweep", "digits", "--epochs", "2", "--warmup", "0.5", *FAST, *grid]
        killed(folder, "networks", networks, kills // 2)
        frozen = [
            "digits",
            "--weights",
            str(folder / "base"),
            "--freeze",
            "conv",
            "--fc-layers",
            "2",
        ]
        frozen += ["--epochs", "30", "--no-nesterov", "--precision", "fp32", *FAST]
        killed(folder, "heads", ["sweep", *frozen, *grid], kills - kills // 2)
        side_by_side(folder, frozen, folder / "heads-whole")


if __name__ == "__main__":
    main()
