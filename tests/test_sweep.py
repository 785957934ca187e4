"""Sweeps: every trial once, whatever happens; and honest words about what came out."""

import json
import os
import re
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from makers import FROZEN, MADE_FOR, SMALL, change, network_of, table, write_pictures

import alexnet
from alexnet.cli import main
from alexnet.errors import InputError, Interrupted, RecipeError, RunError
from alexnet.network.weight_names import weights_folder
from alexnet.recipes import Recipe
from alexnet.runs.configs import asked_for
from alexnet.runs.directory import RunDirectory
from alexnet.runs.evaluation import evaluate_run
from alexnet.scoring.significance import TrainingNoise, difference
from alexnet.sweeping import results, sweep, trial_runs, trials
from alexnet.sweeping.trials import (
    Range,
    Space,
    grid_points,
    parse_space,
    plan,
    random_points,
    space_of,
    stacks,
)

GRID: Space = {"lr": [0.05, 0.0001], "momentum": [0.9, 0.0]}


@pytest.fixture
def folder(tmp_path):
    network_of(weights_folder() / "made.safetensors", SMALL, 5, MADE_FOR)
    return write_pictures(tmp_path / "colours")


# -- what is swept


def test_a_grid_is_read_with_the_fields_types():
    grid = parse_space(
        ["lr=1e-4,0.1", "flip=true,false", "mean=none,0.5/0.5/0.5", "model=2012,2014"]
    )
    assert grid["lr"] == [1e-4, 0.1]
    assert grid["flip"] == [True, False]
    assert grid["mean"] == [None, (0.5, 0.5, 0.5)]
    [first, *others] = plan(Recipe(), grid_points({"model": grid["model"], "batch_size": [8]}))
    assert first.recipe.model == "2012"
    [none, batch] = plan(Recipe(), grid_points(parse_space(["norm=none,batch"])))
    assert (none.recipe.norm, batch.recipe.norm) == ("none", "batch")
    assert first.settings == {"model": "2012", "batch_size": 8}
    assert len(others) == 1


@pytest.mark.parametrize(
    ("texts", "message", "hint"),
    [
        (["rate=1,2"], "no recipe field 'rate'", "Known|Did you mean"),
        (["momentun=1,2"], "no recipe field 'momentun'", "Did you mean 'momentum'"),
        (["lr"], "has no values", "--grid lr="),
        (["lr="], "has no values", "--grid lr="),
        (["lr=1,1"], "same value twice", "Leave one out"),
        (["lr=1", "lr=2"], "twice", "into one"),
        (["lr=fast,0.1"], "lr is 'fast'", ""),
        (["lr=-1"], "lr is -1", ""),
        (["epochs=1.5"], "epochs is 1.5", ""),
        ([], "nothing to sweep", "lr=0.1"),
        (["lr=0.1,0.2", "seed=1,2,3"], "the grid has 6 points", "--max-trials 6"),
    ],
)
def test_grids_that_cannot_be_swept(texts, message, hint):
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        plan(Recipe(), grid_points(parse_space(texts)), max_trials=5)
    assert re.search(hint, caught.value.hint)


def test_ranges():
    space = parse_space(["lr=0.001..0.1", "batch_size=8..64", "dropout=0..0.5", "pool=max,average"])
    assert space["lr"] == Range(0.001, 0.1)
    assert (space["lr"].log, space["lr"].whole) == (True, False)
    assert (space["batch_size"].log, space["batch_size"].whole) == (False, True)
    points = random_points(space, 200, seed=0)
    assert len(plan(Recipe(), points)) == 200  # every one is a recipe
    rates = np.array([point["lr"] for point in points])
    assert ((rates >= 0.001) & (rates <= 0.1)).all()
    assert 0.35 < (rates < 0.01).mean() < 0.65  # evenly on a logarithmic scale
    assert {point["pool"] for point in points} == {"max", "average"}
    with pytest.raises(RecipeError, match=r"lr is a range, 0\.001\.\.0\.1"):
        grid_points(space)
    for wrong in ("lr=0.1..0.001", "lr=..1", "lr=a..b", "lr=1..1"):
        with pytest.raises(RecipeError, match="a smaller and a larger number"):
            parse_space([wrong])


