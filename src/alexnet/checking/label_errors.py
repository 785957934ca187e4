"""Images whose label is probably wrong: "confident learning" (Northcutt, Jiang and Chuang, JAIR
2021) on probabilities from a network that has not seen the images, or from cross-validation of a
linear head on frozen features.

Shapes: N examples, D features, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from sklearn.metrics import confusion_matrix
from torch import nn

from alexnet.console import progress, warn
from alexnet.data.datasets import open_data
from alexnet.data.sources import Data
from alexnet.data.splits import dealt, kept_together
from alexnet.data.store import Store
from alexnet.errors import DataError
from alexnet.network.description import Preprocessing
from alexnet.network.frozen import FrozenPart, evaluation_view, feature_stores
from alexnet.network.inference import evaluation_views, predict_logits
from alexnet.network.model import AlexNet
from alexnet.network.weights import carry_over
from alexnet.recipes import Recipe
from alexnet.runs.directory import RunDirectory
from alexnet.runs.resolution import starting_weights
from alexnet.runtime import choose_device, choose_precision
from alexnet.scoring.metrics import softmax

FOLDS = 5
MOST_FEATURES = 1024  # more are projected at random: distances stay, the solution takes seconds
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # of ridge regression, relative to the variance of a feature
CHUNK = 4096  # examples projected at once
FEWEST = FOLDS  # images of a class; with fewer a fold may be without it
# A class stands out if so much of it is taken for one other class, and at least so many images; or
# less of it, with confidence, and so many times as much as the other way round
LARGE, COUNT, SHARE, ONE_WAY = 0.4, 5, 0.1, 3.0

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]


class LabelError(NamedTuple):
    """An image whose label is probably wrong."""

    place: int  # in the Store
    given: int
    suggested: int
    p_given: float
    p_suggested: float


@dataclass(frozen=True)
class Mixed:
    """A class of which much is taken for one other class."""

    split: str
    given: int
    suggested: int
    count: int
    of: int


def probabilities_of(data: Data, store: Store, *, weights: str, run: str) -> Probabilities:
    """(N, K) probabilities of every image of a Store, none from a head that was fitted to it.

    Of a `run` that was trained on other data with these classes, what it predicts; of any other
    run, and of `weights`, cross-validated over the features of its frozen layers.

    Raises:
        RunError, WeightsError: there is no such run, or there are no such weights.
    """
    device = choose_device("auto")
    dtype, _ = choose_precision("auto", device)
    if run:
        directory = RunDirectory(run)
        trained = directory.load()
        model, how = trained.model, trained.preprocessing
        known = set(store.classes) <= set(trained.classes)
        images = open_data(data, image_size=how.image_size, bad_images="skip", white=how.range)
        if known and directory.settings.fingerprint != store.fingerprint:
            warn(f"{run} was trained on other data: labels are compared with what it predicts")
            model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            views = evaluation_views(images, np.arange(len(images)), how, device)
            logits, _ = predict_logits(model, views, dtype, "predicting")
            chosen = [trained.classes.index(name) for name in store.classes]
            return softmax(logits.numpy()[:, chosen])
        body = seeing_part(directory.settings.recipe, model)
    else:
        network = starting_weights(weights)
        how = network.preprocessing
        model = AlexNet(network.architecture, len(store.classes))
        carry_over(model, network, store.classes)
        images = open_data(data, image_size=how.image_size, bad_images="skip")
        body = model.split("conv")[0]
    if len(images) != len(store):  # the source changed in between
        raise DataError(f"{data} has changed while it was read.", "Start the check again.")
    features = features_of(body, how, images, device)
    together = kept_together(store, np.arange(len(store)))
    return cross_validated(features.x, store.y, len(store.classes), together)


def seeing_part(recipe: Recipe, model: AlexNet) -> nn.Sequential:
    """The part of a run's network to look at its own data with: what was frozen, which has never
    heard of a label; else all but the last layer."""
    frozen = recipe.freeze != "none" and not recipe.finetune_epochs
    return model.split(recipe.freeze if frozen else "all-but-last")[0]


def features_of(
    body: nn.Sequential, how: Preprocessing, images: Store, device: torch.device
) -> Store:
    """What a part of a network makes of every image of a Store, (N, D), from the cache."""
    frozen = FrozenPart(body, device, choose_precision("auto", device)[0])
    every = np.arange(len(images))
    return feature_stores(frozen, images, every, [evaluation_view(how)], how.crop).stores[0]


def cross_validated(
    x: NDArray[np.floating], labels: Labels, classes: int, groups: Labels | None = None
) -> Probabilities:
    """(N, K) probabilities of examples with features x (N, D), each from a ridge regression on the
    other four fifths, of which none is of its group; the penalty and the sharpness are those that
    suit all of them best."""
    z = projected(x)
    every = np.arange(len(labels))
    rank = np.random.default_rng(0).permutation(every)
    folds = dealt(labels, every if groups is None else groups, rank, FOLDS)
    targets = np.eye(classes)[labels]
    parts = [np.flatnonzero(folds == fold) for fold in range(FOLDS)]
    grams = [z[part].T @ z[part] for part in parts]
    products = [z[part].T @ targets[part] for part in parts]
    best, best_right = np.zeros_like(targets), -1
    with progress("cross-validation", FOLDS * len(PENALTIES)) as advance:
        for penalty in PENALTIES:
            scores = np.empty_like(targets)
            for fold, part in enumerate(parts):
                gram = sum(grams) - grams[fold]
                gram[np.diag_indices_from(gram)] += penalty * np.trace(gram) / len(gram)
                weight = cho_solve(cho_factor(gram), sum(products) - products[fold])
                scores[part] = z[part] @ weight
                advance(1)
            right = int((scores.argmax(1) == labels).sum())
            if right > best_right:
                best, best_right = scores, right
    return sharpened(best, labels)


def projected(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, D') standardised features and a constant, D' at most MOST_FEATURES + 1."""
    n, d = x.shape
    projection = None
    if d > MOST_FEATURES:
        generator = np.random.default_rng(0)
        projection = generator.standard_normal((d, MOST_FEATURES), np.float32) / np.float32(d**0.5)
    z = np.ones((n, min(d, MOST_FEATURES) + 1))
    for start in range(0, n, CHUNK):
        chunk = np.asarray(x[start : start + CHUNK], np.float32)
        z[start : start + CHUNK, 1:] = chunk if projection is None else chunk @ projection
    z[:, 1:] -= z[:, 1:].mean(0)
    z[:, 1:] /= np.maximum(z[:, 1:].std(0), 1e-6)
    return z


