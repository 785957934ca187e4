"""docs/labels.md: every command and every example in it runs, on tiny data."""

import csv
import dataclasses
import itertools
import shlex
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import class_folders, typed, write_image, zipped

from alexnet import cli, presets

PAGE = (Path(__file__).parent.parent / "docs" / "labels.md").read_text(encoding="utf-8")


def write_table(path, header, rows, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, **options).writerows([header, *rows])


def write_tables(root):
    class_folders(root / "photos", {"cat": 6, "dog": 6})
    rows = [(f"photos/{name}/{n}.png", name) for name in ("cat", "dog") for n in range(6)]
    write_table(root / "labels.csv", ("file", "animal"), rows)
    for number in range(8):
        write_image(root / f"scans/{number}.png")
        write_image(root / f"kaggle/train/{number}.png")
    findings = [(number, "pq"[number % 2], number // 2) for number in range(8)]
    write_table(root / "scans.tsv", ("scan", "finding", "patient"), findings, delimiter="\t")
    write_table(root / "kaggle/trainLabels.csv", ("id", "label"), [one[:2] for one in findings])


def write_films(root):
    for scene in ("beach", "street"):
        for film in range(4):
            for frame in range(3):
                write_image(root / f"films/{scene}/film{film}_{frame}.png")


def write_named(root):
    for number, name in itertools.product(range(6), ("Bengal", "Great_Pyrenees")):
        write_image(root / f"pets/images/{name}_{number}.jpg")
        write_image(root / f"dogs-vs-cats/train/{('cat', 'dog')[len(name) > 6]}.{number}.jpg")
    write_image(root / "dogs-vs-cats/test1/17.jpg")
    (root / "weights.csv").write_text("Bengal,2\n")


def write_arrays(root):
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (12, 8, 8), dtype=np.uint8), np.arange(12) % 3
    np.savez(root / "digits.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    (root / "fashion").mkdir()
    for name, array in (("images-idx3", pixels), ("labels-idx1", labels.astype(np.uint8))):
        head = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
        (root / f"fashion/train-{name}-ubyte").write_bytes(head + array.tobytes())
    for name in ("cat", "dog"):
        (root / "samples").mkdir(exist_ok=True)
        zipped(root / f"samples/{name}-samples.zip", root / "photos" / name)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    write_tables(tmp_path)
    write_films(tmp_path)
    write_named(tmp_path)
    write_arrays(tmp_path)
    monkeypatch.chdir(tmp_path)
    brief = {}
    for name, preset in presets.RECIPES.items():
        less: dict[str, Any] = {"epochs": 1, "warmup": 0.0, "report": False, "tensorboard": False}
        if not preset.recipe.weights:  # they know their width
            less |= {"width": 0.1}
        brief[name] = dataclasses.replace(preset, recipe=preset.recipe.replace(**less))
    monkeypatch.setattr(presets, "RECIPES", brief)
    return tmp_path


@pytest.mark.slow
def test_everything_that_is_typed_runs(desk, capsys):
    pytest.importorskip("pandas")
    run, names = "", {"__name__": "typed"}
    for kind, text in typed(PAGE):
        if kind == "python":
            exec(compile(text, "labels.md", "exec"), names)
            continue
        words = [run if word == "RUN" else word for word in shlex.split(text)[1:]]
        assert cli.main(words) in (0, 1 if words[:2] == ["data", "check"] else 0), (
            f"{text}: {capsys.readouterr().err}"
        )
        said = capsys.readouterr().out
        run = said.strip() if words[0] == "train" else run
