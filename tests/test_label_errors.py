"""Doubtful labels: planted errors and mixed classes are found, clean labels are left alone."""

import dataclasses

import numpy as np
import pytest
from makers import HUES, TINY, network_of, write_pictures
from sklearn.linear_model import Ridge

import alexnet
from alexnet.checking import label_errors as module
from alexnet.checking.label_errors import (
    LabelError,
    Mixed,
    cross_validated,
    label_errors,
    mixed_classes,
    probabilities_of,
    projected,
)
from alexnet.data.datasets import open_data
from alexnet.data.splits import dealt
from alexnet.errors import RunError, WeightsError
from alexnet.network.description import architecture

LONGER = dataclasses.replace(TINY, epochs=8)


def blobs(n=300, classes=3, d=12, spread=1.0, seed=0):
    """(x, labels): a cloud of points for each class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = generator.standard_normal((classes, d)) * 4
    return centres[labels] + spread * generator.standard_normal((n, d)), labels


@pytest.mark.parametrize("seed", range(3))
def test_clean_labels_are_left_alone(seed):
    x, labels = blobs(seed=seed)
    p = cross_validated(x, labels, 3)
    assert np.allclose(p.sum(1), 1)
    assert (p.argmax(1) == labels).all()
    assert label_errors(p, labels) == []


@pytest.mark.parametrize("seed", range(3))
def test_planted_errors_are_found_and_put_right(seed):
    x, right = blobs(seed=seed)
    wrong = np.random.default_rng(seed).choice(len(x), 12, replace=False)
    labels = right.copy()
    labels[wrong] = (right[wrong] + 1) % 3
    found = label_errors(cross_validated(x, labels, 3), labels)
    assert {one.place for one in found} <= set(wrong.tolist())
    assert len(found) >= 11
    assert all(one.suggested == right[one.place] for one in found)
    assert all(one.given == labels[one.place] and one.p_given < one.p_suggested for one in found)


def mixed_in(x, labels, splits):
    p = cross_validated(x, labels, 3)
    found = mixed_classes(p, label_errors(p, labels), labels, splits)
    return {(one.split, one.given, one.suggested): one.count / one.of for one in found}


def test_a_split_with_two_classes_swapped_stands_out():
    x, labels = blobs(n=600)
    splits = {"train": np.arange(480), "test": np.arange(480, 600)}
    assert mixed_in(x, labels, splits) == {}
    labels[480:] = np.array([1, 0, 2])[labels[480:]]
    assert mixed_in(x, labels, splits) == {("test", 0, 1): 1.0, ("test", 1, 0): 1.0}


@pytest.mark.parametrize("moved", [60, 120])
def test_a_folder_with_another_class_in_it_stands_out(moved):
    x, labels = blobs(n=600, spread=1.5)
    labels[np.flatnonzero(labels == 2)[:moved]] = 1  # of 200
    mixed = mixed_in(x, labels, {"all": np.arange(600)})
    assert {(given, suggested) for _, given, suggested in mixed} <= {(1, 2), (2, 1)}
    assert mixed


def test_two_folders_of_the_same_images_stand_out():
    x, labels = blobs(n=600)
    x[labels == 1] = x[labels == 0] + 0.1
    mixed = mixed_in(x, labels, {"all": np.arange(600)})
    assert {(given, suggested) for _, given, suggested in mixed} <= {(0, 1), (1, 0)}
    assert mixed


def test_confident_learning_by_hand():
    p = np.array([[0.9, 0.1]] * 5 + [[0.2, 0.8]] * 5 + [[0.1, 0.9], [0.45, 0.55], [0.3, 0.7]])
    labels = np.array([0] * 5 + [1] * 5 + [0, 0, 1])
    # usual of class 0: (5 * 0.9 + 0.1 + 0.45) / 7 = 0.72; of class 1: (5 * 0.8 + 0.7) / 6 = 0.783
    assert label_errors(p, labels) == [LabelError(10, 0, 1, 0.1, 0.9)]


def test_classes_with_few_images_are_left_out():
    p = np.array([[0.9, 0.1]] * 6 + [[0.95, 0.05]] * 4)
    labels = np.array([0] * 6 + [1] * 4)
    assert label_errors(p, labels) == []
    assert label_errors(np.vstack([p, p[-1:]]), np.append(labels, 1)) != []


def test_a_class_is_mixed_from_how_much_on():
    labels = np.array([0] * 40 + [1] * 40)
    every = {"all": np.arange(80)}

    def mixed(zeros_taken_for_1, ones_taken_for_0=0, sure=True):
        p = np.tile([0.9, 0.1], (80, 1))
        p[40:] = [0.1, 0.9]
        p[:zeros_taken_for_1], p[40 : 40 + ones_taken_for_0] = [0.1, 0.9], [0.9, 0.1]
        errors = [LabelError(place, 0, 1, 0.1, 0.9) for place in range(zeros_taken_for_1)]
        errors += [LabelError(40 + place, 1, 0, 0.1, 0.9) for place in range(ones_taken_for_0)]
        return mixed_classes(p, errors if sure else [], labels, every)

    assert mixed(16, sure=False) == [Mixed("all", 0, 1, 16, 40)]
    assert mixed(15, sure=False) == []  # less than two fifths
    assert mixed(5) == [Mixed("all", 0, 1, 5, 40)]
    assert mixed(4) == []  # a tenth, but few
    assert mixed(7, 2) == [Mixed("all", 0, 1, 7, 40)]
    assert mixed(6, 3) == []  # each is taken for the other


def test_cross_validation_is_that_of_scikit_learn(monkeypatch):
    x, labels = blobs(n=100, spread=3.0)
    penalty = 0.1
    monkeypatch.setattr(module, "PENALTIES", (penalty,))
    monkeypatch.setattr(module, "sharpened", lambda scores, labels: scores)
    z = projected(x)
    every = np.arange(len(labels))
    folds = dealt(labels, every, np.random.default_rng(0).permutation(every), 5)
    own = cross_validated(x, labels, 3)
    for fold in range(5):
        inside = folds == fold
        alpha = penalty * np.trace(z[~inside].T @ z[~inside]) / z.shape[1]
        solver = Ridge(alpha=alpha, fit_intercept=False)
        expected = solver.fit(z[~inside], np.eye(3)[labels[~inside]]).predict(z[inside])
        assert np.allclose(own[inside], expected)


@pytest.mark.slow
def test_many_features_are_projected():
    x, labels = blobs(n=90, d=3000)
    assert projected(x.astype(np.float16)).shape == (90, module.MOST_FEATURES + 1)
    assert (cross_validated(x, labels, 3).argmax(1) == labels).all()


@pytest.fixture
def folder(tmp_path):
    root = write_pictures(tmp_path / "colours", per_class=12)
    (root / "red" / "0.png").replace(root / "blue" / "was-red.png")
    return root


def places(store, found):
    return [store.ids[one.place] for one in found]


def test_features_of_named_weights_find_a_wrong_label(folder, tmp_path):
    weights = tmp_path / "cache" / "weights" / "mine.safetensors"
    weights.parent.mkdir(parents=True)
    network_of(weights, architecture("small", width=0.125, pool="max"), 4)
    store = open_data(folder, image_size=16)
    p = probabilities_of(str(folder), store, weights="mine", run="")
    assert p.shape == (36, 3)
    assert places(store, label_errors(p, store.y))[0] == "blue/was-red.png"
    with pytest.raises(WeightsError, match="there are no weights 'mime'"):
        probabilities_of(str(folder), store, weights="mime", run="")


@pytest.mark.slow
def test_a_run_on_other_data_is_a_judge_of_whole_classes(tmp_path, capsys):
    run = alexnet.train(write_pictures(tmp_path / "right"), LONGER, out=tmp_path / "run")
    swapped = write_pictures(tmp_path / "swapped", per_class=10)
    (swapped / "red").rename(swapped / "aside")
    (swapped / "blue").rename(swapped / "red")
    (swapped / "aside").rename(swapped / "blue")
    store = open_data(swapped, image_size=16)
    p = probabilities_of(str(swapped), store, weights="", run=str(run))
    assert "was trained on other data" in capsys.readouterr().err
    mixed = mixed_classes(p, label_errors(p, store.y), store.y, {"all": np.arange(30)})
    blue, red = sorted(HUES).index("blue"), sorted(HUES).index("red")
    assert {(one.given, one.suggested) for one in mixed} >= {(blue, red), (red, blue)}


def test_the_own_run_gives_features_only(folder, tmp_path, capsys):
    run = alexnet.train(folder, TINY, out=tmp_path / "run")
    store = open_data(folder, image_size=16)
    p = probabilities_of(str(folder), store, weights="", run=str(run))
    assert "other data" not in capsys.readouterr().err
    assert "blue/was-red.png" in places(store, label_errors(p, store.y))
    with pytest.raises(RunError, match="is not a run directory"):
        probabilities_of(str(folder), store, weights="", run=str(tmp_path))
