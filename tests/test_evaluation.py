"""Figures against scikit-learn and hand-made cases; views against the paper's definition."""

import csv
import io
import json
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from makers import TINY, change, write_pictures
from PIL import Image
from sklearn import metrics as sk

import alexnet
from alexnet.cli import main
from alexnet.data import augment
from alexnet.errors import DataError, RecipeError
from alexnet.network.inference import average_views
from alexnet.recipes import Recipe
from alexnet.runs.evaluation import evaluate_run
from alexnet.scoring.metrics import (
    calibration_error,
    class_scores,
    metrics,
    softmax,
    top_k,
    wilson_interval,
)


def random_case(n=200, k=7, seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, k)).astype(np.float32) * 3
    labels = generator.integers(0, k, n)
    logits[np.arange(n), labels] += 2
    return logits, labels, [f"class {i}" for i in range(k)]


def test_figures_equal_scikit_learns():
    logits, labels, names = random_case()
    ours = metrics(logits, labels, names, "test")
    guesses, p = logits.argmax(1), softmax(logits)
    assert ours["n"] == 200
    assert ours["top1"] == sk.accuracy_score(labels, guesses)
    assert ours["top5"] == sk.top_k_accuracy_score(labels, logits, k=5)
    assert ours["nll"] == pytest.approx(sk.log_loss(labels, p))
    assert ours["confusion"] == sk.confusion_matrix(labels, guesses).tolist()
    recalls = sk.recall_score(labels, guesses, average=None)
    assert [one["top1"] for one in ours["per_class"].values()] == pytest.approx(recalls.tolist())
    assert list(ours["per_class"]) == names
    assert ours["chance"] == np.bincount(labels).max() / 200