def test_seeds_and_random_points():
    planned = plan(Recipe(seed=4), grid_points(GRID), seeds=3)
    assert len(planned) == 12
    assert [one.settings["seed"] for one in planned[:3]] == [4, 5, 6]
    many: Space = {"lr": [0.1 * k for k in range(1, 50)]}
    some = random_points(many, 5, seed=0)
    assert len({point["lr"] for point in some}) == 5
    assert some == random_points(many, 5, seed=0) != random_points(many, 5, seed=1)
    assert len(random_points(many, 100, seed=0)) == 49
    assert len({one.name for one in planned}) == 12
    with pytest.raises(RecipeError, match="seed is in the grid"):
        plan(Recipe(), [{"seed": 1}], seeds=2)


def test_only_heads_on_cached_features_train_side_by_side():
    def sizes(grid, recipe=FROZEN, **options):
        return [len(group) for group in stacks(plan(recipe, grid_points(grid), **options))]

    assert sizes(GRID) == [4]
    assert sizes(GRID | {"batch_size": [8, 16]}) == [4, 4]
    assert sizes(GRID, seeds=2) == [4, 4]
    assert sizes(GRID, change(FROZEN, cache=False)) == [1] * 4
    assert sizes(GRID, change(FROZEN, freeze="none")) == [1] * 4
    assert sizes(GRID, change(FROZEN, finetune_epochs=1)) == [1] * 4
    assert sizes(GRID, change(FROZEN, average=0.9)) == [1] * 4
    assert sizes(GRID, change(FROZEN, optimizer="muon")) == [1] * 4
    assert sizes({"freeze": ["conv", "all-but-last"], "schedule": ["constant", "cosine"]}) == [2, 2]


# -- running it


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 2])
def test_stacked_trials_are_what_each_trial_is_alone(views, folder, tmp_path):
    recipe = change(FROZEN, views=views)
    path = sweep.sweep(folder, recipe, GRID, out=tmp_path / "sweep")
    for trial in plan(recipe, grid_points(GRID)):
        stacked = path / "trials" / trial.name
        alone = alexnet.train(folder, trial.recipe, out=tmp_path / trial.name, split="val")
        files = {file.name for file in alone.iterdir()} - {"last.safetensors"}
        assert {file.name for file in stacked.iterdir()} - {"test.json"} == files
        one, other = (np.load(run / "predictions.npz")["logits"] for run in (stacked, alone))
        assert np.allclose(one, other, atol=1e-3)
        first, second = (
            [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
            for run in (stacked, alone)
        )
        for ours, theirs in zip(first, second, strict=True):
            assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-3)
            assert (ours["val_top1"], ours["best"]) == (theirs["val_top1"], theirs["best"])
        assert json.loads((stacked / "recipe.json").read_text()) == json.loads(
            (alone / "recipe.json").read_text()
        )
        model = alexnet.load(stacked)
        assert model.predict([folder / "red" / "0.png"]).shape == (1,)
    [best] = json.loads((path / "summary.json").read_text())["winner_trials"]
    assert (
        asked_for(str(folder), config=path) == RunDirectory(path / "trials" / best).settings.asked
    )
    (path / "best.json").unlink()
    with pytest.raises(RecipeError, match="has not chosen a best trial"):
        asked_for(str(folder), config=path)


