"""From pretrained weights to a run: what is frozen, cached, trained, solved, and looked for."""

import dataclasses
import json
import math
import os
import signal

import numpy as np
import pytest
import torch
from makers import FROZEN, MADE_FOR, SMALL, TINY, change, lines, network_of
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

import alexnet
from alexnet.data.store import Batches, Store, StoreWriter
from alexnet.errors import Interrupted, RecipeError, RunError, TrainingError, WeightsError
from alexnet.fitting import linear, lr_finder
from alexnet.fitting.loop import State
from alexnet.network import checkpoint
from alexnet.network import frozen as frozen_module
from alexnet.network.description import Preprocessing, architecture
from alexnet.network.weight_names import weights_folder
from alexnet.presets import RECIPES
from alexnet.recipes import Recipe
from alexnet.runs import inputs
from alexnet.runs.directory import RunDirectory
from alexnet.runs.evaluation import evaluate_run


def figures(run):
    return json.loads((run / "metrics.json").read_text())


def logits(run):
    return np.load(run / "predictions.npz")["logits"]


def test_weights_choose_the_network_and_the_preprocessing(folder, made, tmp_path, capsys):
    run = alexnet.train(folder, FROZEN, out=tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "weights made: classifier.1 start fresh, all others are taken" in said
    assert "the convolutions are frozen" in said
    assert "crops and colours do not vary: the cache holds centre and mirror" in said
    trained = RunDirectory(run).network()
    assert trained.preprocessing == MADE_FOR
    assert trained.architecture == dataclasses.replace(SMALL, dropout=0.0)
    for name, one in made.tensors.items():
        if name.startswith("features."):
            assert torch.equal(trained.tensors[name], one)
    saved = json.loads((run / "recipe.json").read_text())["recipe"]
    assert (saved["model"], saved["image_size"], saved["crop"]) == ("small", 20, 16)
    assert saved["mean"] == [0.4, 0.5, 0.6]
    assert figures(run)["top1"] > 0.6  # of 12 images; always guessing one class gives 0.33
    # the saved network, run whole, says the same as its head on cached features
    again = evaluate_run(run)
    assert again["n"] == figures(run)["n"]
    assert again["nll"] == pytest.approx(figures(run)["nll"], abs=1e-2)
    # and a run is itself weights that carry their preprocessing on
    third = alexnet.train(
        folder, change(FROZEN, weights=str(run), freeze="none"), out=tmp_path / "3"
    )
    assert RunDirectory(third).network().preprocessing == MADE_FOR


def test_the_recipes_own_preprocessing_goes_first(folder, made, tmp_path, capsys):
    recipe = change(FROZEN, image_size=24, mean=(0.5, 0.5, 0.5))
    run = alexnet.train(folder, recipe, out=tmp_path / "run")
    assert RunDirectory(run).network().preprocessing == Preprocessing(
        24, 24, (0.5, 0.5, 0.5), (0.2, 0.25, 0.3)
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "were made for a mean of 0.4, 0.5, 0.6 and deviations of 0.2, 0.25, 0.3" in said
    with pytest.raises(RecipeError, match="model is 2014, but the weights made are of the small"):
        alexnet.train(folder, change(FROZEN, model="2014"), out=tmp_path / "2")
    with pytest.raises(WeightsError, match=r"features\.0\.weight is \(8, .*expected \(32"):
        alexnet.train(folder, change(FROZEN, width=0.5), out=tmp_path / "3")


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["conv", "all-but-last"])
def test_a_head_on_the_cache_is_a_head_behind_the_frozen_network(freeze, folder, tmp_path):
    """Without augmentation, the same up to float16."""
    network_of(
        weights_folder() / "made.safetensors", architecture(SMALL, fc_layers=2, hidden=24), 5,
        dataclasses.replace(MADE_FOR, image_size=16),
    )  # fmt: skip
    recipe = change(FROZEN, freeze=freeze, flip=False, epochs=4)
    cached = alexnet.train(folder, recipe, out=tmp_path / "cached")
    behind = alexnet.train(folder, change(recipe, cache=False), out=tmp_path / "behind")
    for one, other in zip(lines(cached), lines(behind), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        assert one["val_top1"] == other["val_top1"]
    assert np.allclose(logits(cached), logits(behind), atol=2e-2)
    last = [RunDirectory(run).network().tensors for run in (cached, behind)]
    name = sorted(last[0])[-1]
    torch.testing.assert_close(last[0][name], last[1][name], rtol=1e-2, atol=1e-3)


def test_two_runs_give_the_same_bits_and_the_second_computes_no_features(
    folder, made, tmp_path, monkeypatch
):
    recipe = change(FROZEN, views=2, precision="auto")
    first = alexnet.train(folder, recipe, out=tmp_path / "1")
    monkeypatch.setattr(frozen_module, "_extract", None)
    second = alexnet.train(folder, recipe, out=tmp_path / "2")
    assert (first / "best.safetensors").read_bytes() == (second / "best.safetensors").read_bytes()
    assert np.array_equal(logits(first), logits(second))
    # another head, other rates, other batches: still no convolution
    other = change(recipe, fc_layers=2, hidden=8, lr=0.01, batch_size=7, dropout=0.3)
    assert figures(alexnet.train(folder, other, out=tmp_path / "3"))["n"] == 12


def test_changed_weights_of_the_same_name_are_not_mistaken(folder, made, tmp_path):
    recipe = change(FROZEN, epochs=1)
    first = alexnet.train(folder, recipe, out=tmp_path / "1")
    made.tensors["features.0.weight"].mul_(-1)
    checkpoint.save_network(made.path, made)
    second = alexnet.train(folder, recipe, out=tmp_path / "2")
    assert not np.allclose(logits(first), logits(second), atol=0.05)
    with pytest.raises(RunError, match="from other weights: checksum"):
        alexnet.train(folder, recipe, out=first, resume=True)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_number_of_cached_views(count, folder, made, tmp_path, monkeypatch, capsys):
    names = []
    original = frozen_module._extract

    def extract(frozen, store, rows, view, writer):
        names.append(view.name)
        original(frozen, store, rows, view, writer)

    monkeypatch.setattr(frozen_module, "_extract", extract)
    run = alexnet.train(folder, change(FROZEN, cached_views=count), out=tmp_path / "run")
    assert names == ["centre", "mirror", "augmented2", "augmented3"][:count]
    told = "crops and colours do not vary" in capsys.readouterr().err
    assert told == (count < 3)
    assert figures(run)["n"] == 12


def test_a_mirror_that_only_evaluation_needs_is_not_trained_on(folder, made, tmp_path, monkeypatch):
    seen = []
    original = frozen_module.feature_batches

    def batches(found, indices, *, views=(0,), **others):
        seen.append((others.get("shuffle", False), list(views)))
        return original(found, indices, views=views, **others)

    monkeypatch.setattr(inputs, "feature_batches", batches)
    alexnet.train(folder, change(FROZEN, flip=False, views=2), out=tmp_path / "run")
    assert [views for shuffle, views in seen if shuffle] == [[0]]
    assert [1] in [views for shuffle, views in seen if not shuffle]


def test_the_mirror_is_averaged_in_as_prediction_does(folder, made, tmp_path):
    run = alexnet.train(folder, change(FROZEN, views=2), out=tmp_path / "run")
    ids = np.load(run / "predictions.npz")["ids"]
    stored = torch.from_numpy(logits(run)).softmax(1).numpy()
    probabilities = alexnet.load(run, precision="fp32").predict_proba([folder / one for one in ids])
    assert np.allclose(probabilities, stored, atol=5e-3)


def test_layers_that_are_frozen_untrained_are_told(folder, made, tmp_path, capsys):
    recipe = change(FROZEN, freeze="all-but-last", fc_layers=2, hidden=8)
    run = alexnet.train(folder, recipe, out=tmp_path / "run")
    # it has not looked at the last map, and does so when it is asked whether it knows
    model = alexnet.load(run)
    assert not model.calibrated
    assert len(model.calibration.test_p) == figures(run)["n"] and model.calibrated
    said = " ".join(capsys.readouterr().err.split())
    assert "of these, classifier.0 are frozen too, with random weights" in said


@pytest.mark.slow
def test_frozen_dropout_drops_only_in_training(folder, tmp_path):
    network_of(
        weights_folder() / "made.safetensors",
        architecture(SMALL, fc_layers=2, hidden=64, dropout=0.9), 5, MADE_FOR,
    )  # fmt: skip
    recipe = change(FROZEN, freeze="all-but-last", flip=False, cache=False, dropout=0.9)
    plain = alexnet.train(folder, recipe, out=tmp_path / "1")
    dropping = change(recipe, frozen_dropout=True)
    runs = [alexnet.train(folder, dropping, out=tmp_path / f"{i}") for i in (2, 3)]
    assert lines(plain)[0]["train_loss"] != lines(runs[0])[0]["train_loss"]
    assert np.array_equal(logits(runs[0]), logits(runs[1]))  # keyed, as all randomness


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze": "conv"}, "random layers would be frozen"),
        ({"head": "ridge"}, "nothing is frozen"),
        ({"finetune_epochs": 2}, "nothing is frozen"),
        ({"frozen_dropout": True, "freeze": "conv", "weights": "x"}, "cache=False"),
        ({"cutmix": 1, "freeze": "conv", "weights": "x"}, 'finetune_epochs or freeze="none"'),
        ({"head": "ridge", "freeze": "conv", "weights": "x", "cache": False}, "cached features"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"conv_layers": 2}, "conv_layers is 2"),
        ({"mean": (1, 2)}, "expected 3 numbers"),
    ],
)
def test_combinations_that_make_no_sense(fields, message):
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe(**fields)
    assert caught.value.hint or "expected" in message or "cache=False" in str(caught.value)


