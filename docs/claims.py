"""What the paper of 2012 says its tricks bring, and what they bring in the studies paper-claims and
paper-relu: sweeps -> results/paper-claims.json -> a table and a figure, for results.py.

Accuracies are shares from 0 to 1. Shapes: S trainings (seeds), N images.
"""

import dataclasses
import math
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy import stats

from alexnet.presets import STUDIES
from alexnet.reporting.charts import per_cent
from alexnet.reporting.drawing import ACCENT, FAINT, INK, LIGHT, PAPER, SERIES, Drawing, Hover
from alexnet.runs.directory import RunDirectory
from alexnet.runs.evaluation import evaluate_run
from alexnet.scoring.significance import Difference, Hits, TrainingNoise, difference, training_noise
from alexnet.sweeping.directory import SweepDirectory
from alexnet.sweeping.trials import plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRICKS, RELU = "paper-claims", "paper-relu"  # the studies
VIEWS = {"views": 10}  # of the networks of the first point, which need no other training
GOAL, REACHED = 0.25, "25 % training error"


@dataclass(frozen=True)
class Claim:
    """A trick, and what it is said to bring."""

    trick: str
    change: dict[str, Any]  # the point of the study that has it not; VIEWS
    said: str
    points: float | None = None  # of top-1 accuracy on ImageNet, as a share


CLAIMS = [
    Claim("two columns, not one of half their width", {"columns": 1, "width": 0.25}, "+1.7", 0.017),
    Claim("links between the columns", {"columns": "unlinked"}, "+1.2 (the logs)", 0.0116),
    Claim("a fifth convolution", {"conv_layers": 4}, "about +2", 0.02),
    Claim("local response normalisation", {"norm": "none"}, "+1.4; +2 on CIFAR-10", 0.014),
    Claim("overlapping pooling, not 2x2", {"pool": "max"}, "+0.4", 0.004),
    Claim("dropout", {"dropout": 0.0}, "much less overfitting, twice the epochs"),
    Claim("colour noise", {"lighting": 0.0}, "over +1", 0.01),
    Claim("ten views, not one", VIEWS, "+1.5", 0.015),
]


# -- what is read ----------------------------------------------------------------------------------


def points(path: Path, study: str) -> list[tuple[dict[str, Any], list[RunDirectory]]]:
    """Every point of a study with its runs, one for each seed."""
    one = STUDIES[study]
    trials = plan(one.base, one.points, seeds=one.seeds)
    runs = [SweepDirectory(path).trial(trial.name) for trial in trials]
    each = [runs[place : place + one.seeds] for place in range(0, len(runs), one.seeds)]
    return list(zip(one.points, each, strict=True))


def found_in(tricks: Path, relu: Path) -> dict[str, Any]:
    """What two sweeps came to, JSON-ready."""
    of_tricks, of_relu = points(tricks, TRICKS), points(relu, RELU)
    (_, start), *others = of_tricks
    base = hits_of(start)
    hits = {str(change): hits_of(runs) for change, runs in others}
    noise = training_noise([base, *hits.values()])
    compared = {change: difference(base, its, noise) for change, its in hits.items()}
    hits[str(VIEWS)] = np.stack([ten_views(run) for run in start])
    compared[str(VIEWS)] = of_the_same(hits[str(VIEWS)], base)
    runs = [run for _, its in [*of_tricks, *of_relu] for run in its]
    return {
        "images": base.shape[1],
        "trained_on": trained_on(start[0]),
        "seeds": len(base),
        "deviation": rounded([noise.deviation or 0.0])[0],
        "seconds": round(sum(epoch["seconds"] for run in runs for epoch in run.epochs())),
        "trainings": len(runs),
        "start": rounded(base.mean(1)),
        "claims": {
            claim.trick: {
                "other": rounded(hits[str(claim.change)].mean(1)),
                "difference": rounded(dataclasses.astuple(compared[str(claim.change)])),
            }
            for claim in CLAIMS
        },
        "relu": [point | {"errors": [errors_of(run) for run in its]} for point, its in of_relu],
    }