def sharpened(scores: Probabilities, labels: Labels) -> Probabilities:
    """Softmax of scores (N, K) times the number under which the labels are likeliest."""

    def loss(power: float) -> float:
        chosen = softmax(scores * 10**power)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    return softmax(scores * 10 ** minimize_scalar(loss, bounds=(-1, 3), method="bounded").x)


def label_errors(probabilities: Probabilities, labels: Labels) -> list[LabelError]:
    """The examples that are taken for another class with at least the confidence that examples
    labelled so usually have; first those whose own label is the least probable, which finds nearly
    twice as many of planted errors in the first looks as the distance between the two classes does.

    Classes with fewer than five images are left out.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    usual = np.full(classes, np.inf)  # nothing is confidently of a class without images
    for label in np.flatnonzero(counts >= FEWEST):
        usual[label] = probabilities[labels == label, label].mean()
    best = probabilities.argmax(1)
    every = np.arange(len(labels))
    p_best, p_given = probabilities[every, best], probabilities[every, labels]
    wrong = (best != labels) & (p_best >= usual[best]) & (counts[labels] >= FEWEST)
    found = [
        LabelError(
            int(n), int(labels[n]), int(best[n]), round(float(p_given[n]), 4),
            round(float(p_best[n]), 4),
        )
        for n in np.flatnonzero(wrong)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.p_given, -one.p_suggested))


def mixed_classes(
    probabilities: Probabilities,
    errors: Sequence[LabelError],
    labels: Labels,
    splits: dict[str, Labels],
) -> list[Mixed]:
    """Classes of which, in one split, much is taken for one other class: at least two fifths, or a
    tenth with confidence, three times as much as the other way round; the worst first.

    They are swapped, or hold each other's images, or cannot be told apart.
    """
    k = probabilities.shape[1]
    best = probabilities.argmax(1)
    doubted = np.zeros(len(labels), dtype=bool)
    doubted[[one.place for one in errors]] = True
    found = []
    for split, places in splits.items():
        of = np.bincount(labels[places], minlength=k)
        taken = confusion_matrix(labels[places], best[places], labels=np.arange(k))
        sure = places[doubted[places]]
        doubts = np.zeros((k, k), dtype=int)
        np.add.at(doubts, (labels[sure], best[sure]), 1)
        share = doubts / np.maximum(of, 1)[:, None]
        large = (taken >= LARGE * of[:, None]) & (taken >= COUNT)
        one_way = (share >= SHARE) & (share >= ONE_WAY * share.T) & (doubts >= COUNT)
        np.fill_diagonal(large, False)
        found += [
            Mixed(split, int(given), int(other), int(taken[given, other]), int(of[given]))
            for given, other in np.argwhere(large | one_way)
        ]
    return sorted(found, key=lambda one: -one.count / one.of)
