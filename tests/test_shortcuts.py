"""Files that tell their class before anyone looks at a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import noise, write_image

import alexnet
from alexnet.cli import main
from alexnet.data.datasets import open_data
from alexnet.data.shortcuts import ENOUGH, in_words, kind_of, told_by_files

EACH = 24


def folder(root: Path, **kinds: tuple[str, tuple[int, int]]) -> Path:
    """A class for each name, its pictures with an ending and of a size."""
    for name, (ending, size) in kinds.items():
        for number in range(EACH):
            write_image(root / name / f"{number}{ending}", size)
    return root


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40))
def test_each_image_is_told_by_the_others_of_its_kind(pairs: list[tuple[int, int]]) -> None:
    kinds, labels = np.array(pairs).T
    whole = np.bincount(labels)
    right = 0
    for place, (kind, label) in enumerate(pairs):
        others = [one for at, (like, one) in enumerate(pairs) if like == kind and at != place]
        counts = np.bincount(others, minlength=5) if others else whole
        best = np.flatnonzero(counts == counts.max())
        right += bool(len(others) and best.tolist() == [label])  # a tie tells nothing
        right += bool(not others and label == whole.argmax())
    found = told_by_files(kinds, labels)
    assert found["top1"] == pytest.approx(right / len(pairs), abs=1e-4)
    assert found["chance"] == pytest.approx(whole.max() / len(pairs), abs=1e-4)


def test_sizes_are_of_one_kind_within_a_few_parts_in_a_hundred() -> None:
    assert kind_of((640, 480), "RGB", "JPEG") == kind_of((660, 470), "RGB", "JPEG")
    assert len({kind_of((s, 480), f) for s in (320, 450, 640) for f in ("PNG", "JPEG")}) == 6


@pytest.mark.parametrize(
    ("dog", "tells"),
    [((".jpg", (40, 30)), True), ((".png", (90, 30)), True), ((".png", (41, 30)), False)],
)
def test_it_is_said_by_check_and_by_a_training(
    tmp_path: Path, dog: Any, tells: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder(tmp_path / "animals", cat=(".png", (40, 30)), dog=dog)
    findings = alexnet.check(data, image_size=32)
    assert ("by_file" in {one.kind for one in findings}) == tells
    capsys.readouterr()
    words = "--recipe scratch --image-size 32 --crop auto --pool max --width 0.1 --epochs 1 "
    words += "--warmup 0 --no-report --no-tensorboard"
    assert main(["train", str(data), *words.split(), "--out", str(tmp_path / "run")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert ("of a file alone tell its class in 100% (the commonest class: 50%)" in said) == tells


def test_what_came_without_files_or_is_little_tells_nothing(tmp_path: Path) -> None:
    pairs = [(np.asarray(noise(n, (8 + n % 2, 8))), "ab"[n % 2]) for n in range(2 * ENOUGH)]
    store = open_data(alexnet.labelled(pairs), image_size=8)
    assert "by_file" not in store.info and in_words(store.info, len(store)) == ""
    sure = {"by_file": {"top1": 1.0, "chance": 0.5}}
    assert in_words(sure, ENOUGH) and not in_words(sure, ENOUGH - 1)
    assert not in_words({"by_file": {"top1": 0.64, "chance": 0.5}}, 1000)