# -- head first, then everything


FINETUNE = change(FROZEN, finetune_epochs=2, finetune_lr=0.01, lr_decay_below=0.5, warmup=0.0)


def test_finetuning_starts_from_the_best_head(folder, made, tmp_path, capsys):
    run = alexnet.train(folder, FINETUNE, out=tmp_path / "run")
    assert [line["epoch"] for line in lines(run)] == [1, 2, 3, 4]
    said = " ".join(capsys.readouterr().err.split())
    assert "the convolutions are frozen, the fully connected layers are trained: 195 of" in said
    assert "everything is trained" in said
    trained = RunDirectory(run).network().tensors
    best = figures(run)["best_epoch"]
    moved = not torch.equal(trained["features.0.weight"], made.tensors["features.0.weight"])
    assert moved == (best > 2)
    assert lines(run)[2]["lr"] <= 0.01
    assert lines(run)[2]["train_loss"] < lines(run)[0]["train_loss"]
    assert evaluate_run(run)["top1"] == figures(run)["top1"]


@pytest.mark.parametrize(
    "stop_at", [6, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 4, 8, 11))]
)
def test_resuming_a_finetuning_gives_the_same_bits(stop_at, folder, made, tmp_path, monkeypatch):
    """Stopped in the first phase, between the two, and in the second."""
    whole = alexnet.train(folder, FINETUNE, out=tmp_path / "whole")
    original, steps = torch.optim.SGD.step, []

    def step(self, *arguments):
        steps.append(1)
        if len(steps) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(Interrupted):
        alexnet.train(folder, FINETUNE, out=tmp_path / "broken")
    broken = alexnet.train(folder, FINETUNE, out=tmp_path / "broken", resume=True)
    same = ("epoch", "train_loss", "val_loss", "val_top1", "lr", "best")
    assert [[line[key] for key in same] for line in lines(whole)] == [
        [line[key] for key in same] for line in lines(broken)
    ]
    assert np.array_equal(logits(whole), logits(broken))


