"""Heads that are cross-validated: folds, what they say of images held out, and what starts so."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from makers import FROZEN, change, class_folders, store_of, tensors_sha256
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController

import alexnet
from alexnet.data.splits import folds_of
from alexnet.data.store import Batches, Store, StoreWriter
from alexnet.errors import DataError, RecipeError, RunError
from alexnet.fitting import linear
from alexnet.presets import RECIPES
from alexnet.recipes import Recipe
from alexnet.runs import choice
from alexnet.runs.calibration import calibrate
from alexnet.runs.directory import RunDirectory

FOLDED = FROZEN.replace(head="logistic", folds=4, views=2)


def test_a_blas_has_one_thread_while_a_head_is_solved_and_as_many_as_before_afterwards():
    import scipy.optimize  # noqa: F401

    def threads():
        every = ThreadpoolController().select(internal_api="openblas").info()
        return {one["filepath"]: one["num_threads"] for one in every}

    with ThreadpoolController().select(internal_api="openblas").limit(limits=2):
        before = threads()
        with linear.one_blas_thread():
            assert set(threads().values()) <= {1}
        assert threads() == before


def made_of(y, content, groups=None) -> Any:
    """What folds are drawn from, without images."""
    return SimpleNamespace(drawn=np.array(y), content=content, groups=groups)


@given(
    labels=st.lists(st.integers(0, 3), min_size=8, max_size=80),
    folds=st.integers(2, 7),
    copies=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_folds_have_as_many_of_each_class_and_copies_stay_together(labels, folds, copies, seed):
    content = np.random.default_rng(seed).integers(0, 256, (len(labels), 8), np.uint8)
    y, contents = np.repeat(labels, copies), np.repeat(content, copies, axis=0)
    fold = folds_of(made_of(y, contents), np.arange(len(y)), folds, seed)
    assert (fold.reshape(-1, copies) == fold[::copies, None]).all()
    for label in set(labels):
        counts = np.bincount(fold[y == label], minlength=folds)
        assert counts.max() - counts.min() <= copies


@given(st.lists(st.integers(1, 9), min_size=6, max_size=40), st.integers(0, 9))
def test_folds_part_no_group(sizes, seed):
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    y = random.integers(0, 3, len(groups))
    content = random.integers(0, 256, (len(groups), 8), np.uint8)
    fold = folds_of(made_of(y, content, groups), np.arange(len(y)), 3, seed)
    assert all(len(set(fold[groups == one])) == 1 for one in set(groups))
    assert np.bincount(fold, minlength=3).max() <= len(y) / 3 + 2 * max(sizes)


def test_folds_of_a_store_of_0_1_0_are_drawn_by_position(tmp_path):
    store = store_of(tmp_path, {"all": [0, 1] * 10})
    fold = folds_of(store, np.arange(20), 5, seed=1)
    assert np.bincount(fold[::2]).tolist() == [2] * 5
    assert (fold != folds_of(store, np.arange(20), 5, seed=2)).any()


# -- the solution


@pytest.fixture
def views(tmp_path):
    """Two views of features that overlap, (2, N, D), labels, and a maker of batches of them."""
    random = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = random.normal(size=(90, 40)) * np.r_[5, np.ones(38), 0]
    x[:, :3] += y[:, None] * np.array([2, 0.5, 1])
    views = np.stack([x + 0.3 * random.normal(size=x.shape) for _ in range(2)]).astype(np.float16)

    def batches(labels, rows):
        for number, view in enumerate(views):
            with StoreWriter(tmp_path / f"{number}", (40,), "float16") as writer:
                writer.append(view)
                path = writer.finish("features", {"splits": {}}, labels, [""] * 90)
            yield Batches(
                Store.open(path), rows, batch_size=32, transform=lambda x, g: x.float(),
                device=torch.device("cpu"),
            )  # fmt: skip

    return views.astype(np.float64), y, lambda labels, rows: list(batches(labels, rows))


def theirs(penalty, x, y):
    """scikit-learn's, on two views (2, N, D): of other two views, their averaged probabilities."""
    scaler = StandardScaler().fit(np.concatenate(x))
    head = LogisticRegression(C=1 / (penalty * 2 * len(y)), max_iter=1000, tol=1e-8)
    head.fit(scaler.transform(np.concatenate(x)), np.concatenate([y, y]))
    return lambda z: np.mean([head.predict_proba(scaler.transform(one)) for one in z], axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("few", [False, True])
def test_cross_validation_is_scikit_learns(few, views):
    x, y, batches = views
    rows = np.arange(12 if few else 90)  # of few the solution is found among the examples
    fold = rows // 3 % (3 if few else 5)
    found = linear.cross_validated("logistic", batches(y, rows), fold, 3)
    x, y = x[:, rows], y[rows]
    losses = {}
    for penalty in linear.PENALTIES["logistic"]:
        held = np.empty((len(y), 3))
        for number in range(fold.max() + 1):
            out = fold == number
            held[out] = theirs(penalty, x[:, ~out], y[~out])(x[:, out])
        losses[penalty] = log_loss(y, held)
        if penalty in found.head.tried:
            assert found.head.tried[penalty] == pytest.approx(
                (held.argmax(1) == y).mean(), abs=0.03
            )
    best = min(losses, key=losses.__getitem__)
    assert sorted(losses.values())[1] > losses[best] + linear.TELLING
    assert found.head.penalty == best
    assert found.val_loss == pytest.approx(losses[best], rel=1e-3)
    logits = [one @ found.head.weight.numpy().T + found.head.bias.numpy() for one in x]
    p = np.mean([torch.tensor(one).softmax(1).numpy() for one in logits], axis=0)
    assert np.allclose(p, theirs(best, x, y)(x), atol=2e-3)


def test_labels_of_chance_are_not_learned(views):
    x, _, batches = views
    y = np.random.default_rng(3).integers(0, 3, 90)
    found = linear.cross_validated("logistic", batches(y, np.arange(90)), np.arange(90) % 5, 3)
    seen = (x[0] @ found.head.weight.numpy().T + found.head.bias.numpy()).argmax(1)
    assert found.head.val_top1 < 0.5 < (seen == y).mean()
    assert found.val_loss > 0.95 * np.log(3)


# -- runs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_a_run_is_judged_by_images_that_were_held_out(kind, folder, made, tmp_path, capsys):
    run = alexnet.train(folder, FOLDED.replace(head=kind), out=tmp_path / "run")
    said = capsys.readouterr().err
    assert "48 training, 12 test images" in said
    assert "cross-validated in 4 folds" in said
    assert f"{kind}: 4-fold cross-validation top-1" in said
    figures, kept = RunDirectory(run).metrics(), RunDirectory(run).calibration()
    assert figures["n"] == 12
    assert figures["val_top1"] > 0.8
    assert len(kept.p) == len(kept.distance) == 48
    assert kept.distance.min() > 0  # nothing is compared with itself
    assert len(kept.memory) == 48
    with pytest.raises(DataError, match="no val split"):
        alexnet.evaluate(run, split="val")
    again = alexnet.train(folder, FOLDED.replace(head=kind), out=tmp_path / "again")
    assert tensors_sha256(run / "best.safetensors") == tensors_sha256(again / "best.safetensors")


@pytest.mark.slow
def test_a_solved_head_has_no_more_epochs(folder, made, tmp_path, capsys):
    run = alexnet.train(folder, FOLDED, out=tmp_path / "run")
    assert alexnet.resume(run) == run
    assert "is finished, its head solved" in capsys.readouterr().err
    with pytest.raises(RunError, match="was solved at once") as caught:
        alexnet.resume(run, epochs=80)
    assert "--head trained" in caught.value.hint
    assert alexnet.repeat(run, out=tmp_path / "again") == tmp_path / "again"


@pytest.mark.slow
@pytest.mark.parametrize("folds", [0, 4])
def test_the_report_says_how_the_head_was_solved(folds, folder, made, tmp_path):
    run = alexnet.train(folder, FOLDED.replace(folds=folds), out=tmp_path / "run")
    page = alexnet.report(run).read_text(encoding="utf-8")
    assert "How the head was solved" in page
    assert ("each held out once" in page) == (folds > 0)
    assert ("The 6 validation images chose it" in page) == (folds == 0)
    assert "learning rate" not in page  # there was none
    assert not (run / "epochs.csv").exists()
    shown = alexnet.load(run)._repr_html_()
    assert ("of 48 images" in shown) == (folds > 0)
    assert re.findall('aria-label="(.*?)"', shown) == ["confusion matrix"]
    figures = RunDirectory(run).metrics()
    RunDirectory(run).write_figures(
        figures | {"solved": {"tried": 3}}, RunDirectory(run).predictions()
    )
    assert "How the head was solved" not in alexnet.report(run).read_text(encoding="utf-8")


@pytest.mark.slow
def test_figures_of_validation_are_those_of_held_out_images(folder, made, tmp_path):
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(40)]
    labels = random.permutation(["cat", "dog"] * 20)
    data = alexnet.labelled({"train": (noise, labels)})
    run = alexnet.train(data, FOLDED, out=tmp_path / "run")
    figures = RunDirectory(run).metrics()
    assert figures["split"] == "val"
    assert figures["n"] == 40
    assert not figures["chose_epoch_on_it"]
    assert figures["top1"] < 0.8  # noise cannot be told apart, and by heart does not count
    assert alexnet.evaluate(run, split="train")["top1"] > figures["top1"]
    with pytest.raises(DataError, match="trained on every image of its data") as caught:
        alexnet.evaluate(run)
    assert "--split train" in caught.value.hint