def hits_of(runs: list[RunDirectory]) -> Hits:
    """(S, N) of the same validation images."""
    each = [run.predictions() for run in runs]
    if any(one.ids != each[0].ids for one in each):
        raise SystemExit("These runs looked at different images.")
    return np.stack([one.hits for one in each])


def ten_views(run: RunDirectory) -> Hits:
    """(N,) of the validation images, looked at in ten views."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.npz"
        evaluate_run(run.path, split="val", save=str(path), views=10)
        with np.load(path) as found:
            return cast("Hits", found["logits"].argmax(1) == found["labels"])


def of_the_same(one: Hits, other: Hits) -> Difference:
    """The difference of two readings of the same trainings: what counts is by how much their
    differences differ, which `difference` takes for that of two independent trainings."""
    gained = training_noise([cast("Hits", one.astype(np.int8) - other.astype(np.int8))])
    noise = TrainingNoise(gained.variance / 2, gained.of_images / 2, gained.degrees)
    return difference(one, other, noise)


def trained_on(run: RunDirectory) -> int:
    """How many images a run was trained on."""
    asked = run.settings.asked
    return round(50_000 * asked.fraction * (1 - asked.val_size))


def errors_of(run: RunDirectory) -> list[float]:
    """The training error of each epoch, measured while it goes on."""
    return rounded([1 - one["train_top1"] for one in run.epochs()])


def rounded(shares: Iterable[float]) -> list[float]:
    """To what a file keeps."""
    return [round(float(one), 6) for one in shares]


# -- what is written -------------------------------------------------------------------------------


def verdict(points: float | None, low: float, high: float) -> str:
    """Whether an interval agrees with a figure (None: there is no figure, only a word)."""
    if points is None:
        return "helps" if low > 0 else "costs" if high < 0 else "not told from noise"
    if low > 0:
        size = "" if low <= points <= high else ", and more" if low > points else ", but less"
        return f"agrees{size}"
    if high < 0:
        return "**the opposite here**"
    return "too noisy to say" if points <= high else "**not here**"


def rows(found: dict[str, Any]) -> list[list[str]]:
    """The table: claim, the paper's figure, ours with its interval, whether they agree."""
    told = []
    for claim in CLAIMS:
        mean, low, high = found["claims"][claim.trick]["difference"]
        ours = f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        told.append([claim.trick, claim.said, ours, verdict(claim.points, low, high)])
    return [*told, relu_row(found)]


def relu_row(found: dict[str, Any]) -> list[str]:
    """How much sooner ReLU reaches the goal than tanh, each from the better of its beginnings."""
    fastest = {
        kind: min((epochs_to(one) for one in found["relu"] if one["activation"] == kind), key=sum)
        for kind in ("relu", "tanh")
    }
    ratios = np.log(np.array(fastest["tanh"]) / np.array(fastest["relu"]))
    ours, agree = "not reached by all", "cannot be said"
    if np.isfinite(ratios).all():
        half = stats.t.ppf(0.975, len(ratios) - 1) * stats.sem(ratios)
        mean, low, high = ratios.mean() + np.array([0, -half, half])
        ours = f"{math.exp(mean):.2f} times ({math.exp(low):.2f} to {math.exp(high):.2f})"
        agree = verdict(math.log(6), low, high)
    said = "6 times as many iterations"
    return [f"epochs that tanh needs to {REACHED}", said, ours, agree]


def epochs_to(one: dict[str, Any]) -> list[float]:
    """After how many epochs each training reaches the goal, between two epochs by a straight line;
    infinite where it does not."""
    return [crossing(errors) for errors in one["errors"]]


