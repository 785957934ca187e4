"""How far `learning-curve` and `suggest` can be trusted.

    uv run benchmarks/next.py curve real-data/photos real-data/tiny-imagenet-100 real-data/cifar10
    uv run benchmarks/next.py suggest real-data/photos real-data/tiny-imagenet-100

On features of the backbone, of images that it was not trained on: all of a folder, or the test
split of data that has one.

Curve: classes drawn at random, some images of each. The forecast is made from these alone. The
truth is the accuracy on the images that are left of a logistic regression on twice as many: the
first ones and others, three times drawn, of which the mean is meant.

Suggest: three images of each class to begin with; five times 20 more, as the rule, chance, or the
doubt alone choose, and a logistic regression after each time, looked at on images set aside.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import alexnet
from alexnet.checking.learning_curve import right_by_size
from alexnet.checking.suggestions import chosen, doubt
from alexnet.network.frozen import FrozenPart, evaluation_view, feature_stores
from alexnet.runs.calibration import unit
from alexnet.scoring.learning_curve import forecast
from alexnet.training.train import set_up

# classes and images of each, by how many images a data set has of a class at most
CASES = {
    40: [(6, 9), (6, 11), (5, 10), (4, 10)],
    60: [(5, 15), (10, 10), (10, 20), (20, 10), (20, 20), (50, 10)],
    1000: [(2, 30), (3, 20), (3, 100), (5, 20), (5, 50), (10, 10), (10, 50)],
}
DRAWS, SEEDS, START, ROUNDS, COUNT = 3, 5, 3, 5, 20
CLASSES, ASIDE = 20, 0.4  # classes that are drawn at most, and the share that is only looked at
RULES = ("suggest", "chance", "doubt alone")
PENALTY = 0.01  # as of fitting.linear


class Features:
    """What the frozen convolutions make of a data set, (N, 1920), with labels (N,)."""

    def __init__(self, data):
        recipe = alexnet.recipe("folder", weights="backbone", views=1)
        self.inputs = inputs = set_up(data, recipe).inputs
        store, body = inputs.store, inputs.model.split("conv")[0]
        rows = store.split("test") if len(store.split("test")) else np.arange(len(store))
        frozen = FrozenPart(body, inputs.device, inputs.dtype)
        view = evaluation_view(inputs.preprocessing)
        found = feature_stores(frozen, store, rows, [view], inputs.recipe.crop)
        self.x = np.asarray(found.stores[0].x)[found.place(rows)].astype(np.float32)
        self.y = np.asarray(store.y)[rows].astype(np.int64)

    def draw(self, classes, generator):
        """Images of some classes, by class, and their labels from 0 on, -1 for all others."""
        known = generator.permutation(self.y.max() + 1)[:classes]
        label = np.full(self.y.max() + 1, -1)
        label[known] = np.arange(len(known))
        rows = [generator.permutation(np.flatnonzero(self.y == one)) for one in known]
        return rows, label[self.y]

    def descriptors(self, rows):
        found = self.inputs.model.descriptor(torch.from_numpy(self.x[rows]))
        return unit(found).numpy()


def head(x, y, rows):
    """A logistic regression on some images, as `alexnet teach` solves it."""
    regression = LogisticRegression(C=1 / (PENALTY * len(rows)), max_iter=100)
    return make_pipeline(StandardScaler(), regression).fit(x[rows], y[rows])


def case(features, classes, count, seed):
    """The forecast, the truth now and with twice as many."""
    generator = np.random.default_rng(seed)
    by_class, y = features.draw(classes, generator)
    x = features.x
    pool = np.concatenate([rows[:count] for rows in by_class])
    begun = time.monotonic()
    right, sizes = right_by_size(x[pool], y[pool], None, len(by_class))
    found, seconds = forecast(right, sizes, len(pool)), time.monotonic() - begun
    before, truth = head(x, y, pool), []
    for _ in range(DRAWS):
        others = [generator.permutation(rows[count:]) for rows in by_class]
        test = np.concatenate([rows[count:] for rows in others])
        more = head(x, y, np.concatenate([pool, *(rows[:count] for rows in others)]))
        truth.append([one.score(x[test], y[test]) for one in (before, more)])
    return found, np.mean(truth, 0), seconds


def curve(names, seed):
    held = []
    print(
        "images, classes: accuracy now; with twice as many, forecast (band), truth; gain likewise"
    )
    for name in names:
        features = Features(name)
        cases = CASES[next(most for most in CASES if np.bincount(features.y).max() <= most)]
        for number, (classes, count) in enumerate(cases):
            found, (now, twice), seconds = case(features, classes, count, seed + number)
            bands = (found.twice_band, twice), (found.gain_band, twice - now)
            inside = [low <= one <= high for (low, high), one in bands]
            held.append([*inside, *(high - low for (low, high), _ in bands)])
            told = [
                f"{100 * one:.1f} ({100 * low:.1f} to {100 * high:.1f}) {100 * true:.1f}"
                + ("" if low <= true <= high else " OUT")
                for one, ((low, high), true) in zip((found.twice, found.gain), bands, strict=True)
            ]
            what = f"{name} {classes * count}, {classes}: {100 * now:.1f}"
            print("; ".join([what, *told, f"{seconds:.1f} s"]), flush=True)
    accuracy, gain, *widths = np.transpose(held)
    print(
        f"within the band: accuracy {accuracy.sum():.0f} of {len(held)}, median width "
        f"{100 * np.median(widths[0]):.1f} points; gain {gain.sum():.0f}, "
        f"{100 * np.median(widths[1]):.1f}"
    )


def rounds(features, rule, seed):
    """(ROUNDS + 1,) accuracies."""
    generator = np.random.default_rng(seed)
    by_class, y = features.draw(CLASSES, generator)
    known = np.concatenate([rows[:START] for rows in by_class])
    rest = generator.permutation(np.concatenate([rows[START:] for rows in by_class]))
    test, pool = np.split(rest, [round(ASIDE * len(rest))])
    found = []
    for number in range(ROUNDS + 1):
        model = head(features.x, y, known)
        found.append(model.score(features.x[test], y[test]))
        if number == ROUNDS:
            return found
        doubts = doubt(model.predict_proba(features.x[pool]))
        if rule == "suggest":
            x, seen = features.descriptors(pool), features.descriptors(known)
            order = np.array([place for place, _ in chosen(doubts, x, seen, COUNT)])
        else:
            order = generator.permutation(len(pool)) if rule == "chance" else np.argsort(-doubts)
        places = order[:COUNT]
        known, pool = np.append(known, pool[places]), np.delete(pool, places)
    return found


def suggest(names, seed):
    for name in names:
        features = Features(name)
        print(f"{name}: accuracy before, and after each {COUNT} of {ROUNDS}; {SEEDS} seeds")
        every = {}
        for rule in RULES:
            drawn = [rounds(features, rule, seed + number) for number in range(SEEDS)]
            every[rule] = np.array(drawn)
            told = " ".join(f"{100 * one:.1f}" for one in every[rule].mean(0))
            print(f"  {rule:12s} {told}", flush=True)
        for rule in ("suggest", "doubt alone"):
            better = 100 * (every[rule] - every["chance"])
            for what, values in (("last", better[:, -1]), ("mean", better[:, 1:].mean(1))):
                half = 2.776 * values.std(ddof=1) / SEEDS**0.5  # t of four degrees of freedom
                print(f"  {rule} over chance, {what}: {values.mean():+.1f} +- {half:.1f} (95 %)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=["curve", "suggest"])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    {"curve": curve, "suggest": suggest}[given.part](given.data, given.seed)


if __name__ == "__main__":
    main()
