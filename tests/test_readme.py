"""What the README and the tutorials have their reader type is run here, on tiny data."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import film, network_of, typed
from PIL import Image

import alexnet
from alexnet import cli, presets
from alexnet.network.description import architecture
from alexnet.network.weight_names import weights_folder
from alexnet.presets import Preset
from alexnet.serving.connections import listen

ROOT = Path(__file__).parent.parent
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("tutorial-*.md"))]
}
README = PAGES["README.md"]


COMMANDS = [text for kind, text in typed(README) if kind == "command"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with the data that the pages speak of, small, and recipes of one epoch."""
    for folder in ("photos", "new-photos", "tiny-imagenet-200/train", "tiny-imagenet-200/val"):
        for number, name in enumerate(["n01", "n02"]):
            (tmp_path / folder / name).mkdir(parents=True)
            for image in range(8):
                generator = np.random.default_rng([number, image, *folder.encode()])
                pixels = generator.integers(0, 90, (16, 16, 3)) + 150 * number
                Image.fromarray(pixels.astype(np.uint8)).save(
                    tmp_path / folder / name / f"{image}.png"
                )
    Image.new("RGB", (30, 20), "red").save(tmp_path / "new.jpg")
    monkeypatch.chdir(tmp_path)
    brief_ones = {}
    for name, preset in presets.RECIPES.items():
        brief: dict[str, Any] = {"epochs": 1, "warmup": 0.0, "report": False}
        if preset.recipe.weights:  # they know their width
            brief |= {"finetune_epochs": min(1, preset.recipe.finetune_epochs)}
        else:
            brief |= {"width": 0.1}
        brief_ones[name] = dataclasses.replace(
            preset, recipe=dataclasses.replace(preset.recipe, **brief)
        )
    monkeypatch.setattr(presets, "RECIPES", brief_ones)
    monkeypatch.setattr("alexnet.data.fetch.fetch", lambda name, url: Path(name))
    monkeypatch.setattr("alexnet.network.weights.fetch_weights", lambda name, url: Path(name))
    monkeypatch.setattr("alexnet.sweeping.estimates.MEASURED_SECONDS", 0.05)
    # the server starts, listens at a free port, and stops at once
    monkeypatch.setattr("alexnet.serving.serve.listen", lambda host, port: listen(host, 0))
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
    film(tmp_path / "film.mp4", each=1)
    network_of(weights_folder() / "imagenet-2014.safetensors", architecture("2014", width=0.1), 5)
    network_of(tmp_path / "w.safetensors", architecture("small", width=0.1), 3)
    assert all(isinstance(preset, Preset) for preset in brief_ones.values())
    return tmp_path


def test_the_pages_have_commands():
    assert "python3 -m pip install uv && uv run alexnet train digits" in COMMANDS
    assert len(PAGES) == 4
    for page in PAGES.values():
        assert len(typed(page)) > 8 and "python" in dict(typed(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_everything_that_is_typed_runs(page, desk, capsys):
    run, names = "", {"__name__": "typed"}
    for kind, text in typed(PAGES[page]):
        if kind == "python":
            exec(compile(text, page, "exec"), names)
            continue
        words = shlex.split(text.rpartition("&&")[2].removeprefix(" uv run").strip())
        words = words[words.index("alexnet") + 1 :]
        if "cifar10" in words and words[0] == "train":
            words[words.index("cifar10")] = "photos"  # CIFAR-10 itself is not here
        less = {"RUN": run, "4": "1", "60": "2", "90": "3"}  # epochs
        words = [less.get(word, word) for word in words]
        assert cli.main(words) == 0, f"{text}: {capsys.readouterr().err}"
        if words[0] == "train":
            run = capsys.readouterr().out.strip()


def test_every_command_is_mentioned():
    every = " ".join(COMMANDS)
    assert [words for words in cli.COMMANDS if f"alexnet {words}" not in every] == []


def test_the_readme_is_short():
    assert len(README.splitlines()) < 200


def test_the_version_is_one():
    from importlib.metadata import version

    assert version("alexnet") == alexnet.__version__
