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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from long.teach import teaching

import alexnet
from alexnet.data.changes import Change, read_changes, write_changes

SECONDS = 1  # that a person takes for a picture
# the recipe of folders, on features of one view of each picture
QUICK = {"views": 1, "flip": False, "finetune_epochs": 0, "report": False, "tensorboard": False}


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


def accuracy(work, name, fields, labels="", data="photos"):
    """Of a run that is trained with a table of changes, on the clean pictures."""
    given = alexnet.labelled(work / data, labels=labels)
    run = alexnet.train(given, out=work / name, **fields)
    return run, alexnet.evaluate(run, work / "clean", split="all")["top1"]


def once(source, work, words, seed, fields=QUICK):
    """One seed; returns the accuracies, and what was found."""
    draw = np.random.default_rng(seed)
    truth = planted(source, work, words.per_class, words.test, words.errors, draw)
    wrong = [path for path, true in truth.items() if not path.startswith(f"{true}/")]
    run, before = accuracy(work, "before", fields | {"seed": seed})
    table, found, doubted = looked_through(run, words.looks, truth)
    _, after = accuracy(work, "after", fields | {"seed": seed}, table)
    chance = [sorted(truth)[place] for place in draw.permutation(len(truth))[: len(found)]]
    write_changes(work / "chance.csv", [Change(path, truth[path]) for path in chance])
    _, by_chance = accuracy(work, "by-chance", fields | {"seed": seed}, work / "chance.csv")
    write_changes(work / "all.csv", [Change(path, truth[path]) for path in wrong])
    _, clean = accuracy(work, "clean-run", fields | {"seed": seed}, work / "all.csv")
    return {
        "before": before, "after": after, "by chance": by_chance, "no wrong label": clean,
        "doubted": doubted, "looks": len(found), "found": sum(found), "planted": len(wrong),
        "found by chance": len({*chance} & {*wrong}), "pictures": len(truth),
    }  # fmt: skip


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
