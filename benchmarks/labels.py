"""What labels from anywhere are worth, measured: groups on frames of films, class weights on a set
of 1000 : 100 : 30 images, and a grid search of scikit-learn.

uv run python benchmarks/labels.py films PHOTOS [--seeds 5]
uv run python benchmarks/labels.py weights CIFAR10 [--seeds 5]
uv run python benchmarks/labels.py grid PHOTOS

PHOTOS is a folder of class folders of large photographs, CIFAR10 one with train/CLASS and
test/CLASS. Everything is made in a temporary folder, the cache included.

films: six scenes (the classes), filmed five times: film k moves and zooms over photograph k of each
class, 20 frames each. A random split against one that takes whole films.
weights: of three classes 1000, 100 and 30 training images, 500 test images of each.
grid: 1,000 crops of photographs as JPEG files; GridSearchCV over one rate, and over six.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import alexnet

FILMS, FRAMES, SIDE = 5, 20, 160
COUNTS = {"cat": 1000, "dog": 100, "frog": 30}
RATES = [0.2, 0.1, 0.05, 0.02, 0.01, 0.005]
QUIET: dict[str, Any] = {"report": False, "tensorboard": False}


def photographs(folder: Path) -> dict[str, list[Path]]:
    """The files of each class."""
    return {one.name: sorted(one.iterdir()) for one in sorted(folder.iterdir()) if one.is_dir()}


def frame(image: Image.Image, draw: np.random.Generator, place: float) -> Image.Image:
    """A crop that wanders over a photograph."""
    side = min(image.size) * (0.55 + 0.25 * np.sin(2 * np.pi * place) + 0.02 * draw.normal())
    left = (image.width - side) * (0.5 + 0.4 * np.cos(2 * np.pi * place))
    top = (image.height - side) * (0.5 + 0.4 * np.sin(2 * np.pi * place))
    box = (left, top, left + side, top + side)
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)


def films(source: Path, work: Path, seeds: int) -> None:
    """Prints the accuracy of a random and of a grouped split."""
    for name, files in photographs(source).items():
        (work / "films" / name).mkdir(parents=True)
        draw = np.random.default_rng(0)
        chosen = [files[place] for place in draw.permutation(len(files))[:FILMS]]
        for film, file in enumerate(chosen, 1):
            image = Image.open(file).convert("RGB")
            for number in range(FRAMES):
                one = frame(image, draw, number / FRAMES)
                one.save(work / "films" / name / f"film{film}_{number:02}.jpg", quality=90)
    for what, group in (("random", ""), ("whole films", r"(film\d+)_")):
        found = []
        for seed in range(seeds):
            data = alexnet.labelled(work / "films", group=group)
            out = work / f"{what}-{seed}"
            run = alexnet.train(data, seed=seed, out=out, **QUIET)
            found.append(alexnet.load(run).metrics["top1"])
        print(f"{what}: {told(found)}", flush=True)


def told(values: list[float]) -> str:
    """Mean, standard deviation, and each."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    each = " ".join(f"{100 * one:.1f}" for one in values)
    return f"{100 * statistics.mean(values):.1f} % +- {100 * spread:.1f} ({each})"


def weights(source: Path, work: Path, seeds: int) -> None:
    """Prints accuracy, worst recall and macro F1 without and with each way."""
    ways: dict[str, dict[str, Any]] = {
        "none": {},
        "balanced": {"class_weights": "balanced"},
        "effective": {"class_weights": "effective"},
        "balanced sampling": {"sampling": "balanced"},
    }
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for seed in range(seeds):
        data = {}
        for split, most in (("train", COUNTS), ("test", dict.fromkeys(COUNTS, 500))):
            draw = np.random.default_rng(seed)
            files = {name: sorted((source / split / name).iterdir()) for name in COUNTS}
            chosen = [
                (str(files[name][place]), name)
                for name, count in most.items()
                for place in draw.permutation(len(files[name]))[:count]
            ]
            data[split] = ([file for file, _ in chosen], [name for _, name in chosen])
        for way, fields in ways.items():
            out = work / f"{way}-{seed}"
            run = alexnet.train(data, seed=seed, finetune_epochs=0, out=out, **QUIET, **fields)
            found[way].append(alexnet.load(run).metrics)
    for way, figures in found.items():
        worst = [min(one["top1"] for one in each["per_class"].values()) for each in figures]
        print(f"{way}: top-1 {told([one['top1'] for one in figures])}")
        print(f"    worst recall {told(worst)}")
        print(f"    macro F1 {told([one['macro']['f1'] for one in figures])}", flush=True)


def grid(source: Path, work: Path, seeds: int) -> None:
    """Prints how long a search over one point and over six takes."""
    from sklearn.model_selection import GridSearchCV

    draw, paths, labels = np.random.default_rng(0), [], []
    every = [(name, file) for name, files in photographs(source).items() for file in files]
    for number in range(1000):
        name, file = every[number % len(every)]
        image = Image.open(file).convert("RGB")
        left, top = draw.integers(0, 30, 2).tolist()
        crop = image.resize((1024, 768), box=(left, top, image.width, image.height))
        paths.append(str(work / f"{number}.jpg"))
        labels.append(name)
        crop.save(paths[-1], quality=90)
    model = alexnet.AlexNetClassifier(epochs=10, finetune_epochs=0)
    model.fit(paths[:60], labels[:60])  # imports, and weights
    seconds = []
    for rates in (RATES[2:3], RATES):
        os.environ["ALEXNET_CACHE"] = tempfile.mkdtemp(dir=work)
        begun = time.perf_counter(), time.process_time()
        search = GridSearchCV(model, {"lr": rates}, cv=3, refit=False).fit(paths, labels)
        seconds.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
        scores = search.cv_results_["mean_test_score"].round(4).tolist()
        print(f"{len(rates)} points: {seconds[-1][0]:.1f} s, {seconds[-1][1]:.1f} s CPU: {scores}")
    print(f"ratio {seconds[1][0] / seconds[0][0]:.2f}, of CPU {seconds[1][1] / seconds[0][1]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["films", "weights", "grid"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ALEXNET_CACHE"] = f"{folder}/cache"
        {"films": films, "weights": weights, "grid": grid}[given.what](
            given.data.resolve(), Path(folder), given.seeds
        )


if __name__ == "__main__":
    main()