@pytest.mark.slow
def test_validation_chooses_and_the_test_split_is_looked_at_once(folder, tmp_path, monkeypatch):
    looked = []
    original = evaluate_run

    def evaluate(run, **options):
        looked.append((run.name, options["split"]))
        return original(run, **options)

    monkeypatch.setattr(results, "evaluate_run", evaluate)
    path = sweep.sweep(folder, FROZEN, GRID, out=tmp_path / "sweep")
    summary = json.loads((path / "summary.json").read_text())
    assert looked == [(summary["winner_trials"][0], "test")]
    assert summary["winner"]["lr"] == 0.05
    assert summary["test"][0]["n"] == 12
    for row in table(path):
        figures = json.loads((path / "trials" / row["trial"] / "metrics.json").read_text())
        assert figures["split"] == "val"
    sweep.sweep(folder, FROZEN, GRID, out=path)
    assert len(looked) == 1  # and not a second time


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stacked", "alone"])
def test_killed_at_any_moment_it_ends_the_same(kind, folder, tmp_path, monkeypatch):
    recipe = FROZEN if kind == "stacked" else change(FROZEN, freeze="none", epochs=1)
    whole = sweep.sweep(folder, recipe, GRID, out=tmp_path / "whole")
    expected = table(whole)

    class Killed(BaseException):
        pass

    original = os.replace
    for moment in range(1, 40, 6):
        path, writes, done = tmp_path / f"killed{moment}", [], False

        def replace(*names, writes=writes, moment=moment):
            writes.append(1)
            if len(writes) == moment:
                raise Killed
            original(*names)

        for _ in range(3):
            monkeypatch.setattr(os, "replace", replace)
            try:
                sweep.sweep(folder, recipe, GRID, out=path)
                done = True
                break
            except Killed:
                pass
        monkeypatch.setattr(os, "replace", original)
        assert done
        assert table(path) == expected
        shutil.rmtree(path)


