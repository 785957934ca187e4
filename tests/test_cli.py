"""The commands: what they print, and what they say when something is wrong."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from makers import network_of, snapshot
from PIL import Image

import alexnet
from alexnet.cli import main, parse
from alexnet.data.reading import FIELDS
from alexnet.errors import InputError
from alexnet.network.description import architecture
from alexnet.presets import RECIPES

TINY = [
    "--image-size",
    "16",
    "--crop",
    "0",
    "--width",
    "0.125",
    "--epochs",
    "1",
    "--batch-size",
    "16",
]
TINY += ["--pool", "max", "--no-tensorboard"]
FITS = ["--crop", "auto", "--pool", "max"]  # what 16 px need


def write_photos(folder):
    for label, name in enumerate(["dark", "light"]):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.random.default_rng(number).integers(0, 80, (20, 16, 3)) + 150 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """To read."""
    path = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_CACHE", str(path / "cache"))
        photos = write_photos(path / "photos")
        assert main(["train", str(photos), *TINY, "--no-report", "--out", str(path / "run")]) == 0
    return path / "run"


@pytest.mark.slow
def test_train_prints_its_directory(folder, tmp_path, capsys):
    assert main(["train", str(folder), *TINY, "--out", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "run")  # and nothing else
    assert "epoch 1/1" in captured.err
    assert (tmp_path / "run" / "report.html").exists()


def test_eval_prints_a_table_or_json(run, folder, capsys):
    assert main(["eval", str(run)]) == 0
    assert "top-1" in capsys.readouterr().err
    assert main(["eval", str(run), str(folder), "--split", "all", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 24


def test_predict_prints_the_best_classes(run, folder, capsys):
    pictures = [str(folder / "dark" / "0.png"), str(folder / "light" / "1.png")]
    assert main(["predict", str(run), *pictures]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert re.fullmatch(r".*0\.png: (dark|light) [\d.]+%, (dark|light) [\d.]+%", out[0])
    assert main(["predict", str(run), *pictures, "--json", "--top", "1"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[0])
    assert answer["image"] == pictures[0]
    assert len(answer["top"]) == 1
    assert 0.5 <= answer["top"][0]["p"] <= 1


def test_predict_labels_a_folder(run, folder, tmp_path, capsys):
    new = tmp_path / "new"
    (new / "below").mkdir(parents=True)
    for number in (10, 9):
        (folder / "dark" / f"{number}.png").rename(new / f"test_{number}.png")
    (folder / "light" / "3.png").rename(new / "below" / "x.JPEG")
    (new / "broken.jpg").write_bytes(b"not an image")
    (new / "notes.txt").write_text("no image")
    (new / ".hidden.png").write_bytes(b"x")
    before = snapshot(new)
    table, sheets = tmp_path / "predictions.csv", tmp_path / "sheets"
    command = ["predict", str(run), str(new), "--save", str(table), "--sheets", str(sheets)]
    assert main([*command, "--top", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(table)
    assert "1 of 4 files could not be used" in captured.err
    assert "not an image" in captured.err
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [Path(row["image"]).name for row in rows]
    assert names == ["x.JPEG", "broken.jpg", "test_9.png", "test_10.png"]
    again = alexnet.load(run).predict([new / "below/x.JPEG", new / "test_9.png"])
    assert [row["class_1"] for row in (rows[0], rows[2])] == list(again)
    assert (rows[1]["class_1"], rows[1]["p_1"]) == ("", "")
    assert rows[1]["error"]
    assert 0.5 < float(rows[0]["p_1"]) <= 1
    [page] = sheets.glob("*.jpg")
    with Image.open(page) as image:
        assert image.size == (10 + 3 * 138, 10 + 170)
    assert snapshot(new) == before


def test_predict_with_nothing_to_classify(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jpg").write_bytes(b"x")
    for arguments, message in (
        ([str(tmp_path / "empty")], "there is no image in the folder"),
        ([str(tmp_path / "bad.jpg")], "none of the files could be used"),
        ([str(tmp_path / "bad.jpg"), "--top", "0"], "top is 0"),
    ):
        assert main(["predict", str(run), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_weights_commands(tmp_path, capsys):
    assert main(["weights", "list"]) == 0
    assert "alexnet weights fetch imagenet-2014" in capsys.readouterr().out
    network_of(tmp_path / "w.safetensors", architecture("small", width=0.1), 3)
    assert main(["weights", "import", str(tmp_path / "w.safetensors"), "--as", "mine"]) == 0
    assert capsys.readouterr().out.strip().endswith("mine.safetensors")
    assert main(["weights", "list"]) == 0
    assert (
        "mine           small network, 6 layers, 3 classes, 64 of 64 px" in capsys.readouterr().out
    )
    assert main(["weights", "fetch", "imagenet"]) == 2
    assert "Did you mean 'imagenet-2014'?" in capsys.readouterr().err


@pytest.mark.slow
def test_find_lr_stops_after_the_curve(folder, tmp_path, capsys):
    command = ["train", str(folder), *TINY, "--out", str(tmp_path / "run"), "--find-lr"]
    assert main(command) == 0
    assert (tmp_path / "run" / "lr.svg").exists()
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_recipes_lists_and_shows(capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in RECIPES)
    for name in RECIPES:
        assert main(["recipes", name]) == 0
        shown = capsys.readouterr().out
        assert RECIPES[name].command in shown
        assert "batch_size" in shown
    assert main(["recipes", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        json.dumps(RECIPES["digits"].recipe.to_dict())
    )


def test_data_prepare_packs_and_verifies(folder, capsys):
    assert main(["data", "prepare", str(folder), "--image-size", "16", *FITS]) == 0
    path, _, told = capsys.readouterr().out.partition("\n")
    assert (Path(path) / "store.json").exists()
    assert json.loads(told)["shape"] == [24, 3, 16, 16]
    assert main(["data", "prepare", path]) == 0


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("torch", "device", "threads", "precision", "cache"))


def test_the_recipe_suits_the_data_and_flags_override_it():
    assert parse(["train", "digits"]).fields == RECIPES["digits"].recipe
    assert parse(["train", "some/folder"]).fields == RECIPES["folder"].recipe
    assert parse(["train", "some/folder", "--out", "digits"]).fields == RECIPES["folder"].recipe
    train = parse(["train", "--lr", "0.3", "x", "--recipe", "cifar10-lrn"])
    assert train.fields.lr == 0.3
    assert train.fields.schedule == "plateau"
    assert parse(["train", "--std", "1", "1", "1", "--batch_size=9", "--", "-x"]).data == "-x"
    assert parse(["train", "--std", "auto", "--views=2", "x"]).fields.std == "auto"
    assert parse(["predict", "run", "a", "--top", "2", "-", "--json", "c"]).images == [
        "a",
        "-",
        "c",
    ]
    assert parse(["train", "x", "--recipe=cifar10"]).fields == RECIPES["cifar10"].recipe


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["trian", "digits"], "there is no command 'trian'", "Did you mean 'train'?"),
        (["train", "digits", "--recipe", "digts"], "no recipe 'digts'", "Did you mean 'digits'?"),
        (["train", "digits", "--epochs", "-1"], "epochs is -1, expected at least 0", "--help"),
        (["train", "digits", "--lr", "0"], "lr is 0.0, expected above 0", "--help"),
        (["train", "digits", "--lr", "nan"], "lr is nan", "--help"),
        (["train", "digits", "--dropout", "1"], "at least 0 and at most 0.95", "--help"),
        (["train", "digits", "--crop", "32"], "crop is 32 px", "--image-size"),
        (["train", "digits", "--crop-padding", "16"], "crop_padding is 16 px", "--crop-padding"),
        (["train", "digits", "--optimizer", "adam"], "nesterov needs SGD", "--no-nesterov"),
        (["train", "digits", "--warmup", "99"], "warmup is 99 epochs", "--warmup"),
        (["train", "digits", "--std", "0", "1", "1"], "std is (0.0, 1.0, 1.0)", "--std"),
        (["train", "digits", "--epochs", "0"], "no weights to evaluate", "--weights"),
        (["train", "digitz"], "no data set and no path 'digitz'", "Did you mean 'digits'?"),
        (["train", "no/such/folder"], "nothing at no/such/folder", "Check the path"),
        (["train", "cifar10"], "cifar10 is not on this machine", "alexnet data fetch cifar10"),
        (["train", "digits", "--device", "tpu"], "tpu", "--device auto"),
        (["train", "digits", "--weights", "nowhere"], "no weights 'nowhere'", "imagenet-2014"),
        (["eval", "nowhere"], "there is nothing at nowhere", "Check the path"),
        (["predict", ".", "a.jpg"], "not a run directory", "`alexnet train` printed"),
        (["data", "prepar"], "there is no command 'data prepar'", "'data prepare'"),
        (["train", "digits", "--epochz", "3"], "has no flag --epochz", "'--epochs'"),
        (["train", "digits", "--learning-rate", "1"], "no flag --learning-rate", "'--lr'"),
        (["train", "digits", "--epochs", "three"], "expected a whole number", "--help-all"),
        (["train", "digits", "--epochs"], "--epochs needs a value", "--help"),
        (["train", "digits", "--model", "2013"], "expected one of auto, 2012", "'2014'"),
        (["train", "digits", "--mean", "1", "2"], "--mean needs a value", "--help"),
        (["train", "digits", "--flip=no"], "--flip takes no value", "--no-flip"),
        (["train", "digits", "fast"], "a word too many: 'fast'", "alexnet train DATA"),
        (["train"], "DATA is missing", "alexnet train DATA"),
        (["doctor", "now"], "a word too many: 'now'", "alexnet doctor"),
        (["train", "--lr", "-1e-3", "--", "-x"], "lr is -0.001", "--help"),
        (["train", "digits", "--config", "no.toml"], "nothing at no.toml", "run directory"),
        (["eval", "--top", "many"], "RUN is missing", "alexnet eval RUN"),
        (["eval", "x", "--top", "many"], "top is 'many'", "alexnet eval --help"),
        (["resume", "nowhere"], "there is nothing at nowhere", "Check the path"),
        (["repeat", "nowhere"], "there is nothing at nowhere", "Check the path"),
        (["completion", "tcsh"], "expected one of bash, zsh, fish", "zsh"),
        (["data", "fetch", "cifar100"], "no download named 'cifar100'", "'cifar10'"),
        (["recipes", "folders"], "no recipe 'folders'", "'folder'"),
    ],
)
def test_wrong_input_exits_with_2_and_says_what_to_do(
    arguments, message, hint, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code = main(arguments)
    told = " ".join("".join(capsys.readouterr()).split())
    assert code == 2
    assert message in told
    assert hint in told
    assert "Traceback" not in told
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", FIELDS)
def test_how_data_is_read_is_not_said_of_none(name):
    flag = "--" + name.replace("_", "-")
    with pytest.raises(InputError, match=f"{name} says how DATA is read"):
        parse(["eval", "run", flag, "x"]).address_of("")


def test_ctrl_c_while_packing_is_not_a_traceback(folder, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("alexnet.data.datasets.decoded", interrupted)
    assert main(["train", str(folder), *TINY]) == 130
    assert capsys.readouterr().err.endswith("alexnet: stopped.\n")


def test_a_closed_pipe_is_not_a_traceback():
    code = "import sys; from alexnet.cli import main; sys.exit(main(['recipes', 'digits']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait()
    process.stderr.close()
