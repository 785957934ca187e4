"""From a folder to a run directory and back, on tiny images made here."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
from makers import TINY, change, lines, picture, write_pictures
from PIL import Image

import alexnet
from alexnet import atomic
from alexnet.cli import main
from alexnet.errors import (
    DataError,
    DiskError,
    Interrupted,
    ModelError,
    RecipeError,
    RunError,
    WeightsError,
)
from alexnet.fitting.loop import State
from alexnet.network import checkpoint
from alexnet.network.description import ARCHITECTURES
from alexnet.network.header import Described
from alexnet.network.weights import TORCHVISION
from alexnet.presets import RECIPES, STUDIES
from alexnet.recipes import Recipe, Resolved
from alexnet.runs.evaluation import evaluate_run
from alexnet.runs.network import from_scratch, require_sound
from alexnet.sweeping.trials import study_points
from alexnet.training import run as run_module
from alexnet.training.events import EventFiles
from alexnet.training.run import Clock


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "colours")


@pytest.fixture
def run(folder, tmp_path):
    return alexnet.train(folder, TINY, out=tmp_path / "run")


def test_a_run_directory_holds_all_that_the_design_says(folder, tmp_path):
    run = alexnet.train(folder, change(tensorboard=True, log_every=1), out=tmp_path / "run")
    events = [path for path in run.iterdir() if path.name.startswith("events.out.tfevents")]
    assert {path.name for path in run.iterdir()} - {path.name for path in events} == {
        "recipe.json", "environment.json", "epochs.jsonl", "best.safetensors", "last.safetensors",
        "metrics.json", "predictions.npz", "calibration.npz",
    }  # fmt: skip
    saved = json.loads((run / "recipe.json").read_text())
    assert Recipe.from_dict(saved["asked"]).lr == TINY.lr
    came_to = Resolved.from_dict(saved["recipe"])
    assert (came_to.epochs, came_to.norm, came_to.device) == (2, "batch", "cpu")
    assert "auto" not in saved["recipe"].values()
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert [line["epoch"] for line in lines(run)] == [1, 2]
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["split"] == "test"
    assert figures["n"] == 12
    saved = np.load(run / "predictions.npz")
    assert saved["logits"].shape == (12, 3)
    assert (saved["logits"].argmax(1) == saved["labels"]).mean() == figures["top1"]
    assert all((folder / one).exists() for one in saved["ids"])

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run)).Reload()
    assert len(accumulator.Scalars("epoch/val_top1")) == 2
    steps = accumulator.Scalars("step/train_loss")
    assert len(steps) == 2 * 3
    assert [one.step for one in steps] == list(range(6))


def test_it_learns_colours(folder, tmp_path):
    run = alexnet.train(folder, change(epochs=6), out=tmp_path / "run")
    assert alexnet.load(run).metrics["top1"] > 0.9


def test_the_same_recipe_gives_the_same_bits(folder, tmp_path):
    runs = [alexnet.train(folder, change(average=0.5), out=tmp_path / f"{i}") for i in range(2)]
    first, second = (checkpoint.load_tensors(run / "best.safetensors")[0] for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    predictions = [np.load(run / "predictions.npz")["logits"] for run in runs]
    assert np.array_equal(*predictions)


def test_another_seed_gives_another_split(folder, tmp_path):
    runs = [alexnet.train(folder, change(seed=seed), out=tmp_path / f"{seed}") for seed in (0, 1)]
    ids = [set(np.load(run / "predictions.npz")["ids"].tolist()) for run in runs]
    assert ids[0] != ids[1]


def test_evaluation_repeats_the_figures_of_the_run(run):
    figures = json.loads((run / "metrics.json").read_text())
    again = evaluate_run(run)
    assert {key: again[key] for key in again} == {key: figures[key] for key in again}


def test_evaluation_on_other_data_matches_classes_by_name(run, tmp_path):
    other = write_pictures(tmp_path / "other", per_class=4, classes=["red", "blue"])
    figures = evaluate_run(run, str(other), save=str(tmp_path / "saved.npz"))
    assert figures["split"] == "all"
    assert figures["n"] == 8
    assert set(figures["per_class"]) == {"red", "blue"}
    saved = np.load(tmp_path / "saved.npz")
    assert [str(saved["classes"][label]) for label in saved["labels"]] == ["blue"] * 4 + ["red"] * 4
    (other / "red").rename(other / "crimson")
    with pytest.raises(DataError, match=r"does not know 1 of the 2 classes .*crimson"):
        evaluate_run(run, str(other))


def test_evaluation_of_a_test_folder_alone(run, tmp_path):
    write_pictures(tmp_path / "other" / "test", per_class=4)
    assert evaluate_run(run, str(tmp_path / "other"))["split"] == "test"
    with pytest.raises(DataError, match=r"no val split; the data has test"):
        evaluate_run(run, str(tmp_path / "other"), split="val")


@pytest.mark.parametrize("views", [1, 2])
def test_prediction_equals_evaluation(folder, tmp_path, views):
    run = alexnet.train(folder, change(views=views), out=tmp_path / "run")
    saved = np.load(run / "predictions.npz")
    model = alexnet.load(run)
    p = model.predict_proba([folder / one for one in saved["ids"]])
    expected = torch.softmax(torch.from_numpy(saved["logits"]), 1).numpy()
    assert np.allclose(p, expected, atol=1e-2)  # bf16 products, in batches of other sizes
    assert model.predict(folder / saved["ids"][0]).tolist() == [
        str(model.classes_[saved["logits"][0].argmax()])
    ]


def test_classifier_takes_paths_bytes_images_and_arrays(run, folder):
    model = alexnet.load(run, precision="fp32")
    path = folder / "red" / "3.png"
    image = Image.open(path)
    forms = [str(path), path, path.read_bytes(), image, np.asarray(image)]
    p = model.predict_proba(forms)
    assert p.shape == (5, 3)
    assert p.dtype == np.float32
    assert np.allclose(p.sum(1), 1)
    assert np.allclose(p, p[0], atol=1e-6)  # rows of a product are not summed alike
    assert np.allclose(model.predict_proba(np.asarray(image)), p[0], atol=1e-6)
    assert model.predict_proba([]).shape == (0, 3)
    assert model.classes_.tolist() == ["blue", "green", "red"]
    labels = model.predict(forms)
    assert model.score(forms, labels.tolist()) == 1
    grey = np.full((30, 20), 128, np.uint8)
    assert model.predict_proba([grey]).shape == (1, 3)


def test_classifier_names_what_it_cannot_read(run, tmp_path):
    model = alexnet.load(run)
    (tmp_path / "notes.jpg").write_text("no picture")
    for wrong, message in [
        (tmp_path / "absent.png", "there is no file"),
        (tmp_path / "notes.jpg", "not an image"),
        (tmp_path, "cannot be read"),
        (np.full((4, 4, 3), 7.0), "float64"),
        (np.zeros((4, 4, 4, 4), np.uint8), "array of uint8"),
    ]:
        with pytest.raises(DataError, match=message) as info:
            model.predict([wrong])
        assert info.value.hint


def test_stopping_and_resuming_gives_the_same_run(folder, run, tmp_path, monkeypatch):
    steps = 0
    original = torch.optim.SGD.step

    def step(self, *arguments):
        nonlocal steps
        steps += 1
        if steps == 4:
            os.kill(os.getpid(), 15)  # SIGTERM, as a job scheduler sends it
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(Interrupted, match="stopped in epoch 2 after step 1") as info:
        alexnet.train(folder, TINY, out=tmp_path / "broken")
    assert "alexnet resume" in info.value.hint
    assert not (tmp_path / "broken" / "metrics.json").exists()
    broken = alexnet.train(folder, TINY, out=tmp_path / "broken", resume=True)
    first, second = (checkpoint.load_tensors(r / "best.safetensors")[0] for r in (run, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)
    logits = [np.load(r / "predictions.npz")["logits"] for r in (run, broken)]
    assert np.array_equal(*logits)
    same = ("epoch", "train_loss", "val_loss", "val_top1", "lr", "best")
    assert [[line[key] for key in same] for line in lines(run)] == [
        [line[key] for key in same] for line in lines(broken)
    ]


@pytest.mark.slow
def test_going_on_with_other_threads_is_said_and_noted(folder, tmp_path, monkeypatch, capsys):
    """The order of a sum, and so its last bits, depends on how many threads share it."""
    run = tmp_path / "run"
    alexnet.train(folder, TINY, out=run)
    (run / "metrics.json").unlink()
    alexnet.train(folder, TINY, out=run, resume=True)
    assert "not bit for bit" not in capsys.readouterr().err
    begun = json.loads((run / "environment.json").read_text())
    threads = torch.get_num_threads()
    for now, known in ((threads + 1, 1), (threads + 1, 1), (threads, 2)):
        (run / "metrics.json").unlink()
        monkeypatch.setattr(torch, "get_num_threads", lambda now=now: now)
        alexnet.train(folder, TINY, out=run, resume=True)
        said = capsys.readouterr().err
        noted = json.loads((run / "environment.json").read_text())
        assert [one["threads"] for one in noted["went_on"]] == [threads + 1, threads][:known]
        assert noted | {"went_on": []} == begun | {"went_on": []}
    assert f"threads: {threads + 1} there, {threads} now" in " ".join(said.split())


def test_resuming_a_finished_run_changes_nothing(folder, run):
    before = (run / "best.safetensors").read_bytes()
    assert alexnet.train(folder, TINY, out=run, resume=True) == run
    assert (run / "best.safetensors").read_bytes() == before
    assert len(lines(run)) == 2


@pytest.mark.parametrize("there", [(), (".recipe.json.00000000.json",), ("recipe.json",)])
def test_a_run_killed_before_its_second_file_is_taken_up(there, folder, run, tmp_path):
    early = tmp_path / "early"
    early.mkdir()
    for name in there:
        (early / name).write_text("half of it")
    assert alexnet.train(folder, TINY, out=early, resume=True) == early
    assert {path.name for path in early.iterdir()} == {path.name for path in run.iterdir()}
    assert (early / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()


class Killed(BaseException):
    """As if the program ended here."""


@pytest.mark.slow
def test_tensorboard_shows_each_epoch_once_whenever_a_run_goes_on(folder, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def shown(run):
        events = EventAccumulator(str(run)).Reload()
        names = ("epoch/val_loss", "step/train_loss")
        return [[(one.step, one.value) for one in events.Scalars(name)] for name in names]

    monkeypatch.setattr(run_module, "SAVED_AFTER", 0.0)
    recipe = change(tensorboard=True, log_every=1, epochs=4)
    whole = shown(alexnet.train(folder, recipe, out=tmp_path / "whole"))
    assert [step for step, _ in whole[0]] == [2, 5, 8, 11]  # 3 steps in an epoch
    original = State.save
    for epoch in (1, 2, 4):
        for saved in (False, True):  # killed before the state is saved, or after

            def save(state, path, epoch=epoch, saved=saved):
                if len(state.history) < epoch or saved:
                    original(state, path)
                if len(state.history) == epoch:
                    raise Killed

            run = tmp_path / f"{epoch}{saved}"
            monkeypatch.setattr(State, "save", save)
            with pytest.raises(Killed):
                alexnet.train(folder, recipe, out=run)
            monkeypatch.setattr(State, "save", original)
            alexnet.train(folder, recipe, out=run, resume=True)
            assert shown(run) == whole, (epoch, saved)


@pytest.mark.slow
def test_epochs_that_take_no_time_are_saved_once_a_second(folder, tmp_path, monkeypatch):
    """Flushing files to the disk would take longer than the epochs. The last one is saved anyhow;
    a run that was killed goes on from the last state, to the same end."""
    saved, original = [], State.save

    def save(state, path):
        saved.append(len(state.history))
        original(state, path)

    monkeypatch.setattr(State, "save", save)
    monkeypatch.setattr(run_module, "SAVED_AFTER", 1000.0)
    recipe = change(epochs=5)
    whole = alexnet.train(folder, recipe, out=tmp_path / "whole")
    assert saved == [1, 5] and len(lines(whole)) == 5
    saved.clear()
    impatient = alexnet.train(folder, change(epochs=9, lr=1e-9, patience=2), out=tmp_path / "p")
    assert saved == [1, len(lines(impatient))] and saved[1] < 9

    def dies(epoch, *_):
        if epoch.epoch == 4:
            raise Killed
        return ""

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_module, "epoch_line", dies)
        alexnet.train(folder, recipe, out=tmp_path / "killed")
    assert len(lines(tmp_path / "killed")) == 1
    again = alexnet.train(folder, recipe, out=tmp_path / "killed", resume=True)
    weights = [(run / "best.safetensors").read_bytes() for run in (whole, again)]
    assert weights[0] == weights[1] and len(lines(again)) == 5


def test_tensorboard_reads_event_files_in_the_order_they_were_written(tmp_path):
    written = []
    for _ in range(12):  # in one second, and over a power of ten
        with EventFiles(tmp_path):
            written += sorted({path.name for path in tmp_path.iterdir()} - set(written))
    assert written == sorted(written)


@pytest.mark.slow
def test_killed_at_any_moment_everything_comes_to_the_same_end():
    from long.kills import kill

    kills = kill(3, seed=0, names=["packing", "training", "a sweep of heads"])
    assert kills.kills.total() == 3


def test_resuming_with_another_recipe_or_data_is_refused(folder, run):
    with pytest.raises(RunError, match=r"another recipe \(lr: 0.05 there, 0.1 now\)"):
        alexnet.train(folder, change(lr=0.1), out=run, resume=True)
    picture("red", 99).save(folder / "red" / "new.png")
    with pytest.raises(RunError, match="trained on other data: fingerprint"):
        alexnet.train(folder, TINY, out=run, resume=True)
    with pytest.raises(RunError, match="which run"):
        alexnet.train(folder, TINY, resume=True)
    with pytest.raises(RunError, match="is not a run directory"):
        alexnet.train(folder, TINY, out=folder, resume=True)


def test_a_folder_that_holds_something_is_not_written_to(folder, run):
    with pytest.raises(RunError, match="holds another run"):
        alexnet.train(folder, TINY, out=run)
    with pytest.raises(RunError, match="holds other files"):
        alexnet.train(folder, TINY, out=folder)


def test_what_a_killed_command_left_is_no_file_of_somebody(folder, tmp_path):
    """Killed before its first rename: the same command begins again."""
    path = tmp_path / "run"
    path.mkdir()
    left = path / ".recipe.json.abcd1234.json"
    left.write_bytes(b"half")
    words = ["train", str(folder), "--recipe", "scratch", "--out", str(path), "--epochs", "1"]
    assert main([*words, "--width", "0.1", "--image-size", "64", "--no-report"]) == 0
    assert (path / "recipe.json").exists() and not left.exists()


@pytest.mark.slow
def test_without_a_name_each_run_gets_the_next_free_one(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = alexnet.train(folder, TINY), alexnet.train(folder, TINY)
    digest = json.loads((first / "recipe.json").read_text())["digest"]  # of what it came to
    assert str(first) == f"runs/colours-{digest}"
    assert str(second) == f"runs/colours-{digest}-2"


def test_early_stopping(folder, tmp_path, capsys):
    recipe = change(epochs=30, patience=2, lr=1e-9, schedule="constant")
    run = alexnet.train(folder, recipe, out=tmp_path / "run")
    best = max(line["epoch"] for line in lines(run) if line["best"])
    assert len(lines(run)) == best + 2
    assert "stopped early" in capsys.readouterr().err
    assert alexnet.train(folder, recipe, out=run, resume=True) == run
    assert len(lines(run)) == best + 2


def test_best_weights_are_those_of_the_best_epoch(folder, tmp_path):
    run = alexnet.train(folder, change(epochs=4), out=tmp_path / "run")
    figures = json.loads((run / "metrics.json").read_text())
    val = evaluate_run(run, split="val")
    best = next(line for line in reversed(lines(run)) if line["best"])
    assert figures["best_epoch"] == best["epoch"]
    assert val["top1"] == pytest.approx(best["val_top1"])


def test_starting_from_the_weights_of_a_run(folder, run, tmp_path):
    recipe = change(weights=str(run), epochs=0)
    copy = alexnet.train(folder, recipe, out=tmp_path / "copy")
    assert np.array_equal(
        np.load(run / "predictions.npz")["logits"], np.load(copy / "predictions.npz")["logits"]
    )
    alexnet.train(
        folder, change(weights=str(run / "best.safetensors"), epochs=1), out=tmp_path / "2"
    )
    with pytest.raises(WeightsError, match=r"features.0.weight is \(8, 3, 3, 3\), expected"):
        alexnet.train(folder, change(recipe, width=0.25), out=tmp_path / "3")
    (folder / "red").rename(folder / "crimson")
    with pytest.raises(RecipeError, match=r"classifier\.1 would start fresh"):
        alexnet.train(folder, recipe, out=tmp_path / "4")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), WeightsError, "cannot be read"),
        (lambda path: path.write_bytes(b""), WeightsError, "cannot be read"),
        (lambda path: path.unlink(), RunError, "was not finished"),
        (lambda path: shutil.rmtree(path.parent), RunError, "there is nothing at"),
        (
            lambda path: checkpoint.save_tensors(path, {"a": torch.zeros(1)}, {}),
            WeightsError,
            "holds no network",
        ),
        (
            lambda path: path.write_bytes(
                path.read_bytes().replace(b'\\"version\\": 2', b'\\"version\\": 9')
            ),
            WeightsError,
            "is of version 9",
        ),
    ],
)  # fmt: skip
def test_damaged_weights(run, damage, error, message):
    damage(run / "best.safetensors")
    with pytest.raises(error, match=message) as info:
        alexnet.load(run)
    assert info.value.hint


def test_weights_of_another_program_are_told_apart(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "theirs.safetensors")
    with pytest.raises(WeightsError, match="was not written by alexnet"):
        alexnet.load(tmp_path / "theirs.safetensors")


def test_a_full_disk_keeps_the_last_good_state(folder, tmp_path, monkeypatch):
    original = atomic.replacing
    saves = 0

    def replacing(path):
        nonlocal saves
        saves += path.name == "last.safetensors"
        if saves == 2:
            raise DiskError("no space left on the disk") from OSError(errno.ENOSPC, "full")
        return original(path)

    monkeypatch.setattr(checkpoint, "replacing", replacing)
    with pytest.raises(DiskError):
        alexnet.train(folder, TINY, out=tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    assert len(checkpoint.load_tensors(tmp_path / "run" / "last.safetensors")[1]["history"]) == 1
    run = alexnet.train(folder, TINY, out=tmp_path / "run", resume=True)
    assert len(lines(run)) == 2


def test_data_with_a_validation_split_and_no_test_says_so(tmp_path, capsys):
    write_pictures(tmp_path / "data" / "train", per_class=8)
    write_pictures(tmp_path / "data" / "val", per_class=4)
    run = alexnet.train(tmp_path / "data", TINY, out=tmp_path / "run")
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["split"] == "val"
    assert figures["chose_epoch_on_it"]
    assert "a little too good" in capsys.readouterr().err


def test_a_network_that_cannot_take_the_images_is_refused_first(folder, tmp_path):
    with pytest.raises(ModelError, match="16 px are too small for the 2014 network"):
        alexnet.train(folder, change(model="2014"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_size_of_which_another_network_would_come_is_refused_unless_asked_for(tmp_path):
    asked = Recipe().replace(model="2012", image_size=256, crop=224)
    with pytest.raises(ModelError, match="maps of 5x5, which would be blended to the 6x6") as info:
        alexnet.train("digits", asked, out=tmp_path / "run")
    assert "Use --crop 227" in info.value.hint
    assert not [*tmp_path.iterdir()]
    for fine in ({"map_side": 5}, {"map_side": 6}, {"crop": 227}, {"image_size": 150, "crop": 150}):
        require_sound(asked.replace(**fine))
    with pytest.raises(RecipeError, match="made for pixels of 0 to 255"):
        require_sound(asked.replace(crop=227, init="paper"))
    require_sound(asked.replace(crop=227, init="paper", norm="batch"))


@pytest.mark.parametrize("name", sorted({*RECIPES, *STUDIES}))
def test_every_preset_and_study_goes_together(name, tmp_path, monkeypatch):
    official = Described(ARCHITECTURES["2014"], [], [], TORCHVISION)
    monkeypatch.setattr("alexnet.runs.network.described_weights", lambda _: official)
    recipes = [RECIPES[name].recipe] if name in RECIPES else []
    if name in STUDIES:
        base = STUDIES[name].base
        recipes += [base.replace(**point) for point in study_points(STUDIES[name])]
    for recipe in recipes:
        require_sound(from_scratch(recipe)[0] if recipe.weights == "auto" else recipe)


@pytest.mark.parametrize("device", ["cuda:77", "mps", "toaster", "meta"])
def test_a_device_that_is_not_there(folder, tmp_path, device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(RecipeError, match=device) as info:
        alexnet.train(folder, change(device=device), out=tmp_path / "run")
    assert "--device auto" in info.value.hint


def test_every_training_option_runs(folder, tmp_path):
    recipe = change(
        epochs=1, image_size=36, crop=32, crop_padding=2, crop_area=0.5, jitter=0.2, lighting=0.1,
        erase=0.25, optimizer="adamw", lr=1e-3, schedule="cosine", warmup=0.5, loss="bce",
        label_smoothing=0.1, clip=1.0, average=0.9, precision="fp32", fraction=0.5, norm="lrn",
        pool="overlapping", activation="tanh", init="paper", mean="image", std=(1 / 255,) * 3,
        decay_all=True,
    )  # fmt: skip
    run = alexnet.train(folder, recipe, out=tmp_path / "run")
    assert json.loads((run / "metrics.json").read_text())["n"] == 12
    assert evaluate_run(run)["n"] == 12


def test_deterministic_is_accepted_on_a_cpu(folder, tmp_path):
    try:
        alexnet.train(folder, change(epochs=1, deterministic=True), out=tmp_path / "run")
    finally:
        torch.use_deterministic_algorithms(False)


# -- the report at the end


@pytest.mark.slow
def test_a_run_ends_with_its_report(tmp_path, capsys):
    folder = write_pictures(tmp_path / "colours")
    run = alexnet.train(folder, change(TINY, report=True, epochs=2), out=tmp_path / "run")
    figures = json.loads((run / "metrics.json").read_text())
    page = (run / "report.html").read_text()
    assert f"{100 * figures['top1']:.2f}" in page
    assert figures["temperature"] > 0
    state = json.loads((run / "data.json").read_text())
    assert sum(one["test"] for one in state["classes"].values()) == figures["n"]
    assert len(json.loads((run / "illustrations.json").read_text())["samples"]) == figures["n"]
    epochs = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    assert all(one["peak_memory"] > 2**20 for one in epochs)

    for name in ("report.html", "data.json", "illustrations.json"):
        (run / name).unlink()
    assert main(["report", str(run), "--pictures"]) == 0
    assert (run / "report.html").read_text() == page
    shutil.rmtree(folder)  # without its data it still is a report
    assert main(["report", str(run), "--pictures"]) == 0
    assert "the report is without pictures" in " ".join(capsys.readouterr().err.split())
    assert main(["report", str(tmp_path), "--pictures"]) == 2


def test_what_is_left_is_foretold_by_usual_epochs():
    clock = Clock()
    clock.plan(5, 2.0)
    clock.plan(2, 10.0)
    assert clock.left == 30
    for seconds, left in ((3, 32), (3, 29), (900, 26), (3, 23), (4, 20), (11, 11), (12, 0)):
        clock.tell(seconds)  # one of them slept through
        assert clock.left == left


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"norm": "none", "fc_norm": "batch"}])
def test_a_batch_of_one_image_cannot_be_normalised(size, changes, folder, tmp_path):
    base = change(TINY, batch_size=size, val_size=0.2, epochs=1, **changes)  # an odd number remains
    with pytest.raises(RecipeError, match=f"batch_size is {size}, and of 39 .* a single one"):
        alexnet.train(folder, base, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_where_maps_are_larger_it_can(folder, tmp_path):
    for name, recipe in {
        "maps of 2x2": change(TINY, image_size=64, batch_size=1, epochs=1),
        "none": change(TINY, norm="none", batch_size=1, epochs=1, lr=0.0001),
        "three": change(TINY, batch_size=3, epochs=1),
    }.items():
        alexnet.train(folder, recipe, out=tmp_path / name)
