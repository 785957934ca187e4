"""AlexNetClassifier, as scikit-learn uses its estimators."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from makers import picture
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import alexnet
from alexnet import AlexNetClassifier

BRIEF: dict[str, Any] = {
    "image_size": 16, "pool": "max", "width": 0.125, "batch_size": 16, "epochs": 2, "lr": 0.05,
    "dropout": 0.0, "weights": "none", "freeze": "none", "val_size": 0.2, "finetune_epochs": 0,
    "head": "trained", "precision": "fp32", "warmup": 0.0,
}  # fmt: skip


def pictures(each, classes=("blue", "red"), start=0):
    names = [name for name in classes for _ in range(each)]
    images = [np.asarray(picture(name, seed + start)) for seed, name in enumerate(names)]
    return np.stack(images), np.array(names)


X, Y = pictures(10)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_CACHE", str(tmp_path_factory.mktemp("estimator")))
        yield AlexNetClassifier(**BRIEF).fit(X, Y)


def test_it_says_what_it_was_made_with():
    model = AlexNetClassifier(lr=0.1, epochs=3)
    given = {name: one for name, one in model.get_params().items() if one is not None}
    assert given == {"recipe": "folder", "lr": 0.1, "epochs": 3}
    assert repr(model) == "AlexNetClassifier(epochs=3, lr=0.1)"
    again = clone(model).set_params(lr=0.2)
    assert again.get_params()["lr"] == 0.2 and model.lr == 0.1
    with pytest.raises(ValueError, match="Invalid parameter 'momentun'"):
        model.set_params(momentun=0.9)
    with pytest.raises(TypeError, match="Did you mean 'momentum'"):
        AlexNetClassifier(momentun=0.9)


def test_it_predicts_with_the_labels_that_it_was_given(fitted, capsys):
    assert fitted.classes_.tolist() == ["blue", "red"]
    p = fitted.predict_proba(X)
    assert p.shape == (20, 2) and np.allclose(p.sum(1), 1, atol=1e-6)
    assert fitted.predict(X[:3]).tolist() == fitted.classes_[p[:3].argmax(1)].tolist()
    assert fitted.score(X, Y) == (fitted.predict(X) == Y).mean()
    assert len(fitted.history_) == 2 and fitted.metrics_["split"] == "val"
    assert capsys.readouterr().err == ""


def test_it_can_be_pickled(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.get_params() == fitted.get_params()


@pytest.mark.slow
def test_numbers_stay_numbers_and_in_order(tmp_path):
    y = np.array([10, 2] * 10)
    model = AlexNetClassifier(**BRIEF | {"epochs": 1}).fit(X, y)
    assert model.classes_.tolist() == [2, 10]
    assert set(model.predict(X[:4]).tolist()) <= {2, 10}


@pytest.mark.slow
def test_it_is_what_train_gives(fitted, tmp_path):
    run = alexnet.train({"train": (X, Y)}, "folder", out=tmp_path / "run", report=False, **BRIEF)
    other = pictures(10, start=500)
    figures = alexnet.evaluate(run, {"test": other})
    assert fitted.score(*other) == figures["top1"]
    assert fitted.metrics_["top1"] == alexnet.load(run).metrics["top1"]


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X, Y[:-1], "20 images and 19 labels"),
        (X / 255 * 2, Y, "holds numbers from"),
        (X, None, "requires y"),
        (X.reshape(20, -1), Y, "expected \\(N, H, W\\)"),
        (X, ["a"] * 20, "one class only"),
        (X, np.linspace(0, 1, 20), "Unknown label type"),
    ],
)
def test_what_cannot_be_used_is_a_value_error(x, y, words):
    with pytest.raises(ValueError, match=words):
        AlexNetClassifier(**BRIEF).fit(x, y)


@pytest.mark.slow
def test_it_is_cross_validated_searched_and_part_of_a_pipeline():
    model = AlexNetClassifier(**BRIEF)
    folds = cross_val_score(model, X, Y, cv=2)
    assert len(folds) == 2
    groups = np.arange(20) // 2
    assert len(cross_val_score(model, X, Y, cv=GroupKFold(2), groups=groups)) == 2
    search = GridSearchCV(model, {"lr": [0.05, 0.01]}, cv=2).fit(X, Y)
    first = search.cv_results_["mean_test_score"][0]
    assert first == folds.mean()
    assert search.best_estimator_.predict(X).shape == (20,)
    paler = make_pipeline(FunctionTransformer(lambda x: x // 2 + 64), model).fit(X, Y)
    assert set(paler.predict(X)) <= {"blue", "red"}
    model.fit(X, Y, groups=groups)


class Flat(AlexNetClassifier):
    """For scikit-learn's checks, whose data are rows of numbers: each a small grey picture."""

    __init__ = AlexNetClassifier.__init__

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        tags.classifier_tags.poor_score = True  # after two epochs
        return tags

    def images(self, x, reset):
        from sklearn.utils.validation import validate_data

        x = validate_data(self, x, reset=reset, dtype="numeric")
        grey = 1 / (1 + np.exp(-x.astype(np.float64)))
        return np.repeat(np.repeat(grey[:, None, :], 8, 1), 8, 2)[:, :, :64].astype(np.float32)

    def fit(self, X, y, groups=None):
        return super().fit(self.images(X, reset=True), y, groups)

    def predict_proba(self, X):
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return super().predict_proba(self.images(X, reset=False))


@pytest.mark.slow
def test_check_estimator():
    """Every check passes on a class that makes pictures of scikit-learn's rows of numbers; of the
    estimator itself, which takes no such rows, few are made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(Flat(**BRIEF), on_fail=None, on_skip=None)
        own = check_estimator(AlexNetClassifier(**BRIEF), on_skip=None, on_fail=None)
    assert [one["check_name"] for one in own + found if one["status"] == "failed"] == []
    skipped = [one["check_name"] for one in found if one["status"] == "skipped"]
    assert skipped == ["check_array_api_input"]  # unless SciPy is told to know such arrays
    assert len(found) >= 55