@pytest.mark.slow
def test_what_a_killed_sweep_left_is_taken_over_or_removed(folder, tmp_path, monkeypatch):
    """Of its definition, of a trial, and of the state of trials that had all come to an end."""

    class Killed(BaseException):
        pass

    path = tmp_path / "sweep"
    path.mkdir()
    (path / ".sweep.json.00000000.json").write_text("half")
    write_stack = trial_runs.write_stack

    def killed_first(directory, *given):
        (directory.path / ".metrics.json.00000000.json").write_text("half")
        raise Killed

    def killed_after(*given):
        write_stack(*given)
        raise Killed

    for owner, name, killed in (
        (RunDirectory, "write_figures", killed_first), (trial_runs, "write_stack", killed_after)
    ):  # fmt: skip
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(owner, name, killed)
            sweep.sweep(folder, FROZEN, GRID, out=path)
    assert list((path / "stacks").iterdir())
    sweep.sweep(folder, FROZEN, GRID, out=path)
    whole = sweep.sweep(folder, FROZEN, GRID, out=tmp_path / "whole")
    names = [{one.relative_to(each) for one in each.rglob("*")} for each in (path, whole)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_nothing_runs_twice(folder, tmp_path, monkeypatch):
    path = sweep.sweep(folder, FROZEN, GRID, out=tmp_path / "sweep")
    monkeypatch.setattr(trial_runs, "run_stack", None)
    monkeypatch.setattr(trial_runs, "run_alone", None)
    assert sweep.sweep(folder, FROZEN, GRID, out=path) == path


def test_ctrl_c_says_how_to_go_on(folder, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise Interrupted("stopped.", "--resume")

    monkeypatch.setattr(trial_runs, "set_up", interrupted)
    with pytest.raises(Interrupted, match="stopped") as caught:
        sweep.sweep(folder, change(FROZEN, freeze="none"), GRID, out=tmp_path / "sweep")
    assert "The same command goes on" in caught.value.hint


@pytest.mark.slow
def test_a_failed_trial_is_a_row_and_stops_nothing(folder, tmp_path, capsys):
    for number, recipe in enumerate([FROZEN, change(FROZEN, freeze="none", epochs=1)]):
        grid: Space = {"lr": [0.05, 1e18]}
        path = sweep.sweep(folder, recipe, grid, out=tmp_path / f"{number}")
        rows = table(path)
        assert [row["status"] for row in rows] == ["done", "failed"]
        assert "no longer a number" in rows[1]["reason"]
        assert json.loads((path / "summary.json").read_text())["failed"] == 1
    with pytest.raises(RunError, match="no trial came to an end"):
        sweep.sweep(folder, FROZEN, {"lr": [1e17, 1e18]}, out=tmp_path / "all")


@pytest.mark.slow
def test_another_sweep_or_other_data_are_refused(folder, tmp_path):
    path = sweep.sweep(folder, FROZEN, {"lr": [0.05, 0.01]}, out=tmp_path / "sweep")
    with pytest.raises(RunError, match=r"another sweep \(grid: .*0.02"):
        sweep.sweep(folder, FROZEN, {"lr": [0.05, 0.02]}, out=path)
    with pytest.raises(RunError, match="epochs: 2 there, 3 now"):
        sweep.sweep(folder, change(FROZEN, epochs=3), {"lr": [0.05, 0.01]}, out=path)
    (folder / "red" / "0.png").unlink()
    with pytest.raises(RunError, match=r"another sweep \(fingerprint: "):
        sweep.sweep(folder, FROZEN, {"lr": [0.05, 0.01]}, out=path)
    with pytest.raises(RunError, match="other files"):
        sweep.sweep(folder, FROZEN, {"lr": [0.05, 0.01]}, out=folder)


# -- what came out


def configuration(settings, right, of=100):
    """One that gets the first `right` images right."""
    one: Any  # stands for a Result
    hits = np.arange(of) < right
    predictions = SimpleNamespace(logits=hits.astype(np.float32))
    one = SimpleNamespace(hits=hits, predictions=predictions)
    return results.Configuration(settings, [one], right / of)


def test_one_change_at_a_time_is_compared_with_where_it_began():
    """Of the first field, value 1 also stands in a configuration that another change ruined."""
    found = [
        configuration({"a": 1, "b": 1}, 80),
        configuration({"a": 2, "b": 1}, 70),
        configuration({"a": 1, "b": 2}, 10),
    ]
    effects = results.effects(found)
    assert (effects["a"]["best"], effects["a"]["worst"]) == (1, 2)
    assert effects["a"]["difference"] == pytest.approx(0.1)
    assert effects["a"]["values"]["1"] == {"mean": 0.8, "scores": [0.8], "behind": None}
    assert effects["b"]["difference"] == pytest.approx(0.7)
    assert effects["b"]["verdict"] == "matters"


def test_the_values_of_a_grid_are_compared_at_once():
    scores = {(1, 1): 60, (1, 2): 70, (2, 1): 64, (2, 2): 74, (3, 1): 61, (3, 2): 71}
    found = [configuration({"a": a, "b": b}, right) for (a, b), right in scores.items()]
    effect = results.effects(found)["a"]
    assert (effect["best"], effect["worst"]) == (2, 1)
    assert effect["values"]["3"]["mean"] == pytest.approx(0.66)
    good, bad = (np.stack([found[place].hits[0] for place in pair]) for pair in ((2, 3), (0, 1)))
    # three values of one of two fields
    expected = difference(good, bad, TrainingNoise(), values=3, level=1 - 0.05 / 2)
    assert effect["interval"] == pytest.approx([expected.low, expected.high])
    assert effect["values"]["1"]["behind"] == pytest.approx([0.04, *effect["interval"]])


def test_what_only_the_machine_changed_does_not_matter_after_one_seed():
    settings = [{"precision": "fp32"}, {"precision": "bf16"}]
    found = [configuration(one, right) for one, right in zip(settings, (90, 50), strict=True)]
    assert results.effects(found)["precision"]["verdict"] == "not told from noise"
    found = [configuration({"lr": one}, right) for one, right in ((0.1, 90), (0.2, 50))]
    assert results.effects(found)["lr"]["verdict"] == "matters"


def test_what_nothing_can_be_compared_with_says_nothing():
    found = [configuration({"a": 0.1, "b": 1}, 50), configuration({"a": 0.2, "b": 2}, 60)]
    assert results.effects(found) == {}


@pytest.mark.slow
def test_a_field_without_effect_is_told(folder, tmp_path, capsys):
    """What would have caught a schedule that never decays."""
    # listed points, as of a study: a grid of them is refused
    grid = [{"lr": lr, "gamma": gamma} for lr in (0.2, 1e-9) for gamma in (0.1, 0.01)]
    recipe = change(FROZEN, schedule="constant", epochs=6, val_size=0.5)
    sweep.sweep(folder, recipe, grid, out=tmp_path / "sweep")
    said = " ".join(capsys.readouterr().err.split())
    assert "gamma: NO EFFECT AT ALL" in said
    assert re.search(r"lr: 0.2 instead of 1e-09 brings \+\S+ \([^)]*\) on these images", said)
    assert "on these images; another training may differ by more" in said
    effects = json.loads((tmp_path / "sweep" / "summary.json").read_text())["effects"]
    assert effects["gamma"]["verdict"] == "none at all"
    assert effects["lr"]["verdict"] == "matters"
    sweep.sweep(folder, change(FROZEN, schedule="step", step_size=1), grid, out=tmp_path / "2")
    effects = json.loads((tmp_path / "2" / "summary.json").read_text())["effects"]
    assert effects["gamma"]["verdict"] != "none at all"


@pytest.mark.slow
def test_seeds_give_a_mean_and_a_spread(folder, tmp_path, capsys):
    path = sweep.sweep(folder, FROZEN, {"lr": [0.05, 0.04]}, seeds=3, out=tmp_path / "sweep")
    summary = json.loads((path / "summary.json").read_text())
    assert summary["seeds"] == 3
    assert len(summary["test"]) == 3
    scores = [
        [float(r["val_top1"]) for r in table(path) if r["lr"] == lr] for lr in ("0.05", "0.04")
    ]
    pooled = np.sqrt(np.mean([np.var(one, ddof=1) for one in scores]))
    assert summary["seed_deviation"] == pytest.approx(pooled, abs=1e-5)
    assert [row["tied"] for row in summary["configurations"]] == [True, True]
    said = " ".join(capsys.readouterr().err.split())
    assert "mean of 3 seeds" in said
    assert f"another seed moves the accuracy by {100 * pooled:.2f} points" in said
    assert "1 of the other 1 cannot be told apart from it" in said
    assert len(table(path)) == 6


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"grid": {"lr": 0.1}}, "lr is 0.1, expected its values in a list"),
        ({"grid": {"lr": []}}, "lr has no values"),
        ({"grid": 3}, "3 is no point of a grid"),
        ({"grid": ["lr=0.1,0.2"]}, "'lr=0.1,0.2' is no point of a grid"),
        ({"grid": [{"lrr": 3}]}, "Did you mean 'lr'"),
        ({"grid": {"lr": [0.1]}, "seeds": -1}, "seeds is -1, expected at least 1"),
        ({"grid": {"lr": [0.1]}, "jobs": 0}, "jobs is 0, expected at least 1"),
        ({"grid": {"lr": [0.1]}, "jobs": "2"}, "jobs is '2', expected a whole number"),
        ({"grid": {"lr": [0.1]}, "study": "tiny-image10"}, "study and grid both say"),
        ({"grid": {"lr": [0.1]}, "random": -1}, "random is -1, expected at least 0"),
    ],
)
def test_what_python_cannot_sweep_is_said(given, says, folder):
    with pytest.raises(InputError, match=re.escape(says)):
        alexnet.sweep(folder, FROZEN, **given)


