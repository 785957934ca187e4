"""What looking at doubted labels is worth: 5 % of the labels of real pictures are made wrong, a run
is trained on them, and a person who knows the truth looks at the first pictures that `alexnet teach
RUN --mend` offers, at a second each, through the page's own routes. Printed: how many of the wrong
labels were found, and the accuracy on clean test pictures before, after, after as many looks at
pictures of chance, and without any wrong label.

uv run python tests/long/mending.py CIFAR10/train --per-class 200 --test 100 --looks 100 --seeds 5

DATA is a folder of class folders. Everything is made in a temporary folder, the cache included. The
short form is a test (tests/test_mend.py).
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import httpx
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from long.teach import teaching

import alexnet
from alexnet.data.changes import Change, read_changes, write_changes
from alexnet.data.datasets import open_data
from alexnet.network.frozen import FrozenPart, Remembered, evaluation_view
from alexnet.training.train import set_up

SECONDS = 1  # that a person takes for a picture
QUICK = {  # a head that is solved at once, on features of one view of each picture
    "weights": "backbone", "head": "ridge", "fc_norm": "none", "dropout": 0.0, "views": 1,
    "flip": False, "val_size": 0.2, "finetune_epochs": 0, "report": False, "tensorboard": False,
}  # fmt: skip


def planted(source, work, per_class, test, errors, draw):
    """Class folders of so many pictures each, in work/photos, with a share of the labels wrong, and
    in work/clean others for the test; returns {path in photos: true class} of all."""
    classes = sorted(one.name for one in source.iterdir() if one.is_dir())
    truth, number = {}, 0
    for name in classes:
        files = sorted((source / name).iterdir())
        files = [files[place] for place in draw.permutation(len(files))[: per_class + test]]
        (work / "clean" / name).mkdir(parents=True)
        for file in files[:test]:
            shutil.copy(file, work / "clean" / name)
        wrong = draw.permutation(len(files) - test) < round(errors * (len(files) - test))
        for file, is_wrong in zip(files[test:], wrong, strict=True):
            others = [one for one in classes if one != name]
            given = str(draw.choice(others)) if is_wrong else name
            path = f"{given}/{number:05}{file.suffix}"  # the name says nothing of the truth
            (work / "photos" / given).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, work / "photos" / path)
            truth[path] = name
            number += 1
    return truth


def looked_through(run, looks, truth):
    """Looks at the first pictures that the page offers; returns the table of changes, and how many
    wrong labels each so many of them held."""
    table, found = run.with_name("mended.csv"), []
    with (
        teaching(run, "--mend", "--labels", str(table)) as (_, home),
        httpx.Client(base_url=home, timeout=60) as page,
    ):
        of = page.get("v1/mend/about").json()["of"]
        state = page.get("v1/mend/state").json()
        while state["items"] and len(found) < looks:
            [item, *_] = state["items"]
            true = truth[item["name"]]
            found.append(true != item["given"])
            said = {"answer": "other" if found[-1] else "right", "class": true}
            answer = page.post("v1/mend/answer", json={"row": item["row"], "of": of, **said})
            answer.raise_for_status()
            state = answer.json()
    assert len(read_changes(table)) == len(found)
    return table, found, state["total"]


class Trainings:
    """Trainings on the same pictures, each of which goes through the frozen layers once."""

    def __init__(self, work, fields):
        self.work, self.fields, self.memory = work, fields, Remembered()

    def train(self, name, labels=""):
        """A run with a table of changes, and its accuracy on the clean pictures."""
        data = alexnet.labelled(self.work / "photos", labels=labels)
        run = set_up(data, alexnet.recipe(**self.fields))
        run.inputs.memory = self.memory
        with run.opened(self.work / name, resume=False):
            for _ in run.train():
                pass
            run.evaluate()
        return run.directory.path, self.accuracy(run)

    def accuracy(self, run):
        inputs, trained = run.inputs, run.directory.load()
        body, head = trained.model.split(run.recipe.freeze)
        frozen = FrozenPart(body, inputs.device, inputs.dtype)
        clean = open_data(str(self.work / "clean"), image_size=inputs.preprocessing.image_size)
        x = torch.from_numpy(np.array(clean.x))
        features = self.memory.features(frozen, evaluation_view(inputs.preprocessing), x)
        with torch.inference_mode():
            guesses = head.eval()(features).argmax(1).numpy()
        return float((guesses == clean.y).mean())


def once(source, work, words, seed):
    """One seed; returns the accuracies, and what was found."""
    draw = np.random.default_rng(seed)
    truth = planted(source, work, words.per_class, words.test, words.errors, draw)
    wrong = [path for path, true in truth.items() if not path.startswith(f"{true}/")]
    trainings = Trainings(work, QUICK | {"seed": seed})
    run, before = trainings.train("before")
    table, found, doubted = looked_through(run, words.looks, truth)
    chance = [sorted(truth)[place] for place in draw.permutation(len(truth))[: len(found)]]
    write_changes(work / "chance.csv", [Change(path, truth[path]) for path in chance])
    write_changes(work / "all.csv", [Change(path, truth[path]) for path in wrong])
    return {
        "before": before,
        "after": trainings.train("after", table)[1],
        "by chance": trainings.train("by-chance", work / "chance.csv")[1],
        "no wrong label": trainings.train("mended", work / "all.csv")[1],
        "doubted": doubted,
        "looks": len(found),
        "found": sum(found),
        "found by chance": len({*chance} & {*wrong}),
        "planted": len(wrong),
        "pictures": len(truth),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--test", type=int, default=100, help="clean pictures of each class")
    parser.add_argument("--errors", type=float, default=0.05)
    parser.add_argument("--looks", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    words = parser.parse_args()
    results = []
    for seed in range(words.first, words.first + words.seeds):
        with tempfile.TemporaryDirectory() as place:
            os.environ["ALEXNET_CACHE"] = str(Path(place) / "cache")
            results.append(once(words.data, Path(place), words, seed))
        print(f"seed {seed}: {results[-1]}", flush=True)
    for key in results[0]:
        values = [one[key] for one in results]
        spread = statistics.stdev(values) if len(values) > 1 else 0
        shown = ".2%" if isinstance(values[0], float) else ".1f"
        print(f"{key}: {statistics.mean(values):{shown}} ± {spread:{shown}}")
    print(f"a look takes {SECONDS} s")


if __name__ == "__main__":
    main()
