"""A classifier as scikit-learn's own are: made with fields of a recipe, fitted to images and
labels, cloned, searched over, pickled."""

import contextlib
import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from alexnet.classification.run_classifier import RunClassifier, load_run
from alexnet.console import hushed
from alexnet.data.datasets import open_data
from alexnet.data.handed import labelled
from alexnet.data.objects import as_list
from alexnet.data.store import Store
from alexnet.data.tables import words_of
from alexnet.errors import InputError, did_you_mean
from alexnet.network.frozen import FrozenPart, evaluation_view, feature_batches, feature_stores
from alexnet.network.inference import EVALUATION_BATCH, evaluation_views, predict_logits
from alexnet.recipes import FIELD_TYPES, Recipe
from alexnet.runs.directory import RunDirectory
from alexnet.runtime import as_found
from alexnet.scoring.metrics import softmax
from alexnet.training.train import train

# what a search over recipes does without
UNSEEN = {"report": False, "tensorboard": False, "save_every": 1_000_000}


class InputValueError(InputError, ValueError):
    """What was given cannot be used; a ValueError, as scikit-learn expects one."""


@contextlib.contextmanager
def value_errors() -> Iterator[None]:
    """Errors in what was given leave the block as scikit-learn's callers expect them."""
    try:
        yield
    except InputError as error:
        raise InputValueError(error.message, error.hint) from error


class AlexNetClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An AlexNet as an estimator of scikit-learn: `fit(X, y)`, `predict(X)`, `predict_proba(X)`,
    `score(X, y)`; for `cross_val_score`, `GridSearchCV` and pipelines.

    `fit` is `alexnet.train` on these images, a share of which (`val_size`) chooses the epoch; the
    run directory is thrown away afterwards. Frozen layers run once over the same images, whichever
    estimator asks.

    Args:
        recipe: the name of a preset.
        fields: of the Recipe, which amend it: `AlexNetClassifier(lr=0.02, epochs=10)`.

    Attributes:
        classes_: (K,) the labels, sorted; the columns of `predict_proba`.
        model_: the alexnet.Classifier that was trained.
        recipe_: what was trained, a Recipe in which nothing is left open.
        history_: what each epoch came to.
        metrics_: figures on the images that chose the epoch.
    """

    def __init__(self, recipe: str = "folder", **fields: Any) -> None:
        self.recipe = recipe
        for name in FIELD_TYPES:
            setattr(self, name, fields.pop(name, None))  # None: as the preset has it
        for name in fields:
            raise TypeError(f"there is no recipe field {name!r}. {did_you_mean(name, FIELD_TYPES)}")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        inputs = tags.input_tags
        inputs.one_d_array, inputs.two_d_array, inputs.three_d_array = True, False, True
        inputs.string = True  # paths
        return tags

    @as_found()
    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Trains on images.

        Args:
            X: N images, as `alexnet.Classifier.predict` takes them: paths, Pillow images, arrays.
            y: (N,) labels.
            groups: (N,) what belongs together: validation takes whole groups.

        Raises:
            ValueError: images, labels or fields that cannot be used; an AlexNetError, too.
        """
        if y is None:
            raise InputValueError("It requires y to be passed, but the target y is None.")
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        names = [words_of(one) for one in y.tolist()]
        given = {name: getattr(self, name) for name in FIELD_TYPES}
        fields = UNSEEN | {name: one for name, one in given.items() if one is not None}
        folder = tempfile.TemporaryDirectory(prefix="alexnet-")
        with value_errors(), hushed(), folder as aside:
            data = labelled({"train": (*_images(X, names), groups)})
            run = train(data, self.recipe, out=Path(aside) / "run", **fields)
            self.model_: RunClassifier = load_run(
                run, device=fields.get("device", "auto"), precision=fields.get("precision", "auto")
            )
            self.recipe_: Recipe = RunDirectory(run).settings.recipe
            self.history_, self.metrics_ = self.model_.history, self.model_.metrics
        found = self.model_.classes
        self._columns_ = [found.index(words_of(one)) for one in self.classes_.tolist()]
        return self

    @as_found()
    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """(N, K) probabilities of the classes, in the order of `classes_`."""
        check_is_fitted(self)
        with value_errors(), hushed():
            images = as_list(X)
            if not images:
                raise InputError("there are no images.", "Give one at least.")
            store = self._store(X if len(images) == len(X) else images)
            p = softmax(self._logits(store)).astype(np.float32)
        found: NDArray[np.float32] = p[:, self._columns_]
        return found

    def predict(self, X: Any) -> NDArray[Any]:
        """(N,) the most probable class of each image."""
        best: NDArray[Any] = self.predict_proba(X).argmax(1)
        found: NDArray[Any] = self.classes_[best]
        return found

    def _store(self, X: Any) -> Store:
        """Images, packed as those that were trained on."""
        data = labelled(_images(X, ["-"] * len(X)))
        how = self.model_.trained.preprocessing
        return open_data(data, image_size=how.image_size, white=how.range)

    def _logits(self, store: Store) -> NDArray[np.float32]:
        """(N, K) of a Store. What is frozen, and was not trained afterwards, has run over the same
        images once where they were asked for before."""
        model, how = self.model_.model, self.model_.trained.preprocessing
        device, dtype, recipe = self.model_.device, self.model_.dtype, self.recipe_
        rows = np.arange(len(store))
        if recipe.freeze == "none" or not recipe.cache or recipe.finetune_epochs:
            views = evaluation_views(store, rows, how, device)
            return predict_logits(model, views, dtype, "classifying")[0].numpy()
        body, head = model.split(recipe.freeze)
        wanted = [evaluation_view(how), evaluation_view(how, mirror=True)][: how.views]
        features = feature_stores(FrozenPart(body, device, dtype), store, rows, wanted, how.crop)
        views = [
            feature_batches(
                features, rows, batch_size=EVALUATION_BATCH, device=device, views=[view]
            )
            for view in range(len(wanted))
        ]
        return predict_logits(head, views, dtype, "classifying")[0].numpy()


def _images(X: Any, labels: list[str]) -> tuple[Any, list[str]]:
    """Images with labels; a column of a DataFrame is a list of paths."""
    return X.tolist() if getattr(getattr(X, "dtype", None), "kind", "") in {"O", "U"} else X, labels


# scikit-learn reads the parameters of an estimator off its constructor
AlexNetClassifier.__init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    + [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in {"recipe": "folder", **dict.fromkeys(FIELD_TYPES)}.items()
    ]
)
