"""What a backbone is worth: on photographs, and on classes that it was never shown.

    uv run benchmarks/backbone.py split real-data/tiny-imagenet-100 WORK
    uv run alexnet train WORK/shown --recipe backbone --out WORK/run
    uv run benchmarks/backbone.py features real-data/photos --weights WORK/run untrained
    uv run benchmarks/backbone.py features WORK/unseen --each 20 100 --weights WORK/run
    uv run benchmarks/backbone.py commands real-data/photos --recipes folder scratch
    uv run benchmarks/backbone.py ship RUN src/alexnet/network/backbone.safetensors

`split` writes two parts of Tiny ImageNet: every fifth class in sorted order, which the backbone is
not shown while it is chosen, and the others. What is shipped is trained on all of them.

`features` asks how much of a task a linear head reads from the frozen convolutions: the mean and
the maximum of the last map, of the image and its mirror, then logistic regression. For comparison
give weights too that lie in the cache (bvlc-2012), or `untrained`. It is quick, and what choices
are made with.

`commands` trains with `alexnet.train` itself; --weights puts a file in the place of the backbone,
--keep FOLDER keeps the runs below FOLDER/RECIPE, for `docs/results.py add`:

    uv run benchmarks/backbone.py commands real-data/photos --recipes folder --keep WORK
    uv run docs/results.py add photos WORK/folder/* --command "alexnet train photos" --seconds 15

Tasks: all images in five folds, with 3 seeds; or, with --each, so many training images of each
class and 100 others to test, drawn with 3 seeds. Figures are means over seeds (and folds), with the
deviation over seeds.
"""

import argparse
import dataclasses
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import alexnet
from alexnet.data.datasets import open_data
from alexnet.data.finding import read_source
from alexnet.data.subset import select, write_folder
from alexnet.network.checkpoint import load_weights, save_network
from alexnet.network.description import ARCHITECTURES
from alexnet.network.frozen import FrozenPart
from alexnet.network.inference import evaluation_views
from alexnet.network.model import AlexNet, AverageAndMaximum
from alexnet.network.weight_names import SHIPPED
from alexnet.runs.directory import RunDirectory
from alexnet.runs.network import FROM_SCRATCH
from alexnet.runs.resolution import starting_weights
from alexnet.runtime import choose_device, choose_precision

HELD_OUT = 5  # every fifth class
TESTED = 100  # images of each unseen class
SEEDS = 3
C = 0.1  # of logistic regression; from 0.01 to 1 the figures are the same within a point
READ_AT, READ_IN = 112, 2  # px; parts of each side of the last map that are averaged apart


def split(tiny, out):
    """Writes the classes that are shown and those that are not, all training images of each."""
    source = read_source(tiny)
    names = sorted(source.classes)
    for part in ("shown", "unseen"):
        chosen = [one for n, one in enumerate(names) if (n % HELD_OUT == 0) == (part == "unseen")]
        write_folder(select(source, classes=chosen, per_class=(500, 0, 0)), out / part)


def tasks(labels, each):
    """(seed, training rows, test rows): five folds of each seed where `each` is 0, else so many
    training images of each class and 100 others."""
    for seed in range(SEEDS):
        if not each:
            folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(labels, labels)
            yield from ((seed, train, test) for train, test in folds)
            continue
        generator = np.random.default_rng(seed)
        drawn = [generator.permutation(np.flatnonzero(labels == one)) for one in np.unique(labels)]
        train = np.concatenate([rows[TESTED : TESTED + each] for rows in drawn])
        yield seed, train, np.concatenate([rows[:TESTED] for rows in drawn])


def summary(scores):
    """Of {seed: [shares]}: mean, deviation over seeds, and how many trainings."""
    means = [statistics.mean(one) for one in scores.values()]
    count = sum(len(one) for one in scores.values())
    return f"{statistics.mean(means):6.1%} +- {statistics.stdev(means):.1%} (n {count})"


def convolutions(name):
    """The convolutions of weights, and the preprocessing they were made for."""
    if name == "untrained":
        torch.manual_seed(0)
        return AlexNet(ARCHITECTURES["compact"], 1), FROM_SCRATCH
    network = starting_weights(name)
    model = AlexNet(dataclasses.replace(network.architecture, hidden=()), 1, init="empty")
    tensors = network.tensors.items()
    mine = {one.removeprefix("features."): x for one, x in tensors if one.startswith("features.")}
    load_weights(model.features, mine, name)
    return model, network.preprocessing