@pytest.mark.slow
def test_a_run_without_calibration_says_why_it_gets_none(folder, made, tmp_path):
    asked = FOLDED.replace(freeze="all-but-last")
    run = RunDirectory(alexnet.train(folder, asked, out=tmp_path / "run"))
    with pytest.raises(RunError, match="no image left by which it could be calibrated"):
        calibrate(run, run.load(), torch.float32)


def test_data_with_a_validation_split_is_not_cross_validated(made, tmp_path):
    parts = {f"{part}/{name}": 4 for part in ("train", "val") for name in ("cat", "dog")}
    data = class_folders(tmp_path / "data", parts, size=(16, 16))
    with pytest.raises(DataError, match="a validation split of its own"):
        alexnet.train(data, FOLDED, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "fields", [{"folds": 1}, {"head": "trained"}, {"finetune_epochs": 2}], ids=str
)
def test_what_folds_cannot_be_had_with(fields):
    with pytest.raises(RecipeError, match="folds is") as caught:
        FOLDED.replace(**fields)
    assert "--head logistic" in caught.value.hint


# -- what starts so


def settled(data, **fields):
    return choice.settled(data, alexnet.recipe(**fields))[0]


@pytest.mark.parametrize(
    ("fields", "folds"),
    [
        ({}, 5), ({"seed": 3, "report": False}, 5), ({"views": 1, "device": "cpu"}, 5),
        ({"folds": 3}, 3), ({"lr": 0.01}, 0), ({"epochs": 5}, 0), ({"head": "trained"}, 0),
        ({"class_weights": "balanced"}, 0), ({"cache": False}, 0),
        ({"finetune_epochs": 3}, 0), ({"flip": False}, 0),
    ],
    ids=str,
)  # fmt: skip
def test_few_images_have_a_head_that_is_solved(fields, folds, tmp_path):
    data = class_folders(tmp_path / "data", {"cat": 6, "dog": 6}, size=(40, 40))
    recipe = settled(data, **fields)
    assert (recipe.folds, recipe.solved) == (folds, folds > 0)
    assert recipe.weights == "backbone"


def test_many_images_and_those_with_validation_have_one_that_is_trained(tmp_path, monkeypatch):
    parts = {f"{part}/{name}": 4 for part in ("train", "val") for name in ("cat", "dog")}
    assert not settled(class_folders(tmp_path / "apart", parts, size=(40, 40))).folds
    data = class_folders(tmp_path / "data", {"cat": 6, "dog": 6}, size=(40, 40))
    monkeypatch.setattr(choice, "ENOUGH", 12)
    assert settled(data) == RECIPES["folder"].recipe.replace(weights="backbone")
    assert settled(data, folds=4).folds == 4


def test_nothing_is_left_open_in_the_end(folder, made, tmp_path):
    run = alexnet.train(folder, change(FROZEN, head="auto", epochs=1), out=tmp_path / "run")
    assert RunDirectory(run).settings.recipe.head == "trained"
    assert Recipe().head == "trained"
