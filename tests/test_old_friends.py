"""What release 0.1.0 wrote goes on working: tests/fixtures/alexnet-0.1.0.tar.xz, whose maker lies
beside it."""

import json
import lzma
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import snapshot, tensors_sha256
from safetensors import safe_open

import alexnet
from alexnet import cli
from alexnet.data.store import Store
from alexnet.runs.directory import RunDirectory
from alexnet.runtime import processor_name
from alexnet.values import Precision

ARCHIVE = Path(__file__).parent / "fixtures" / "alexnet-0.1.0.tar.xz"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alexnet-0.1.0")
    with lzma.open(ARCHIVE) as file, tarfile.open(fileobj=file) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def old(unpacked, tmp_path, monkeypatch):
    """A copy of all of it, which is the current folder."""
    shutil.copytree(unpacked, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture(scope="session")
def expected(unpacked):
    return json.loads((unpacked / "expected.json").read_text())


@pytest.fixture
def same_bits(expected):
    """Whether this machine computes with the bits of the one that made the fixtures."""
    return (torch.__version__, processor_name()) == (expected["torch"], expected["processor"])


def run(*words):
    return cli.main([str(word) for word in words])


def equal_table(path, lines, same_bits):
    """Without the seconds; elsewhere the trials and how they ended."""
    found = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    if same_bits:
        assert found == lines
    assert [line.split(",")[:4] for line in found] == [line.split(",")[:4] for line in lines]


def stacked_epochs(path):
    """What a stack had noted of each of its heads when it was stopped."""
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["alexnet"])["history"]


@pytest.mark.parametrize("name", ["run", "head"])
def test_a_run_evaluates_as_it_did(name, old, expected):
    figures = alexnet.evaluate(name, precision="fp32")
    there = expected[f"eval {name}"]
    assert {key: figures[key] for key in ("split", "n", "top1")} == {
        key: there[key] for key in ("split", "n", "top1")
    }
    assert figures["nll"] == pytest.approx(there["nll"], rel=1e-5)


@pytest.mark.parametrize("model", ["run", "model.onnx"])
def test_it_classifies_as_it_did(model, old, expected):
    if model == "model.onnx":
        pytest.importorskip("onnxruntime")
    precision: Precision = "auto" if model == "model.onnx" else "fp32"
    picture = np.array(expected["picture"], np.uint8)
    found = alexnet.load(model, precision=precision).predict_proba(picture)[0]
    np.testing.assert_allclose(found, expected[f"predict {model}"], atol=1e-6)


@pytest.mark.slow
def test_it_says_that_it_does_not_know_once_its_data_was_looked_at(old, expected, capsys):
    picture = np.array(expected["picture"], np.uint8)
    [found] = alexnet.load("run", precision="fp32").predict_set(picture, abstain=0.1)
    assert "is calibrated, once" in capsys.readouterr().err
    assert found.p == pytest.approx(np.array(expected["predict run"]), abs=1e-6)
    calibration = RunDirectory("run").calibration()
    assert len(calibration.test_p) == RunDirectory("run").metrics()["n"]
    assert 0 < calibration.missed(0.1).value < 0.2
    assert run("export", "run", "--abstain", "--out", "new.onnx") == 0
    [again] = alexnet.load("new.onnx").predict_set(picture, abstain=0.1)
    assert str(again) == str(found)


@pytest.mark.slow
def test_a_run_stopped_in_mid_epoch_goes_on_to_the_same_bits(old, expected, same_bits):
    before = Path("half/epochs.jsonl").read_bytes()
    words = ["train", "digits", "--epochs", 4, "--seed", 3, "--out", "half", "--resume"]
    assert run(*words, *expected["train flags"].split()) == 0
    # from the start it would come to the same bits, but not to the same seconds
    now = Path("half/epochs.jsonl").read_bytes().lstrip()  # without its checksum
    assert now.startswith(before), "it began anew"
    figures = RunDirectory("half").metrics()
    assert figures["top1"] == pytest.approx(expected["eval whole"]["top1"], abs=0.03)
    if same_bits:
        assert tensors_sha256("half/best.safetensors") == expected["tensors whole"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "command"), [("sweep", "sweep"), ("heads-sweep", "heads")])
def test_a_sweep_half_done_is_finished(name, command, old, expected, same_bits):
    done = snapshot(Path(name, "trials")) if name == "sweep" else {}
    done = {path: found for path, found in done.items() if "e3b338fd" in path}
    begun = Path("sweep/trials/4ec2bc45/epochs.jsonl")
    lines = begun.read_bytes()
    stacked = [stacked_epochs(path) for path in Path(name).glob("stacks/*")]
    assert run(*expected[f"{command} command"].split()) == 0
    now = begun.read_bytes().lstrip()  # without its checksum
    assert now.startswith(lines), "a trial half done began anew"
    seconds = {
        json.loads(line)["seconds"]
        for path in Path(name, "trials").glob("*/epochs.jsonl")
        for line in path.read_text().splitlines()
    }
    for head in (head for stack in stacked for head in stack):
        assert {epoch["seconds"] for epoch in head} <= seconds, "a stack began anew"
    equal_table(Path(name, "results.csv"), expected[name], same_bits)
    after = snapshot(Path(name, "trials"))
    winner = {path for path in done if path.endswith("test.json")}
    assert {path: after[path] for path in done.keys() - winner} == {
        path: one for path, one in done.items() if path not in winner
    }, "a trial that was done was trained again"


