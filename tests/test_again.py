"""On with a run, and all of it again."""

import json
import shutil

import numpy as np
import pytest
from makers import TINY, change, lines, tensors_sha256, write_pictures
from safetensors import safe_open

import alexnet
from alexnet.cli import main
from alexnet.errors import CheckError, Interrupted, RunError
from alexnet.network.checkpoint import load_tensors, save_tensors
from alexnet.runs.directory import RunDirectory
from alexnet.training import run as running
from alexnet.training import train as training

STEPS = change(epochs=3, schedule="exponential", gamma=0.5)  # its rate knows no last epoch


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("again") / "photos")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def figures(run):
    return [epoch["val_loss"] for epoch in lines(run)]


def last_weights(run):
    with safe_open(run / "last.safetensors", "np") as file:
        names = [name for name in file.keys() if name.startswith("model.")]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}


@pytest.mark.slow
def test_more_epochs_are_those_of_a_longer_training(photos, tmp_path, capsys):
    long = alexnet.train(photos, STEPS, epochs=5, out=tmp_path / "long")
    run = alexnet.train(photos, STEPS, out=tmp_path / "run")
    assert main(["resume", str(run), "--epochs", "5"]) == 0
    assert capsys.readouterr().out == f"{run}\n"
    assert figures(run) == figures(long)
    assert tensors_sha256(run / "best.safetensors") == tensors_sha256(long / "best.safetensors")
    there = RunDirectory(run)
    assert there.settings.asked == STEPS.replace(epochs=5)
    assert there.evaluated and there.metrics()["top1"] == RunDirectory(long).metrics()["top1"]


@pytest.mark.slow
def test_a_schedule_that_came_to_its_end_begins_again_where_the_longer_one_is(photos, tmp_path):
    run = alexnet.train(photos, change(schedule="cosine", epochs=2), out=tmp_path / "run")
    longer = alexnet.train(photos, change(schedule="cosine", epochs=4), out=tmp_path / "longer")
    alexnet.resume(run, epochs=4)
    rates = [[epoch["lr"] for epoch in lines(one)] for one in (run, longer)]
    assert rates[0][1] < rates[1][1] and rates[0][2:] == rates[1][2:]


@pytest.fixture
def stopped(photos, tmp_path, monkeypatch):
    """A run that was stopped after its first epoch."""
    write = running.epoch_line

    def stop(epoch, *others):
        raise Interrupted("stopped.")

    monkeypatch.setattr(running, "epoch_line", stop)
    with pytest.raises(Interrupted) as caught:
        alexnet.train(photos, STEPS, out=tmp_path / "stopped")
    assert f"alexnet resume {tmp_path / 'stopped'}" in caught.value.hint
    monkeypatch.setattr(running, "epoch_line", write)
    return tmp_path / "stopped"


def test_a_stopped_run_goes_on_by_its_name_alone(stopped, photos, tmp_path):
    whole = alexnet.train(photos, STEPS, out=tmp_path / "whole")
    assert alexnet.resume(stopped) == stopped
    assert figures(stopped) == figures(whole)
    assert all(
        np.array_equal(one, last_weights(whole)[name])
        for name, one in last_weights(stopped).items()
    )


def test_a_finished_run_says_that_it_is(photos, tmp_path, capsys):
    run = alexnet.train(photos, TINY, out=tmp_path / "run")
    before = (run / "metrics.json").stat().st_mtime_ns
    assert main(["resume", str(run)]) == 0
    assert "is finished, after 2 epochs" in capsys.readouterr().err
    assert (run / "metrics.json").stat().st_mtime_ns == before


def test_a_run_killed_before_its_report_gets_it(photos, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    monkeypatch.setattr(training, "prepare_report", killed)
    with pytest.raises(Killed):
        alexnet.train(photos, change(report=True), out=tmp_path / "run")
    for _ in range(2):
        with pytest.raises(Killed):
            alexnet.resume(tmp_path / "run")
    (tmp_path / "run" / "report.html").touch()
    assert alexnet.resume(tmp_path / "run") == tmp_path / "run"


@pytest.mark.slow
def test_what_cannot_go_on_is_refused(photos, tmp_path):
    run = alexnet.train(photos, TINY, out=tmp_path / "run")
    with pytest.raises(RunError, match="epochs is 1, but 2 are done"):
        alexnet.resume(run, epochs=1)
    (run / "last.safetensors").unlink()
    with pytest.raises(RunError, match="no state to go on from"):
        alexnet.resume(run, epochs=9)
    early = alexnet.train(photos, change(epochs=9, patience=1, lr=1e-9), out=tmp_path / "early")
    with pytest.raises(RunError, match="stopped early") as caught:
        alexnet.resume(early, epochs=12)
    assert "--patience" in caught.value.hint
    done = len(lines(early))
    alexnet.resume(early, epochs=done + 1, patience=0)
    assert len(lines(early)) == done + 1
    with pytest.raises(RunError, match="was trained with another recipe"):
        alexnet.train(photos, TINY, lr=0.01, out=run, resume=True)


def test_a_run_is_repeated_from_its_own_files(photos, tmp_path, capsys):
    run = alexnet.train(photos, TINY, seed=4, out=tmp_path / "run")
    assert main(["repeat", str(run), "--out", "again"]) == 0
    said = capsys.readouterr()
    assert said.out == "again\n" and "the same as" in said.err and "in every bit" in said.err
    assert (tmp_path / "again" / "best.safetensors").read_bytes() == (
        run / "best.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_a_run_that_went_on_is_repeated_as_it_went(photos, tmp_path):
    run = alexnet.train(photos, change(schedule="cosine"), out=tmp_path / "run")
    alexnet.resume(run, epochs=3)
    alexnet.resume(run, epochs=4)
    again = alexnet.repeat(run)
    assert figures(again) == figures(run)
    settings = RunDirectory(again).settings
    assert [one["epochs"] for one in settings.continued] == [2, 3]


@pytest.mark.slow
def test_what_differs_is_said(photos, tmp_path, capsys):
    run = alexnet.train(photos, TINY, out=tmp_path / "run")
    tensors, about = load_tensors(run / "best.safetensors")
    name = sorted(tensors)[0]
    save_tensors(run / "best.safetensors", tensors | {name: tensors[name] + 1}, about)
    found = lines(run)
    found[1]["val_loss"] += 1e-9
    (run / "epochs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found))
    around = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(around | {"threads": 77}))
    with pytest.raises(CheckError, match=r"1 of .* weights.*from epoch 2 on") as caught:
        alexnet.repeat(run)
    assert "threads: 77 there" in caught.value.hint
    assert main(["repeat", str(run)]) == 1


def test_other_data_is_not_repeated(photos, tmp_path):
    data = shutil.copytree(photos, tmp_path / "photos")
    run = alexnet.train(data, TINY, out=tmp_path / "run")
    (data / "red" / "0.png").unlink()
    with pytest.raises(RunError, match="was trained on other data"):
        alexnet.repeat(run)
    assert not (tmp_path / "runs").exists()