def test_numbers_of_numpy_are_values():
    space = space_of({"lr": np.logspace(-2, -1, 2), "batch_size": np.array([32, 64])})
    assert space == {"lr": [0.01, 0.1], "batch_size": [32, 64]}
    assert {type(one) for values in space.values() for one in values} == {float, int}


# -- the command


@pytest.mark.slow
def test_the_command(folder, tmp_path, capsys):
    command = ["sweep", str(folder), "--recipe", "finetune", "--weights", "made", "--grid"]
    command += ["lr=0.01,0.001", "--grid", "warmup=0.1,0.2", "--batch-size", "16", "--epochs", "1"]
    command += ["--finetune-epochs", "0", "--no-tensorboard", "--out", str(tmp_path / "sweep")]
    assert main([*command, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4
    said = " ".join(captured.err.split())
    assert re.search(r"4 trials in 1 trainings: 4 of them train side by side, about \d+ s", said)
    assert re.search(r"with one seed, 4 settings and \d+ validation images, a gap of \d", said)
    assert "on these images; another training may differ by more --seeds 3 would show" in said
    assert not (tmp_path / "sweep").exists()
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "sweep")
    assert "best on validation: lr=" in captured.err
    assert main([*command[:6], "--grid", "rl=1,2"]) == 2
    assert "no recipe field 'rl'" in capsys.readouterr().err
    assert trials.told({"lr": 0.001, "norm": "lrn"}) == "lr=0.001, norm=lrn"