@pytest.mark.slow
def test_pages_are_drawn(old, capsys):
    assert run("report", "run") == 0
    assert run("report", "finished-sweep") == 0
    assert run("report", "run", "whole", "--out", "both.html") == 0
    for page in ("run/report.html", "finished-sweep/report.html", "both.html"):
        assert "<html" in Path(page).read_text(encoding="utf-8")


def test_it_is_exported_and_served(old):
    pytest.importorskip("onnxruntime")
    from alexnet.serving.serve import load_models

    assert run("export", "run", "--out", "new.onnx") == 0
    models = load_models(["run", "model.onnx", "new.onnx"])
    assert [len(model.classes) for model in models.values()] == [10, 10, 10]


@pytest.mark.slow
def test_a_store_opens(old):
    store = Store.open(Path("store"))
    store.verify()
    assert (len(store), store.classes, store.x[0].shape) == (12, ["blue", "red"], (3, 16, 16))
    assert run("train", "store", "--epochs", 1, "--width", 0.1, "--batch-size", 4) == 0


def without(path, *names):
    """A run as releases before some fields wrote it."""
    saved = json.loads((path / "recipe.json").read_text())
    for name in names:
        del saved["recipe"][name]
    (path / "recipe.json").write_text(json.dumps(saved))


# what follows fails on 0.1.0 itself, but for a few of the refusals


@pytest.mark.slow
def test_a_run_without_two_fields(old, expected, same_bits):
    for name in ("run", "half"):
        without(old / name, "greyscale", "views")
    assert alexnet.evaluate("run", precision="fp32")["n"] == expected["eval run"]["n"]
    assert run("report", "run", "head", "--out", "both.html") == 0
    words = ["train", "digits", "--epochs", 4, "--seed", 3, "--out", "half", "--resume"]
    assert run(*words, *expected["train flags"].split()) == 0
    if same_bits:
        assert tensors_sha256("half/best.safetensors") == expected["tensors whole"]


def newer(path):
    saved = json.loads((path / "recipe.json").read_text())
    saved["recipe"]["colour_of_the_sky"] = "blue"
    (path / "recipe.json").write_text(json.dumps(saved))


def change(name, content):
    def write(path):
        (path / name).write_bytes(content)

    write.__name__ = f"{name} {content[:8]!r}"
    return write


def remove(name):
    def unlink(path):
        (path / name).unlink()

    unlink.__name__ = f"without {name}"
    return unlink


COMMANDS = {
    "eval": ["eval", "run"],
    "report": ["report", "run"],
    "compare": ["report", "run", "head", "--out", "both.html"],
    "export": ["export", "run", "--out", "new.onnx"],
    "predict": ["predict", "run", "picture.png"],
}


@pytest.mark.parametrize(
    ("damage", "command", "words"),
    [
        (newer, "eval", "recipe.json has fields that alexnet"),
        (newer, "report", "colour_of_the_sky"),
        (remove("recipe.json"), "eval", "not a run directory: it has no recipe.json"),
        (remove("environment.json"), "report", "it has no environment.json"),
        (remove("metrics.json"), "report", "has no metrics.json"),
        (remove("predictions.npz"), "compare", "has no predictions.npz"),
        (remove("best.safetensors"), "predict", "was not finished: it has no best.safetensors"),
        (change("recipe.json", b""), "eval", "recipe.json is damaged"),
        (change("recipe.json", b"[1]"), "eval", "recipe.json is damaged"),
        (change("recipe.json", b'{"data": 1, "recipe": {"lr": "x"}}'), "eval", "recipe.json"),
        (change("environment.json", b"{}"), "eval", "damaged"),
        (change("environment.json", b'{"data_fingerprint": "a", "versions": 3}'), "report", "dam"),
        (change("metrics.json", b""), "report", "metrics.json is damaged"),
        (change("metrics.json", b'{"top1": "high"}'), "compare", "metrics.json is damaged"),
        (change("metrics.json", b"{" * 9999), "export", "metrics.json is damaged"),
        (change("epochs.jsonl", b"\xff\xfe"), "report", "epochs.jsonl is damaged"),
        (change("epochs.jsonl", b"3\n"), "report", "epochs.jsonl is damaged"),
        (change("predictions.npz", b""), "report", "predictions.npz is damaged"),
        (change("best.safetensors", b""), "predict", "best.safetensors cannot be read"),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_a_damaged_or_newer_run_is_refused_in_words(damage, command, words, old, capsys):
    from PIL import Image

    Image.new("RGB", (20, 20)).save("picture.png")
    damage(old / "run")
    before = snapshot(old)
    assert run(*COMMANDS[command]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") >= 2, "what to do is missing"
    assert "Traceback" not in said
    assert snapshot(old) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "sweep"], "is the directory of a sweep, not of a run"),
        (["predict", "sweep", "x.png"], "is the directory of a sweep"),
        (["train", "digits", "--out", "sweep", "--resume"], "is the directory of a sweep"),
        (["eval", "store"], "is not a run directory"),
        (["eval", "nowhere"], "there is nothing at nowhere"),
        (["train", "run"], "is the directory of a run, and holds no images"),
        (["train", "finished-sweep"], "is the directory of a sweep, and holds no images"),
    ],
)
def test_one_kind_of_folder_for_another(words, message, old, capsys):
    before = snapshot(old)
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert snapshot(old) == before


def test_trials_of_a_sweep_have_the_names_they_had():
    assert alexnet.Recipe().digest == "00eda8c8"
    assert alexnet.RECIPES["digits"].recipe.digest == "30556427"
