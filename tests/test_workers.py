"""Where trials run changes nothing about what comes out: processes, a Ray cluster, workers that
die, and searches that choose as they go."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace
from importlib.machinery import ModuleSpec
from multiprocessing import active_children
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from makers import FROZEN, MADE_FOR, SMALL, change, lines, network_of, table, write_pictures

from alexnet import ranks
from alexnet.cli import main
from alexnet.errors import AlexNetError, InputError, Interrupted, RecipeError
from alexnet.fitting.loop import Epoch
from alexnet.network.weight_names import weights_folder
from alexnet.presets import RECIPES, STUDIES, study
from alexnet.sweeping import trial_runs, workers
from alexnet.sweeping.directory import SweepDirectory
from alexnet.sweeping.results import result
from alexnet.sweeping.search import TpeSearch, judge_of, open_study
from alexnet.sweeping.sweep import sweep
from alexnet.sweeping.trial_runs import Job, run_job
from alexnet.sweeping.trials import grid_points, parse_space, plan

ALONE = change(FROZEN, freeze="none", epochs=2)
GRID = {"lr": [0.05, 0.0001], "momentum": [0.9, 0.0]}


@pytest.fixture
def folder(tmp_path):
    network_of(weights_folder() / "made.safetensors", SMALL, 5, MADE_FOR)
    return write_pictures(tmp_path / "colours")


def while_running(act):
    """Runs `act` every 20 ms in a thread until it returns something true, or the test ends."""
    done = threading.Event()

    def loop():
        while not done.is_set() and not act():
            time.sleep(0.02)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()

    def stop():
        done.set()
        thread.join()

    return stop


@pytest.mark.slow
def test_processes_give_the_same_table(folder, tmp_path, capsys):
    expected = table(sweep(folder, ALONE, {"lr": [0.05, 0.0001]}, out=tmp_path / "here"))
    path = sweep(folder, ALONE, {"lr": [0.05, 0.0001]}, out=tmp_path / "processes", jobs=2)
    assert table(path) == expected
    said = " ".join(capsys.readouterr().err.split())
    assert "2 of 2 trials are done" in said
    assert "epoch 2/2" in next(iter((path / "logs").glob("*.log"))).read_text()


@pytest.mark.slow
def test_a_script_needs_no_guard(folder, tmp_path):
    """A script of a few lines, without `if __name__ == "__main__"`, is not run again by workers."""
    recipe = {one.name: getattr(ALONE, one.name) for one in fields(ALONE)}
    given = f"{str(folder)!r}, alexnet.Recipe(**{recipe!r})"
    (tmp_path / "script.py").write_text(
        f"import alexnet\nprint('begun')\nfor how in ({{'jobs': 2}}, {{'nproc': 2}}):\n"
        f"    print(alexnet.sweep({given}, {{'lr': [0.05]}}, out=f'sweep-{{[*how][0]}}', **how))\n"
    )
    script = [sys.executable, "script.py"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.split() == ["begun", "sweep-jobs", "sweep-nproc"]


def test_processes_are_started_apart_from_the_program(monkeypatch):
    main = ModuleType("__main__")
    main.__file__, main.__spec__ = "script.py", ModuleSpec("script", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert get_preparation_data("one")["init_main_from_name"] == "script"
    with ranks.apart():
        assert not {"init_main_from_name", "init_main_from_path"} & {*get_preparation_data("one")}
    assert (main.__file__, main.__spec__.name) == ("script.py", "script")


@pytest.mark.slow
def test_a_process_that_is_killed_is_begun_again(folder, tmp_path, monkeypatch):
    """Once: the trial comes to its end. Whenever it starts: a row with its reason."""
    killed = []

    def kill_once():
        for child in active_children():
            killed.append(child.pid)
            child.kill()
            return True
        return False

    for often, status in ((kill_once, "done"), (lambda: kill_once() and None, "failed")):
        killed.clear()
        stop = while_running(often)
        job = Job(
            str(folder), SweepDirectory(tmp_path / status), tuple(plan(ALONE, [{"lr": 0.05}]))
        )
        assert list(workers.in_processes(iter([job]), 1)) == [job]
        stop()
        outcome = result(job.sweep, job.trials[0])
        assert outcome.status == status
        assert len(set(killed)) == (1 if status == "done" else workers.ATTEMPTS)
    assert "its process ended 2 times, with code -9" in outcome.reason


@pytest.mark.slow
def test_ctrl_c_stops_the_processes_and_is_an_interruption(folder, tmp_path):
    def terminate():  # as Ctrl-C does to every process of a terminal
        for child in active_children():
            logs = (tmp_path / "sweep" / "logs").glob("*.log")
            if child.pid and any("epoch" in log.read_text() for log in logs):
                os.kill(child.pid, signal.SIGTERM)
                return True
        return False

    stop = while_running(terminate)
    long = change(ALONE, epochs=5000)
    with pytest.raises(Interrupted, match="stopped") as caught:
        sweep(folder, long, {"lr": [0.05, 0.01]}, out=tmp_path / "sweep", jobs=2)
    stop()
    assert "The same command goes on" in caught.value.hint
    assert not active_children()


# -- Ray


def workers_of_ray():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::_run_on_ray" in path.read_bytes():
                yield int(path.parent.name)
        except OSError:
            pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
def test_a_ray_cluster_gives_the_same_table_even_when_a_worker_is_killed(
    folder, tmp_path, monkeypatch
):
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe = change(ALONE, epochs=40)
    expected = table(sweep(folder, recipe, {"lr": [0.05, 0.0001]}, out=tmp_path / "here"))
    path, killed = tmp_path / "ray", []

    def kill():  # once both have saved a state
        if len(list(path.glob("trials/*/last.safetensors"))) == 2:
            for pid in workers_of_ray():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        return bool(killed)

    stop = while_running(kill)
    sweep(folder, recipe, {"lr": [0.05, 0.0001]}, out=path, ray="local", jobs=2)
    stop()
    assert killed
    assert table(path) == expected
    logs = "".join(log.read_text() for log in (path / "logs").glob("*.log"))
    assert "going on with" in logs  # not from the beginning


@pytest.mark.slow
def test_results_come_back_where_the_directory_is_not_shared(folder, tmp_path, monkeypatch):
    trials = tuple(plan(ALONE, [{"lr": 0.05}]))
    elsewhere = tmp_path / "node"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    job = Job(str(folder), SweepDirectory(tmp_path / "sweep"), trials)
    files = workers._run_on_ray(job, 1, ranks.versions())
    assert not (tmp_path / "sweep" / "trials").exists()
    workers._unpack(job, files)
    there = result(job.sweep, trials[0])
    run_job(replace(job, sweep=SweepDirectory(tmp_path / "own")))
    own = result(SweepDirectory(tmp_path / "own"), trials[0])
    assert there.status == "done"
    assert (there.val_top1, there.val_loss) == (own.val_top1, own.val_loss)


def test_a_node_with_other_versions_is_refused(folder, tmp_path):
    job = Job(str(folder), SweepDirectory(tmp_path / "sweep"), tuple(plan(ALONE, [{"lr": 0.05}])))
    with pytest.raises(InputError, match=r"has torch .* \(here 1\.0\)") as caught:
        workers._run_on_ray(job, 1, ranks.versions() | {"torch": "1.0"})
    assert "Install the same versions" in caught.value.hint
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_what_is_no_fault_of_a_trial_ends_a_sweep_on_ray(folder, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(workers, "versions", lambda: dict.fromkeys(ranks.ALIKE, "1.0"))
    with pytest.raises(InputError, match=r"has alexnet .* \(here 1\.0\)"):
        sweep(folder, ALONE, {"lr": [0.05]}, out=tmp_path / "sweep", ray="local", nproc=2)
    assert not list((tmp_path / "sweep").glob("trials/*/failed*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_nobody_answers_at_the_address(folder, tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"):
        sweep(folder, ALONE, {"lr": [0.05]}, out=tmp_path / "sweep", ray="127.0.0.1:1")


@pytest.mark.parametrize(
    ("module", "flags", "extra"),
    [("ray", ["--ray", "local"], "ray"), ("optuna", ["--search", "tpe"], "search")],
)
def test_what_to_install(module, flags, extra, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    command = ["sweep", str(folder), "--grid", "lr=0.1,0.2", "--out", str(tmp_path / "sweep")]
    assert main([*command, "--image-size", "32", "--crop", "0", *flags]) == 2
    assert f"alexnet[{extra}]" in capsys.readouterr().err


# -- a search that chooses as it goes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Optuna's experimental features
def test_tpe_killed_and_begun_again_goes_the_same_way(folder, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    recipe = change(FROZEN, epochs=1)
    space = parse_space(["lr=0.0001..1", "fc_norm=none,batch", "mean=none,0.5/0.5/0.5"])
    how: dict[str, Any] = {"search": "tpe", "trials": 10}
    whole = sweep(folder, recipe, space, out=tmp_path / "whole", **how)
    rows = table(whole)
    assert len(rows) == len({row["trial"] for row in rows}) == 10
    assert {row["mean"] for row in rows} == {"auto", "(0.5, 0.5, 0.5)"}

    class Killed(BaseException):
        pass

    original, seen = trial_runs.run_job, []

    def run_until(job, *how):
        seen.append(job)
        if len(seen) in (4, 9):
            raise Killed
        original(job, *how)

    monkeypatch.setattr(workers, "run_job", run_until)
    for _ in range(2):
        with pytest.raises(Killed):
            sweep(folder, recipe, space, out=tmp_path / "killed", **how)
    sweep(folder, recipe, space, out=tmp_path / "killed", **how)
    assert table(tmp_path / "killed") == rows
    more = sweep(folder, recipe, space, out=tmp_path / "killed", search="tpe", trials=11)
    assert len(table(more)) == 11


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tpe_takes_seeds_and_passes_over_what_no_recipe_allows(folder, tmp_path):
    pytest.importorskip("optuna")
    space = parse_space(["warmup=0,5", "lr=0.01..0.1"])  # a warmup of 5 of 1 epochs is refused
    path = sweep(
        folder, change(FROZEN, epochs=1), space, out=tmp_path / "s", search="tpe", trials=6, seeds=2
    )
    rows = table(path)
    assert {row["warmup"] for row in rows} == {"0.0"}
    assert sorted({row["seed"] for row in rows}) == ["0", "1"]
    states = [one.state.name for one in open_study(SweepDirectory(path)).get_trials()]
    assert len(states) == 6
    assert set(states) == {"COMPLETE", "FAIL"}
    with pytest.raises(InputError, match="not listed points"):
        sweep(folder, FROZEN, [{"lr": 0.1}], out=tmp_path / "t", search="tpe")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_trial_that_falls_behind_is_given_up(folder, tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna")
    recipe = change(ALONE, epochs=4)
    (tmp_path / "sweep").mkdir()
    tpe = TpeSearch(
        str(folder),
        SweepDirectory(tmp_path / "sweep"),
        recipe,
        parse_space(["lr=0.001..0.1"]),
        1,
        7,
    )
    for _ in range(6):  # as if others had gone before, all of them better
        trial = tpe.study.ask()
        trial.suggest_float("lr", 0.001, 0.1, log=True)
        for epoch in range(1, 5):
            trial.report(1.0 + epoch, epoch)
        tpe.study.tell(trial, 5.0)
    [job] = tpe.jobs()
    run_job(job, judge_of(job))
    tpe.tell(job)
    outcome = result(job.sweep, job.trials[0])
    assert (outcome.status, outcome.epochs) == ("pruned", 2)
    assert "others were better" in outcome.reason
    assert tpe.study.get_trials()[-1].state is optuna.trial.TrialState.PRUNED
    assert judge_of(replace(job, number=-1)) is None


def test_a_judge_is_asked_after_each_epoch(folder, tmp_path):
    asked = []

    def judge(epoch):
        assert isinstance(epoch, Epoch)
        asked.append(epoch.epoch)
        return epoch.epoch == 3

    job = Job(
        str(folder),
        SweepDirectory(tmp_path / "sweep"),
        tuple(plan(change(ALONE, epochs=5), [{"lr": 0.05}])),
    )
    run_job(job, judge)
    assert asked == [1, 2, 3]
    assert not job.missing
    assert len(lines(job.sweep.trial(job.trials[0].name).path)) == 3


def test_a_trial_killed_before_it_was_judged_is_judged_when_it_goes_on(folder, tmp_path):
    class Killed(BaseException):
        pass

    def killed(epoch):
        if epoch.epoch == 2:
            raise Killed
        return False

    sweep = SweepDirectory(tmp_path / "sweep")
    job = Job(str(folder), sweep, tuple(plan(change(ALONE, epochs=4), [{"lr": 0.05}])))
    with pytest.raises(Killed):
        run_job(job, killed)
    run_job(job, lambda epoch: epoch.epoch == 2)
    outcome = result(job.sweep, job.trials[0])
    assert (outcome.status, outcome.epochs) == ("pruned", 2)


# -- studies


@pytest.mark.parametrize("name", STUDIES)
def test_every_point_of_every_study_is_a_recipe(name):
    one = STUDIES[name]
    base = replace(RECIPES[one.recipe].recipe, **one.changes)
    planned = plan(base, one.points or grid_points({**one.grid}), seeds=one.seeds)
    assert len(planned) == max(len(one.points), 12 if one.grid else 0) * one.seeds


@pytest.mark.slow
def test_a_study_is_swept_by_its_name(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("alexnet.sweeping.estimates.MEASURED_SECONDS", 0.05)
    command = ["sweep", str(folder), "--study", "cifar10-ablation", "--fraction", "0.5"]
    command += ["--image-size", "32", "--crop-padding", "0", "--width", "0.1", "--batch-size", "8"]
    assert main([*command, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 30
    assert main([*command, "--dry-run", "--seeds", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert "30 trials in 30 trainings: about" in " ".join(captured.err.split())
    assert main([*command[:2], "--study", "cifar10-ablatio"]) == 2
    assert "Did you mean 'cifar10-ablation'" in capsys.readouterr().err
    assert main([*command, "--recipe", "digits"]) == 2
    assert "Leave out --recipe" in capsys.readouterr().err
    assert main([*command, "--grid", "lr=1,2"]) == 2
    assert "Leave one out" in capsys.readouterr().err
    assert main([*command[:2], "--grid", "lr=1,2", "--search", "tpe", "--dry-run"]) == 2
    assert "none can be listed" in capsys.readouterr().err
    assert study("tiny-image10").data == "tiny-image10"


@pytest.mark.slow
def test_settings_and_scores_are_in_tensorboard(folder, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for number, recipe in enumerate((FROZEN, ALONE)):
        recipe = change(recipe, tensorboard=True)
        path = sweep(folder, recipe, {"lr": [0.05, 0.01]}, out=tmp_path / f"{number}")
        for one in (path / "trials").iterdir():
            events = EventAccumulator(str(one)).Reload()
            figures = json.loads((one / "metrics.json").read_text())
            epochs = (one / "epochs.jsonl").read_text().splitlines()
            assert len(events.Scalars("epoch/val_top1")) == len(epochs)
            assert events.Scalars("sweep/val_top1")[0].value == pytest.approx(figures["top1"])
            told = events.SummaryMetadata("_hparams_/session_start_info").plugin_data
            settings = HParamsPluginData.FromString(told.content).session_start_info.hparams
            assert settings["lr"].number_value in (0.05, 0.01)
            assert list(settings) == ["lr"]  # what was swept


@pytest.mark.slow
def test_optuna_cannot_open_its_file(tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "optuna.db").write_text("not a database, and quite a bit longer than nothing" * 9)
    with pytest.raises(AlexNetError, match="cannot be opened"):
        open_study(SweepDirectory(tmp_path))


# -- trials of several processes


@pytest.mark.slow
def test_several_processes_train_each_trial(folder, tmp_path, monkeypatch, capsys):
    """To the bits that one process gives with as many shards, also where one of them is killed; and
    on a node that does not share the directory."""
    recipe = change(ALONE, epochs=8, shards=2)
    # in processes: after a training on threads this one could not be forked by other tests
    grid = {"lr": [0.05, 0.01]}
    expected = table(sweep(folder, recipe, grid, out=tmp_path / "one", jobs=2))
    out = tmp_path / "here"

    def kill_a_rank():
        states = list(out.glob("trials/*/last.safetensors"))
        children = active_children()
        if states and len(children) == 2:
            children[1].kill()
        return bool(states) and len(children) == 2

    stop = while_running(kill_a_rank)
    said = capsys.readouterr()
    asked = ["sweep", str(folder), "--nproc", "2", "--grid", "lr=0.05,0.01", "--out", str(out)]
    main([*asked, "--config", str(tmp_path / "one" / "trials" / expected[0]["trial"])])
    stop()
    assert table(out) == expected, said
    monkeypatch.chdir(tmp_path)
    [trial] = plan(recipe, [{"lr": 0.05}])
    job = Job(str(folder), SweepDirectory(tmp_path / "elsewhere"), (trial,), nproc=2)
    files = workers._run_on_ray(job, 1, ranks.versions())[trial.name]
    [first] = [one["trial"] for one in expected if one["lr"] == "0.05"]
    weights = out / "trials" / first / "best.safetensors"
    assert files["best.safetensors"] == weights.read_bytes()


def test_what_several_processes_cannot_train(folder, tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="side by side in one process"):
        sweep(folder, FROZEN, {"lr": [0.05]}, out=tmp_path / "heads", nproc=2)
    assert not (tmp_path / "heads").exists()
    nodes = [{"Alive": True, "Resources": {"CPU": cores, "GPU": 1}} for cores in (2, 4)]
    gcs = SimpleNamespace(gcs_address="local")
    ray = SimpleNamespace(
        nodes=lambda: nodes,
        cluster_resources=lambda: {"CPU": 6, "GPU": 2},
        get_runtime_context=lambda: gcs,
        shutdown=lambda: None,
    )
    monkeypatch.setattr(workers, "_connect", lambda *_: ray)
    for count, what in ((5, "CPUs"), (3, "GPUs")):
        with pytest.raises(InputError, match=f"{count} processes wants as many {what} of one node"):
            next(workers.on_ray(iter([]), "local", 0, count))
