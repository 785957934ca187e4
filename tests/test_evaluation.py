"""Figures against scikit-learn and hand-made cases."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from alexnet.evaluation import average_views
from alexnet.metrics import calibration_error, metrics, softmax, wilson_interval


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
    assert np.isfinite(ours["nll"])
    assert ours["top1"] == 0.5


def test_two_views_are_averaged_as_probabilities():
    one, two = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    mean = (one.softmax(1) + two.softmax(1)) / 2
    torch.testing.assert_close(average_views([one, two]).exp(), mean)
    assert torch.equal(average_views([one]), one)
