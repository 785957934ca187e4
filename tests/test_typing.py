"""The types of the public names, as mypy reads them in a user's script."""

import os
import re
import subprocess
import sys
from importlib import resources

import pytest

import alexnet

RIGHT = """
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import alexnet
from alexnet.data.store import Batches
from alexnet.fitting.loop import Epoch, State

name: str = sorted(alexnet.RECIPES)[0]
recipe: alexnet.Recipe = alexnet.RECIPES[name].recipe
changed: alexnet.Recipe = alexnet.Recipe(epochs=5, lr="auto", model="small", seed=1)
fields: dict[str, Any] = changed.to_dict()
assert alexnet.Recipe.from_dict(fields).digest == changed.digest

try:
    run: Path = alexnet.train("digits", changed, out="here", resume=False)
except alexnet.AlexNetError as error:
    message: str = error.message + error.hint
    raise SystemExit(error.exit_code) from error

figures: dict[str, Any] = alexnet.evaluate(run, split="test", views=2, classes=["1", "2"])
model: alexnet.Classifier = alexnet.load(run, device="cpu", precision="fp32")
layers: list[str] = [one.name for one in alexnet.describe(run, image_size=64).layers]
picture = Image.new("RGB", (9, 9))
names: NDArray[np.str_] = model.predict(["a.png", Path("b.png"), b"bytes", picture])
p: NDArray[np.float32] = model.predict_proba(np.zeros((9, 9, 3), np.uint8))
share: float = model.score(["a.png"], ["7"])
for one in model.predict_files([Path("a.png")]):
    print(one.file.name, one.reason, model.classes_, model.metrics["top1"])


def train(state: State, batches: Batches) -> Iterator[Epoch]:
    yield from alexnet.fit(
        state, batches, batches, epochs=3, rate=lambda progress, scores: 0.1,
        loss=torch.nn.functional.cross_entropy,
    )


version: str = alexnet.__version__
"""

# a line of a script, and what mypy says of it
WRONG = {
    'alexnet.train(3)': "arg-type",
    'alexnet.Recipe(lr="fast")': "arg-type",
    'alexnet.Recipe(learning_rate=0.1)': "call-arg",
    'alexnet.load("run").predict(5)': "arg-type",
    'alexnet.load("run").predict_probabilities(["a.png"])': "attr-defined",
    'number: int = alexnet.evaluate("run")': "assignment",
    'alexnet.trian("digits")': "attr-defined",
}  # fmt: skip

OTHERS = ("torch", "optuna", "matplotlib", "IPython", "rich", "filelock", "fastapi", "uvicorn")


def mypy(folder, script):
    """What mypy says of a script in a folder of its own, with no settings of ours."""
    (folder / "script.py").write_text(script, encoding="utf-8")
    # strict about the script and what it imports of us; what we import is not the script's, and
    # takes the most of the time
    others = ",".join(f"mypy-{name}.*" for name in OTHERS)
    settings = f"[mypy]\nstrict = True\n[{others}]\nfollow_imports = skip\n"
    (folder / "mypy.ini").write_text(settings, encoding="utf-8")
    words = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "script.py"]
    surroundings = {name: one for name, one in os.environ.items() if name != "MYPYPATH"}
    found = subprocess.run(words, cwd=folder, env=surroundings, capture_output=True, text=True)
    assert found.returncode in (0, 1), found.stdout + found.stderr
    return found.stdout


def test_the_package_says_that_it_is_typed():
    assert resources.files("alexnet").joinpath("py.typed").is_file()


@pytest.mark.slow
def test_a_script_with_every_public_name_is_right_and_mistakes_are_found(tmp_path):
    pytest.importorskip("mypy")
    every = ", ".join(f"alexnet.{name}" for name in alexnet.__all__)
    right = f"{RIGHT}every: list[object] = [{every}]\n"
    said = mypy(tmp_path, right + "\n".join(WRONG)).splitlines()
    first = right.count("\n") + 1
    wrong = [int(number) for number in re.findall(r"script\.py:(\d+): error", "\n".join(said))]
    assert min(wrong) >= first, said
    for number, (line, code) in enumerate(WRONG.items(), start=first):
        here = [one for one in said if one.startswith(f"script.py:{number}: ")]
        assert any(f"[{code}]" in one for one in here), f"{line}: {here}"
