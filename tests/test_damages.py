"""What we wrote ourselves is verified when it is read: damage is named, or changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import MADE_FOR, SMALL, network_of, noise, run_directory, write_pictures

import alexnet
from alexnet import cli
from alexnet.atomic import read_object, write_json
from alexnet.data.datasets import open_data, packed
from alexnet.errors import RunError, WeightsError
from alexnet.network.checkpoint import load_network, save_network
from alexnet.reporting.report import write_report
from alexnet.runs.directory import RunDirectory

LONG = Path(__file__).parent / "long"


def flipped(data, place):
    found = bytearray(data)
    found[place // 8] ^= 1 << place % 8
    return bytes(found)


def test_each_flipped_bit_and_each_cut_of_json_is_noticed(tmp_path):
    path, value = tmp_path / "a.json", {"a": [1.5, None], "é": "\udcff"}
    write_json(path, value)
    sound = path.read_bytes()
    damages = [flipped(sound, place) for place in range(8 * len(sound))]
    damages += [sound[:place] for place in range(len(sound))]
    for damaged in damages:
        path.write_bytes(damaged)
        try:
            assert read_object(path) == value
        except ValueError:
            continue


def test_the_checksum_of_json_is_seen_by_no_parser_and_lost_when_others_write(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    path.write_text(json.dumps({"a": 2}))
    assert read_object(path) == {"a": 2}
    write_json(path, {"a": 1})
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    with pytest.raises(ValueError, match="its checksum is not that of its content; if you changed"):
        read_object(path)


def test_epochs_that_are_cut_off_are_noticed(tmp_path):
    run = RunDirectory(run_directory(tmp_path / "run"))
    run.write_epochs([{"epoch": number, "val_top1": number / 4} for number in (1, 2, 3)])
    path = tmp_path / "run" / "epochs.jsonl"
    sound = path.read_bytes()
    assert [json.loads(line)["epoch"] for line in sound.splitlines()] == [1, 2, 3]
    for length in range(len(sound)):
        path.write_bytes(sound[:length])
        with pytest.raises(RunError, match=r"epochs\.jsonl is damaged"):
            run.epochs()


@pytest.mark.parametrize("name", ["recipe.json", "environment.json", "metrics.json"])
def test_a_changed_digit_of_a_run_is_named(name, tmp_path):
    path = run_directory(tmp_path / "run") / name
    content = path.read_bytes()
    place = max(content.rfind(digit) for digit in (b"0", b"1", b"2"))
    path.write_bytes(flipped(content, 8 * place + 2))
    with pytest.raises(RunError, match=rf"{name} is damaged"):
        write_report(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["illustrations.json", "data.json"])
def test_what_a_page_leaves_out_is_named(name, tmp_path, capsys):
    run = run_directory(tmp_path / "run")
    write_json(run / name, {"samples": [], "classes": {}})
    (run / name).write_bytes((run / name).read_bytes()[:-4])
    write_report(run)
    assert f"{name} is damaged" in capsys.readouterr().err


def test_a_damaged_state_is_named_before_it_is_used(photos_run, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(photos_run, run)
    content = (run / "last.safetensors").read_bytes()
    place = content.index(b"phase")  # read before the weights are
    (run / "last.safetensors").write_bytes(flipped(content, 8 * place))
    recipe = RunDirectory(run).settings.asked
    data = RunDirectory(run).settings.data
    with pytest.raises(WeightsError, match=r"last\.safetensors"):
        alexnet.train(data, recipe, out=run, resume=True)


@pytest.mark.slow
def test_damage_of_an_exported_file_is_noticed(photos_run, tmp_path):
    pytest.importorskip("onnxruntime")
    from alexnet.exporting.export import export

    path = export(photos_run, out=tmp_path / "model.onnx")
    alexnet.load(path)
    sound = path.read_bytes()
    digits = sound.rindex(b'"crc32": "') + 10
    draw = np.random.default_rng(0)
    places = [*draw.integers(0, 8 * len(sound), 60), 8 * digits, 8 * digits + 60]
    for place in places:
        path.write_bytes(flipped(sound, int(place)))
        with pytest.raises(WeightsError, match=r"model\.onnx"):
            alexnet.load(path)


def test_a_damaged_packed_copy_is_named(tmp_path, capsys):
    write_pictures(tmp_path / "photos", per_class=3)
    store = open_data(tmp_path / "photos", image_size=16)
    (store.path / "store.json").write_bytes((store.path / "store.json").read_bytes()[:-9])
    assert list(packed(store.fingerprint)) == []
    assert str(store.path) in capsys.readouterr().err


def broken_weights(path):
    """A weights file with a checksum that is right, and a weight that is no number."""
    network_of(path, SMALL, 3, MADE_FOR)
    network = load_network(path)
    last = next(name for name in reversed(network.tensors) if name.endswith("weight"))
    network.tensors[last].view(-1)[0] = torch.nan
    save_network(path, network)


def test_what_is_no_number_is_no_answer(photos_run, tmp_path, capsys):
    broken_weights(tmp_path / "w.safetensors")
    classifier = alexnet.load(tmp_path / "w.safetensors", precision="fp32")
    with pytest.raises(WeightsError, match="gives what is no number for 2 of 2 images"):
        classifier.predict_proba([noise(1), noise(2)])
    noise(3).save(tmp_path / "a.png")
    words = ["predict", str(tmp_path / "w.safetensors"), str(tmp_path / "a.png")]
    assert cli.main(words) == 2
    told = capsys.readouterr()
    assert not told.out and "no number for 1 of 1 images" in told.err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each command runs in a child")
def test_damages_by_chance():
    words = [sys.executable, str(LONG / "damages.py"), "--count", "12", "--cheap"]
    told = subprocess.run(words, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "12 all" in told.stdout


@pytest.mark.slow
def test_a_page_says_that_it_leaves_out_a_damaged_network(photos_run, tmp_path, capsys):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(photos_run, run)
    content = (run / "best.safetensors").read_bytes()
    (run / "best.safetensors").write_bytes(flipped(content, 4 * len(content)))
    write_report(run)
    assert "The network is left out." in capsys.readouterr().err