def test_patience_ends_a_phase_not_the_training(folder, made, tmp_path):
    recipe = change(FINETUNE, epochs=20, lr=1e-9, patience=1, schedule="constant")
    run = alexnet.train(folder, recipe, out=tmp_path / "run")
    heads = [line for line in lines(run) if line["lr"] < 1e-8]
    assert len(heads) < 20
    assert len(lines(run)) - len(heads) in (1, 2)
    assert alexnet.train(folder, recipe, out=run, resume=True) == run


def test_lower_layers_have_lower_rates(folder, made, tmp_path, monkeypatch):
    shares = []
    original = State.save

    def save(self, path):
        shares.append(sorted({group["lr_share"] for group in self.optimizer.param_groups}))
        original(self, path)

    monkeypatch.setattr(State, "save", save)
    alexnet.train(folder, FINETUNE, out=tmp_path / "run")
    assert shares[0] == [1.0]  # one layer
    assert shares[-1] == [0.5**power for power in (5, 4, 3, 2, 1, 0)]


def test_recipes_that_start_from_official_weights_say_how_to_get_them(folder, tmp_path):
    for name, preset in RECIPES.items():
        if preset.recipe.weights.startswith("imagenet"):
            with pytest.raises(WeightsError, match="not on this machine") as caught:
                alexnet.train(folder, name, out=tmp_path / name)
            assert "alexnet weights fetch imagenet-2014" in caught.value.hint
            assert not (tmp_path / name).exists()


# -- heads that are solved


@pytest.fixture
def feature_batches(tmp_path):
    """Training and validation batches of features that overlap."""
    generator = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = generator.normal(size=(300, 8)) * np.array([1, 5, 0.1, 1, 1, 1, 1, 0])
    x[:, :3] += y[:, None] * np.array([0.5, 2, 0.03])
    with StoreWriter(tmp_path / "stores", (8,), "float16") as writer:
        writer.append(x)
        path = writer.finish("features", {"splits": {}}, y, [""] * 300)
    found = Store.open(path)

    def part(indices):
        return Batches(
            found, indices, batch_size=32, transform=lambda x, g: x.float(),
            device=torch.device("cpu"),
        )  # fmt: skip

    return part(np.arange(200)), part(np.arange(200, 300)), np.array(found.x, np.float64), y


