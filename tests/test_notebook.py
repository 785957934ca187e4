"""What a notebook, and a program that looks into a model, find; the notebook of examples/."""

import contextlib
import io
import re
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from makers import noise
from PIL import Image

import alexnet
from alexnet import console
from alexnet.errors import DataError, RunError
from alexnet.exporting.export import export
from alexnet.runs.directory import RunDirectory


@pytest.fixture(scope="module")
def model(photos_run):
    return alexnet.load(photos_run)


IMAGES = [noise(seed, (40, 30)) for seed in range(3)]


@pytest.mark.slow
def test_a_model_shows_its_figures_its_curve_and_its_confusions(model):
    page = model._repr_html_()
    ElementTree.fromstring(page)  # whole elements
    assert f"{model.metrics['top1']:.2%}" in page
    assert re.findall('aria-label="(.*?)"', page) == ["accuracy", "confusion matrix"]
    assert "<script" not in page and "http" not in page


def test_a_model_knows_how_it_came_about(model, photos_run):
    [epoch] = model.history
    assert (epoch.epoch, epoch.best) == (1, True)
    assert 0 <= epoch.val_top1 <= 1
    assert model.recipe == RunDirectory(photos_run).settings.asked
    assert model.recipe.epochs == 1


def test_features_are_what_the_last_layer_sees(model):
    features = model.features(IMAGES)
    last = model.network.classifier[-1]
    assert features.shape == (3, last.in_features) and features.dtype == np.float32
    with torch.inference_mode():
        logits = last(torch.from_numpy(features))
    assert np.allclose(logits.softmax(1).numpy(), model.predict_proba(IMAGES), atol=0.02)  # bf16
    assert (model.features(IMAGES[0]) == features[:1]).all()
    assert model.features([]).shape == (0, features.shape[1])


@pytest.mark.slow
def test_explanations_are_pictures_and_numbers(model):
    found = model.explain(IMAGES, neighbours=2)
    assert len(found) == 3
    one = found[0]
    assert one.label == one.p.argmax() and 0 <= one.cam.min() <= one.cam.max() <= 1
    assert len(one.neighbours) == 2 and one.neighbours[0].name in model.names
    with Image.open(io.BytesIO(one._repr_png_())) as image:
        assert image.size[0] == 2 * image.size[1] >= 480
    [other] = model.explain(IMAGES[0], class_name="eel", neighbours=0)
    assert (other.label, other.neighbours) == (model.classes.index("eel"), [])
    with pytest.raises(DataError, match="no class 'whale'"):
        model.explain(IMAGES, class_name="whale")


@pytest.mark.slow
def test_a_network_shows_its_drawing_and_its_layers():
    page = alexnet.describe("2012")._repr_html_()
    ElementTree.fromstring(page)
    assert page.index("<svg") < page.index("<pre") < page.index("60,965,224")


@pytest.mark.slow
def test_an_exported_file_says_what_it_does_not_hold(photos_run, tmp_path):
    model = alexnet.load(export(photos_run, out=tmp_path / "model.onnx"))
    assert "accuracy" in model._repr_html_()
    for look in (
        lambda: model.history, lambda: model.recipe, lambda: model.network,
        lambda: model.features(IMAGES), lambda: model.explain(IMAGES),
    ):  # fmt: skip
        with pytest.raises(RunError, match="an exported file does not hold"):
            look()


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    """In a kernel, in an empty folder. What is committed has no outputs."""
    import nbformat  # half a second
    from nbclient import NotebookClient

    path = Path(__file__).parent.parent / "examples" / "alexnet-in-an-hour.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 8 and not any(cell.outputs for cell in cells)
    for cell in cells:  # its network from random numbers need not become good here
        cell.source = cell.source.replace("epochs=10", "epochs=2")
        cell.source = cell.source.replace('runs/shapes"', 'runs/shapes", epochs=3')
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    kinds = [kind for cell in cells for one in cell.outputs for kind in one.get("data", {})]
    assert kinds.count("image/png") == 5 and kinds.count("text/html") == 2
    assert (tmp_path / "runs" / "shapes" / "best.safetensors").exists()


# -- the bar of a notebook, and that of a terminal -------------------------------------------------


class Output(contextlib.nullcontext[None]):
    """The widget that rich draws into."""

    made: list["Output"] = []

    def __init__(self):
        super().__init__()
        self.is_open = True
        self.made.append(self)

    def clear_output(self, wait):
        pass

    def close(self):
        self.is_open = False


@pytest.fixture
def shown(monkeypatch):
    """What a notebook shows, as text: a kernel as far as it is asked."""
    shell, found = types.SimpleNamespace(kernel=object()), []
    modules: dict[str, dict[str, Any]] = {
        "IPython": {"get_ipython": lambda: shell},
        "IPython.display": {"display": lambda what: found.append(what)},
        "ipywidgets": {"Output": Output, "__spec__": ModuleSpec("ipywidgets", None)},
    }
    for name, parts in modules.items():
        module = types.ModuleType(name)
        vars(module).update(parts)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(console, "REDRAWN", 0.0)
    monkeypatch.setattr(Output, "made", [])
    return found


def test_a_notebook_has_a_bar_that_goes_away(shown, capsys):
    with console.progress("packing <b>", 4) as advance:
        advance(2)
    told = [one.text for one in shown if not isinstance(one, Output)]
    assert any("packing <b>" in one and "0/4" in one for one in told)
    assert any("packing <b>" in one and "2/4" in one for one in told)
    assert [one.is_open for one in Output.made] == [False] and capsys.readouterr().err == ""


class Terminal(io.StringIO):
    """A screen of 80 columns."""

    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console, "REDRAWN", 0.0)
    with console.redirected(Terminal()) as screen:
        yield screen


def test_a_terminal_has_a_bar_that_lines_go_above(screen):
    with console.progress("epoch 1/9", 1000, after=8000) as advance:
        advance(500)
        console.say("hello")
        advance(1)
    shown = [
        re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", one) for one in re.split("[\r\n]", screen.getvalue())
    ]
    assert all(len(part) <= 80 for part in shown)
    assert "hello" in shown and any("epoch 1/9" in one and "501/1000" in one for one in shown)
    assert screen.getvalue().endswith("\r\x1b[2K\x1b[?25h\r")  # nothing is left of it


def test_a_bar_within_another(screen):
    with console.progress("outer", 2) as outer, console.progress("inner", 3) as inner:
        inner(1)
        outer(1)
    assert re.search("outer.*1/2.*\n.*inner.*1/3", screen.getvalue())


def test_what_remains_is_that_of_everything_to_come(monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = console.Pace(total=100, done=50, after=800)
    now = 110.0
    pace.done += 10  # a second each: 40 are left here, and 800 later
    assert pace.remains == "about 14 min left"


def test_lines_fit_the_screen(screen):
    console.say(console.fitted("epoch 1/9", *[f"part {number:>12}" for number in range(9)]))
    console.say("a sentence " * 20)
    console.say("/a/path/that/is/longer/than/the/screen" * 3)
    first, *others = screen.getvalue().splitlines()
    assert first.startswith("epoch 1/9  part") and 60 < len(first) <= 80
    assert all(len(line) <= 80 for line in others[:-1])
    assert len(others[-1]) > 80  # a path is not broken


def test_lines_that_nobody_looks_at_are_whole(capsys):
    line = console.fitted("epoch 1/9", *["x" * 50] * 3)
    assert len(line) > 150