def crossing(errors: list[float]) -> float:
    """The same for one training."""
    after = next((place for place, error in enumerate(errors) if error <= GOAL), None)
    if after is None:
        return float("inf")
    before = errors[after - 1] if after else 1.0
    return after + (before - GOAL) / (before - errors[after])


def section(found: dict[str, Any]) -> str:
    """What stands below the table."""
    relu = "; ".join(
        f"{one['activation']}, init {one['init']}, rate {one['lr']:g}: "
        + ", ".join("never" if math.isinf(each) else f"{each:.1f}" for each in epochs_to(one))
        for one in found["relu"]
    )
    return (
        f"n = {found['seeds']} trainings of each on {found['trained_on']:,} images, compared on "
        f"the same {found['images']:,} validation images, from a start of "
        f"{100 * statistics.mean(found['start']):.1f} %; another seed moves the accuracy by "
        f"{100 * found['deviation']:.1f} points. Each interval is of 95 % for itself, for other "
        f"images and other trainings on these training images. Epochs to {REACHED}, each seed: "
        f"{relu}. {found['trainings']} trainings, {found['seconds'] / 60:.0f} minutes of "
        f"{found['machine']}, beside other programs; alexnet {found['version']}, "
        f"{found['commit']}, {found['date']}."
    )


def told(found: dict[str, Any]) -> dict[str, str]:
    """What `alexnet recipes` says of each of the two studies."""
    each = "; ".join(f"{trick} {ours}" for trick, _, ours, _ in rows(found)[:-1])
    n = f"{found['seeds']} trainings of each on {found['trained_on']:,} images"
    _, _, ours, _ = relu_row(found)
    return {
        TRICKS: f"points of {found['images']:,} validation images, {n}: {each}",
        RELU: f"to {REACHED} tanh needs as many epochs as ReLU, {ours}; {n}",
    }


def figure(found: dict[str, Any]) -> Drawing:
    """The differences with their intervals beside the paper's figures, and training errors."""

    def paint(drawn: "Figure") -> list[Hover]:
        left, right = drawn.subplots(1, 2, width_ratios=(3, 2))
        differences(left, found)
        errors(right, found)
        return []

    return Drawing("The paper's claims on CIFAR-10", paint, 300, 800)


def differences(axes: "Axes", found: dict[str, Any]) -> None:
    """Ours as a dot with its interval, the paper's as an empty diamond."""
    axes.axvline(0, color=LIGHT[FAINT], linewidth=1)
    every = [found["claims"][claim.trick]["difference"] for claim in CLAIMS]
    mean, low, high = 100 * np.array(every).T
    places = np.arange(len(CLAIMS))
    theirs = [math.nan if one.points is None else 100 * one.points for one in CLAIMS]
    axes.hlines(places, low, high, color=LIGHT[ACCENT], label="here, with 95 % interval")
    axes.plot(mean, places, "o", color=LIGHT[ACCENT])
    axes.plot(theirs, places, "D", mfc=LIGHT[PAPER], mec=LIGHT[INK], label="paper, on ImageNet")
    axes.set_yticks(places, [claim.trick for claim in CLAIMS])
    axes.set_ylim(len(CLAIMS) - 0.5, -0.5)
    axes.set_xlabel("points of top-1 accuracy that it brings")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def errors(axes: "Axes", found: dict[str, Any]) -> None:
    """Mean training error by epoch."""
    for one in found["relu"]:
        mean = np.mean(one["errors"], axis=0)
        axes.plot(
            np.arange(1, len(mean) + 1),
            mean,
            "-" if one["init"] == "torch" else "--",
            color=LIGHT[SERIES[one["activation"] == "tanh"]],
            label=f"{one['activation']}, init {one['init']}",
        )
    axes.axhline(GOAL, color=LIGHT[FAINT], linewidth=1)
    axes.yaxis.set_major_formatter(per_cent)
    axes.set_xlabel("epoch of four layers")
    axes.set_ylabel("training error")
    axes.set_ylim(bottom=0)
    axes.legend()