def features_of(name, data, size, parts):
    """(N, (parts^2 + 1) D) means of parts of the last map, and its maximum, averaged over an image
    and its mirror; labels."""
    device = choose_device("auto")
    model, how = convolutions(name)
    how = dataclasses.replace(how, image_size=size, crop=size, views=2)
    pooled = nn.Sequential(model.features, AverageAndMaximum(parts), nn.Flatten())
    frozen = FrozenPart(pooled, device, choose_precision("auto", device)[0])
    store = open_data(data, image_size=size)
    views = evaluation_views(store, np.arange(len(store)), how, device)
    found = [torch.cat([frozen(x).float() for x, _ in batches.epoch()]) for batches in views]
    return torch.stack(found).mean(0).numpy(), store.y


def features(weights, data, counts, sizes, parts):
    """Prints what a linear head reads from frozen convolutions."""
    for name in weights:
        for size in sizes:
            x, y = features_of(name, data, size, parts)
            for each in counts:
                scores = {}
                for seed, train, test in tasks(y, each):
                    head = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=300))
                    right = head.fit(x[train], y[train]).score(x[test], y[test])
                    scores.setdefault(seed, []).append(right)
                print(f"{data} {each or ''} {name} {size} px: {summary(scores)}", flush=True)


def commands(data, counts, recipes, weights, report, keep):
    """Prints what `alexnet.train` comes to with each recipe: accuracy, and seconds of a training
    with packing, evaluation, and the report if it is asked for."""
    if weights:
        SHIPPED["backbone"] = weights.resolve()
    store = open_data(data, image_size=64)
    for each in counts:
        for recipe in recipes:
            scores, seconds = {}, []
            for seed, train, test in tasks(store.y, each):
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    for part, rows in (("train", train), ("test", test)):
                        for row in rows:
                            label = store.classes[store.y[row]]
                            target = folder / "data" / part / label / f"{row}.jpg"
                            target.parent.mkdir(parents=True, exist_ok=True)
                            shutil.copy(data / store.ids[row], target)
                    start = time.perf_counter()
                    asked = alexnet.RECIPES[recipe].recipe.replace(seed=seed, report=report)
                    number = len(seconds) - 1
                    out = (keep or folder) / recipe / f"{each or 'folds'}-{number}"
                    run = alexnet.train(folder / "data", asked, out=out)
                    seconds.append(time.perf_counter() - start)
                    scores.setdefault(seed, []).append(RunDirectory(run).metrics()["top1"])
            print(
                f"{data} {each or ''} {recipe}: {summary(scores)}, "
                f"{statistics.mean(seconds):.1f} s each",
                flush=True,
            )


def ship(run, target):
    """Writes the convolutions of a run in half precision, with the picture size and the parts of
    the last map that they are read best in."""
    network = RunDirectory(run).network()
    tensors = {
        name: x.half() if x.ndim > 1 else x
        for name, x in network.tensors.items()
        if name.startswith("features.")
    }
    shipped = dataclasses.replace(
        network,
        tensors=tensors,
        architecture=dataclasses.replace(network.architecture, map_side=READ_IN),
        preprocessing=dataclasses.replace(network.preprocessing, image_size=READ_AT, crop=READ_AT),
    )
    save_network(target, shipped, source="alexnet")
    print(f"{target}: {target.stat().st_size:,} bytes")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    for name, what in (("split", "Tiny ImageNet"), ("ship", "a run")):
        part = parts.add_parser(name)
        part.add_argument("source", type=Path, help=what)
        part.add_argument("target", type=Path)
    for name in ("features", "commands"):
        part = parts.add_parser(name)
        part.add_argument("data", type=Path)
        part.add_argument("--each", type=int, nargs="*", default=[0])
    parts.choices["features"].add_argument("--weights", nargs="*", default=["backbone"])
    parts.choices["features"].add_argument("--sizes", type=int, nargs="*", default=[READ_AT])
    parts.choices["features"].add_argument("--parts", type=int, default=1)
    parts.choices["commands"].add_argument("--recipes", nargs="*", default=["folder", "scratch"])
    parts.choices["commands"].add_argument("--weights", type=Path)
    parts.choices["commands"].add_argument("--report", action="store_true")
    parts.choices["commands"].add_argument("--keep", type=Path, metavar="FOLDER")
    asked = parser.parse_args()
    if asked.part == "split":
        split(asked.source, asked.target)
    elif asked.part == "ship":
        ship(asked.source, asked.target)
    elif asked.part == "features":
        features(asked.weights, asked.data, asked.each, asked.sizes, asked.parts)
    else:
        commands(asked.data, asked.each, asked.recipes, asked.weights, asked.report, asked.keep)


if __name__ == "__main__":
    main()