@pytest.mark.parametrize("k", [2, 7, 40])
def test_precision_recall_and_f1_equal_scikit_learns(k):
    logits, labels, names = random_case(n=150, k=k)
    if k > 2:  # one class is never guessed, and of another there are no images
        logits[:, 1] = -1e9
        labels[labels == 2] = 0
    ours, guesses = metrics(logits, labels, names, "test"), logits.argmax(1)
    there = np.unique(labels)

    def theirs(average):
        return sk.precision_recall_fscore_support(
            labels, guesses, labels=there, average=average, zero_division=0
        )

    for place, name in enumerate(("precision", "top1", "f1", "n")):
        found = [ours["per_class"][names[label]][name] for label in there]
        assert found == pytest.approx(theirs(None)[place].tolist())
    for average in ("macro", "weighted"):
        assert list(ours[average].values()) == pytest.approx(theirs(average)[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of guesses without images
        balanced = sk.balanced_accuracy_score(labels, guesses)
    assert ours["balanced_accuracy"] == pytest.approx(balanced)


def test_scores_by_hand():
    found = class_scores(np.array([[3, 1, 0], [2, 2, 0], [0, 0, 0]]))
    assert found.precision.tolist() == pytest.approx([3 / 5, 2 / 3, 0])
    assert found.recall.tolist() == [3 / 4, 1 / 2, 0]
    assert found.f1.tolist() == pytest.approx([2 / 3, 4 / 7, 0])
    assert found.mean()["recall"] == 5 / 8  # of the two classes that have images
    assert found.mean(weighted=True)["f1"] == pytest.approx((2 / 3 + 4 / 7) / 2)


def test_a_class_without_images_is_left_out_of_the_table():
    logits, labels, names = random_case()
    kept = labels != 3
    ours = metrics(logits[kept], labels[kept], names, "test")
    assert "class 3" not in ours["per_class"]
    assert len(ours["confusion"]) == 7


@pytest.mark.parametrize("k", [2, 3, 5])
def test_few_classes(k):
    logits, labels, names = random_case(k=k)
    ours = metrics(logits, labels, names, "val")
    assert ours["top5"] == 1.0
    assert 0 < ours["top1"] < 1


def test_wilson_interval_of_known_cases():
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(n=st.integers(1, 10_000), share=st.floats(0, 1))
def test_wilson_interval_holds_the_share(n, share):
    correct = round(n * share)
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1


def test_calibration_error_of_hand_made_cases():
    sure_and_right = np.tile(np.array([[1.0, 0.0]], np.float32), (10, 1))
    assert calibration_error(sure_and_right, np.zeros(10, np.int64)) == 0
    assert calibration_error(sure_and_right, np.ones(10, np.int64)) == 1
    # 0.75 sure, right in half of the cases; 0.55 sure, always right
    p = np.array([[0.75, 0.25]] * 4 + [[0.55, 0.45]] * 4, np.float32)
    labels = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    assert calibration_error(p, labels) == pytest.approx((4 * 0.25 + 4 * 0.45) / 8)


def test_huge_logits_stay_finite():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    ours = metrics(logits, np.array([0, 0]), ["a", "b"], "test")
    assert ours["nll"] == 1e4  # one right and one wrong by 2e4
    assert ours["top1"] == 0.5


def test_two_views_are_averaged_as_probabilities():
    one, two = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    mean = (one.softmax(1) + two.softmax(1)) / 2
    torch.testing.assert_close(average_views([one, two]).exp(), mean)
    assert torch.equal(average_views([one]), one)


def ten_views_by_hand(image, crop):
    """Krizhevsky et al. (2012), section 4.1: "five 224 x 224 patches (the four corner patches and
    the center patch) as well as their horizontal reflections"."""
    side = len(image)
    middle = (side - crop) // 2
    end = side - crop
    patches = [
        image[top : top + crop, left : left + crop]
        for top, left in ((middle, middle), (0, 0), (0, end), (end, 0), (end, end))
    ]
    return [view for patch in patches for view in (patch, patch[:, ::-1])]


@pytest.mark.parametrize(("side", "crop"), [(6, 4), (7, 4)])
def test_ten_views_are_the_papers(side, crop):
    image = torch.arange(side * side, dtype=torch.uint8).view(1, 1, side, side).repeat(1, 3, 1, 1)
    how: dict[str, Any] = {"border": 0, "mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
    views = augment.evaluation_views(image_size=side, crop=crop, views=10, **how)
    ours = [view(image, torch.Generator())[0, 0].numpy() for view in views]
    theirs = ten_views_by_hand(np.arange(side * side).reshape(side, side), crop)
    assert len(ours) == 10
    for one, expected in zip(ours, theirs, strict=True):
        assert np.allclose(one, expected, atol=1e-4)
    [centre] = augment.evaluation_views(image_size=side, crop=crop, views=1, **how)
    assert np.array_equal(centre(image, torch.Generator())[0, 0], ours[0])


def test_ten_views_of_an_image_with_a_border():
    image = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    how: dict[str, Any] = {"border": 1, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    views = augment.evaluation_views(image_size=4, crop=4, views=10, **how)
    corner = views[2](image, torch.Generator())[0, 0]
    assert corner[0].sum() == corner[:, 0].sum() == 0  # the border is black
    assert (corner[1:, 1:] == 1).all()


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "colours", side=20)


def test_ten_views_are_averaged_in_evaluation_and_prediction(folder, tmp_path):
    recipe = change(TINY, image_size=20, crop=16, views=10, precision="fp32")
    run = alexnet.train(folder, recipe, out=tmp_path / "run")
    saved = np.load(run / "predictions.npz")
    model: Any = alexnet.load(run, precision="fp32")
    files = [folder / one for one in saved["ids"]]
    assert np.allclose(model.predict_proba(files), softmax(saved["logits"]), atol=1e-5)
    images = np.stack([np.asarray(Image.open(one)) for one in files])
    expected = np.zeros((len(files), 3))
    for view in range(10):
        patches = np.stack([ten_views_by_hand(image, 16)[view] for image in images])
        x = torch.from_numpy(patches.copy()).permute(0, 3, 1, 2)
        x = augment.normalise(x, model.trained.preprocessing.mean, model.trained.preprocessing.std)
        with torch.no_grad():
            expected += model.model(x).softmax(1).numpy() / 10
    assert np.allclose(softmax(saved["logits"]), expected, atol=1e-5)
    fewer = {
        views: evaluate_run(run, views=views, precision="fp32")["nll"] for views in (0, 1, 2, 10)
    }
    assert fewer[0] == fewer[10] != fewer[2] != fewer[1]


@pytest.fixture
def run(folder, tmp_path):
    return alexnet.train(folder, change(image_size=16), out=tmp_path / "run")


def test_ten_views_need_an_image_larger_than_its_crop(run):
    with pytest.raises(RecipeError, match="both are 16 px") as caught:
        evaluate_run(run, views=10)
    assert "--views 2" in caught.value.hint
    cases: list[dict[str, Any]] = [{"image_size": 16}, {"image_size": 16, "crop": 18, "border": 1}]
    for fields in cases:
        with pytest.raises(RecipeError, match="views is 10"):
            Recipe(views=10, **fields)
    Recipe(views=10, image_size=16, crop=14)
    Recipe(views=10, image_size=16, crop=16, border=1)


def test_ten_views_are_not_cached():
    fields: dict[str, Any] = {
        "views": 10,
        "weights": "made",
        "freeze": "conv",
        "image_size": 20,
        "crop": 16,
    }
    with pytest.raises(RecipeError, match="ten times the features") as caught:
        Recipe(**fields)
    assert "alexnet eval RUN --views 10" in caught.value.hint
    Recipe(**fields, cache=False)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_top_k_equals_scikit_learns(k):
    logits, labels, names = random_case()
    assert top_k(logits, labels, k) == sk.top_k_accuracy_score(labels, logits, k=k)
    assert metrics(logits, labels, names, "test", top=k)[f"top{k}"] == top_k(logits, labels, k)
    assert top_k(logits, labels, 7) == top_k(logits, labels, 99) == 1
    assert top_k(logits[:, :2], labels % 2, 1) == (logits[:, :2].argmax(1) == labels % 2).mean()


def test_evaluation_of_some_classes(run):
    seen: list[tuple[Any, ...]] = []
    every = evaluate_run(run, split="all", look=lambda *one: seen.append(one))
    assert np.mean([truth == answer for _, truth, answer, _ in seen]) == every["top1"]
    assert len(seen) == 60
    assert seen[0][0].shape == (3, 16, 16)
    some = evaluate_run(run, split="all", classes=["red,blue"])
    assert some["n"] == 40
    assert list(some["per_class"]) == ["blue", "red"]
    assert some["per_class"]["red"] == every["per_class"]["red"]
    assert len(some["confusion"]) == 3  # green stays a possible answer
    assert evaluate_run(run, split="all", classes=["red", "blue"]) == some
    with pytest.raises(DataError, match="no class 'rad'") as caught:
        evaluate_run(run, classes=["rad"])
    assert caught.value.hint == "Did you mean 'red'?"


def test_a_split_without_the_classes(run, tmp_path):
    other = write_pictures(tmp_path / "other", per_class=4, classes=["green", "red"], side=16)
    with pytest.raises(DataError, match="the all split has no image of blue"):
        evaluate_run(run, str(other), classes=["blue"])


def test_other_data_may_hold_one_class_or_more_classes(run, tmp_path):
    other = write_pictures(tmp_path / "one", per_class=4, classes=["red"], side=16)
    assert evaluate_run(run, str(other))["n"] == 4
    other = write_pictures(tmp_path / "more", per_class=4, side=16)
    (other / "green").rename(other / "Green")
    (other / "blue").rename(other / "mauve")
    with pytest.raises(DataError, match=r"does not know 2 of .* 'Green' \(not 'green'\), mauve"):
        evaluate_run(run, str(other))
    figures = evaluate_run(run, str(other), classes=["red"])
    assert (figures["n"], list(figures["per_class"])) == (4, ["red"])


def test_eval_prints_csv_and_any_top_k(run, capsys):
    assert main(["eval", str(run), "--split", "all", "--format", "json", "--top", "2"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["top1"] <= figures["top2"] <= figures["top5"] == 1
    assert main(["eval", str(run), "--split", "all", "--format", "csv", "--top", "2"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["class"] for row in rows] == ["(all)", "blue", "green", "red"]
    assert float(rows[0]["f1"]) == figures["macro"]["f1"]
    for key in ("n", "top1", "top2", "top5", "nll", "ece"):
        assert float(rows[0][key]) == figures[key]
    assert [float(rows[0][key]) for key in ("top1_low", "top1_high")] == figures["top1_interval"]
    for row in rows[1:]:
        for key in ("top1", "precision", "f1"):
            assert float(row[key]) == figures["per_class"][row["class"]][key]
        assert float(row["top1_low"]) <= float(row["top1"]) <= float(row["top1_high"])
        assert row["nll"] == ""
    assert main(["eval", str(run), "--top", "2", "--classes", "red"]) == 0
    assert "top-2" in capsys.readouterr().err
    assert main(["eval", str(run), "--top", "0"]) == 2
    assert "top is 0" in capsys.readouterr().err