def test_ridge_is_scikit_learns(feature_batches):
    train, val, x, y = feature_batches
    head = linear.solve("ridge", train, val, 3)
    scaler = StandardScaler().fit(x[:200])
    theirs = Ridge(alpha=head.penalty * 200).fit(scaler.transform(x[:200]), np.eye(3)[y[:200]])
    ours = torch.from_numpy(x).float() @ head.weight.T + head.bias
    assert np.allclose(ours, theirs.predict(scaler.transform(x)), atol=1e-4)
    accuracy = (theirs.predict(scaler.transform(x[200:])).argmax(1) == y[200:]).mean()
    assert head.val_top1 == pytest.approx(accuracy)
    assert head.val_top1 == max(head.tried.values())


def test_logistic_regression_is_scikit_learns(feature_batches, monkeypatch):
    train, val, x, y = feature_batches
    monkeypatch.setitem(linear.PENALTIES, "logistic", (1e-2,))
    head = linear.solve("logistic", train, val, 3)
    scaler = StandardScaler().fit(x[:200])
    theirs = LogisticRegression(C=1 / (1e-2 * 200), max_iter=1000, tol=1e-8)
    theirs.fit(scaler.transform(x[:200]), y[:200])
    ours = (torch.from_numpy(x).float() @ head.weight.T + head.bias).softmax(1)
    assert np.allclose(ours, theirs.predict_proba(scaler.transform(x)), atol=1e-3)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_a_solved_head_makes_a_run(kind, folder, made, tmp_path, capsys):
    run = alexnet.train(folder, change(FROZEN, head=kind), out=tmp_path / "run")
    assert f"{kind}: validation top-1" in capsys.readouterr().err
    found = figures(run)
    assert found["top1"] > 0.8
    assert found["penalty"] > 0
    assert found["val_top1"] > 0.8
    assert alexnet.load(run).predict([folder / "red" / "0.png"]).shape == (1,)


def test_only_one_layer_can_be_solved(folder, made, tmp_path):
    with pytest.raises(RecipeError, match="solves one layer") as caught:
        alexnet.train(folder, change(FROZEN, head="ridge", fc_layers=2), out=tmp_path / "run")
    assert "--fc-layers 1" in caught.value.hint


# -- the learning-rate finder


@pytest.mark.slow
def test_the_finder_suggests_a_rate_that_works(folder, made, tmp_path, capsys):
    run = alexnet.train(folder, change(FROZEN, lr="auto"), out=tmp_path / "run")
    found = json.loads((run / "lr.json").read_text())
    assert 1e-4 < found["lr"] < 10
    assert "the loss falls fastest at" in found["reason"]
    assert (run / "lr.svg").read_text().startswith("<?xml")
    assert f"learning rate {found['lr']:g}" in capsys.readouterr().err
    assert figures(run)["top1"] > 0.6
    assert max(line["lr"] for line in lines(run)) <= found["lr"]
    again = alexnet.train(folder, change(FROZEN, lr=found["lr"]), out=tmp_path / "again")
    assert np.array_equal(logits(run), logits(again))  # looking changed nothing


@pytest.mark.slow
def test_a_finder_killed_before_it_noted_its_rate_looks_again(folder, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    recipe = change(TINY, lr="auto")
    whole = alexnet.train(folder, recipe, out=tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunDirectory, "write_suggestion", killed)
        alexnet.train(folder, recipe, out=tmp_path / "run")
    run = alexnet.train(folder, recipe, out=tmp_path / "run", resume=True)
    for name in ("lr.json", "lr.svg", "best.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_only_finding_trains_nothing(folder, tmp_path):
    run = alexnet.train(folder, TINY, out=tmp_path / "run", only_find_lr=True)
    assert {path.name for path in run.iterdir()} == {
        "recipe.json", "environment.json", "lr.json", "lr.svg",
    }  # fmt: skip


def test_reading_the_curve():
    rates = [10.0**power for power in range(-6, 2)]
    falling = [3, 3, 2.9, 2, 0.9, 0.8, 4, 9]
    # fastest between 1e-3 and 1e-2, lowest at 1e-1, a tenth of which is 1e-2
    assert 1e-3 <= lr_finder.suggest(rates, falling).lr <= 1e-2
    with pytest.raises(TrainingError, match="no learning rate from 1e-06 to 10 lowers the loss"):
        lr_finder.suggest(rates, [3, 3, 3.1, 3, 3, 3, 3, 3])


@pytest.mark.slow
def test_the_finder_survives_a_loss_that_explodes(folder, made, tmp_path):
    recipe = change(FROZEN, lr="auto", freeze="none", momentum=0.99)
    run = alexnet.train(folder, recipe, out=tmp_path / "run", only_find_lr=True)
    found = json.loads((run / "lr.json").read_text())
    assert all(math.isfinite(one) for one in found["losses"])
