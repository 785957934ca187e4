"""The figures of the pages: curves, bars, confusion, calibration, sweeps.
Imports no torch.

Shapes: K classes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alexnet.reporting.drawing import (
    ACCENT,
    FAINT,
    INK,
    LIGHT,
    LINES,
    PAPER,
    SERIES,
    WIDTH,
    Drawing,
    Hover,
    label,
)
from alexnet.scoring.learning_curve import Forecast
from alexnet.scoring.metrics import CALIBRATION_BINS, Reliability, wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 230  # px of a figure with curves
ROW = 17  # px of a bar with its label
MOST_LABELS = 40  # classes whose names fit beside a map of ordinary width
SMALL_ROW = 9  # px of a row of the large map
MOST_HOVERS = 400  # cells of a map that are told on hovering; each costs about 100 bytes
BLUE, RED = (58, 122, 220), (226, 70, 58)  # legible on white and on black
Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """A line over epochs; values that are not finite are gaps."""

    name: str  # in the legend; empty: not in it
    y: Sequence[float]
    colour: str = ACCENT  # its name
    dashed: bool = False
    faint: bool = False
    mark: int = 0  # the epoch, from 1, that gets a dot


def per_cent(value: float, _: object = None) -> str:
    """0.5 -> "50 %", for an axis."""
    return f"{100 * value:g} %"


def tenths(value: float) -> str:
    """0.5 -> "50.0 %"."""
    return f"{100 * value:.1f} %"


def curves(
    title: str, lines: Sequence[Curve], *, share: bool = False, from_zero: bool = False
) -> Drawing:
    """Lines over epochs.

    Args:
        title: what is drawn.
        lines: what to draw, the last one on top.
        share: the values are shares, told in per cent.
        from_zero: the axis begins at nought.
    """

    def paint(figure: "Figure") -> list[Hover]:
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        for line in lines:
            x, y = np.arange(1, len(line.y) + 1), np.asarray(line.y, dtype=np.float64)
            axes.plot(
                x,
                np.where(np.isfinite(y), y, np.nan),
                color=LIGHT[line.colour],
                linestyle="--" if line.dashed else "-",
                linewidth=1 if line.faint else 1.8,
                alpha=0.45 if line.faint else 1,
                marker="o" if len(y) == 1 else None,
                label=label(line.name) if line.name else "_",
            )
            if 1 <= line.mark <= len(y) and math.isfinite(y[line.mark - 1]):
                axes.plot(
                    [line.mark], [y[line.mark - 1]], "o", color=LIGHT[line.colour], markersize=6
                )
        if share:
            axes.yaxis.set_major_formatter(per_cent)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.margins(x=0.02)
        if from_zero:
            axes.set_ylim(bottom=0)
        if any(one.name for one in lines) and len(lines) > 1:
            axes.legend()
        return []

    return Drawing(title, paint, HEIGHT)


def class_bars(
    names: Sequence[str],
    n: Sequence[int],
    right: Sequence[int],
    title: str = "accuracy of each class",
) -> Drawing:
    """A bar with its interval for each class, in the given order, downwards."""
    rows = np.arange(len(names))
    share = np.array(right) / np.array(n)
    spans = np.array([wilson_interval(*one) for one in zip(right, n, strict=True)])

    def paint(figure: "Figure") -> list[Hover]:
        axes = figure.add_subplot()
        axes.barh(rows, share, 0.72, color=LIGHT[ACCENT])
        axes.hlines(rows, spans[:, 0], spans[:, 1], color=LIGHT[INK], linewidth=1)
        axes.set_yticks(rows, [label(one) for one in names])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        _share_axis(axes.set_xlim, axes.xaxis.set_major_formatter)
        return [
            Hover(axes, (0, 1), (row - 0.5, row + 0.5), told)
            for row, told in enumerate(map(_told, names, n, right))
        ]

    return Drawing(title, paint, 44 + ROW * len(names))


def _told(name: str, n: int, right: int) -> str:
    return f"{label(name, 60)}: {tenths(right / n)}, {right:,} of {n:,}"


def _share_axis(limits: Callable[[float, float], object], formatter: Callable[..., object]) -> None:
    limits(0, 1)
    formatter(per_cent)


def class_profile(names: Sequence[str], n: Sequence[int], right: Sequence[int]) -> Drawing:
    """The accuracies of very many classes as one falling line of bars, without labels."""
    share = np.array(right) / np.array(n)

    def paint(figure: "Figure") -> list[Hover]:
        axes = figure.add_subplot()
        axes.bar(np.arange(len(share)), share, 1.0, color=LIGHT[ACCENT])
        axes.set_xlim(-0.5, len(share) - 0.5)
        axes.set_xticks([])
        axes.set_xlabel(f"{len(share)} classes, worst first")
        _share_axis(axes.set_ylim, axes.yaxis.set_major_formatter)
        return [
            Hover(axes, (place - 0.5, place + 0.5), (0, 1), told)
            for place, told in enumerate(map(_told, names, n, right))
        ]

    return Drawing("accuracy of all classes, sorted", paint, HEIGHT)


def clustered(confusion: Counts) -> list[int]:
    """An order of the classes, (K, K) counts of label and guess, in which those that are confused
    stand together: average linkage of the shares confused either way, leaves ordered optimally
    (Bar-Joseph et al., 2001)."""
    k = len(confusion)
    if k < 3:
        return list(range(k))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    shares = row_shares(confusion)
    alike = (shares + shares.T) / 2
    np.fill_diagonal(alike, 0)
    apart = 1 - alike / (alike.max() or 1)
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform(apart), "average", optimal_ordering=True)
    return [int(place) for place in leaves_list(tree)]


def row_shares(confusion: Counts) -> Numbers:
    """Counts as shares of their row; a row without images is 0."""
    shares: Numbers = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return shares


def confusion_map(names: Sequence[str], confusion: Counts, large: bool = False) -> Drawing:
    """(K, K) counts as a map: rows are labels, columns are guesses, in the given order. Blue is
    right, red is wrong, deeper is more.

    Args:
        names: K readable names.
        confusion: (K, K) counts, ordered as `names`.
        large: as wide as it takes to write every name.
    """
    k = len(names)
    side = map_side(k, large)
    size = min(11.0, 0.85 * (side - 120) / k)
    written = large or k <= MOST_LABELS

    def paint(figure: "Figure") -> list[Hover]:
        axes = figure.add_subplot()
        axes.imshow(_coloured(confusion), interpolation="none")
        axes.grid(visible=False)
        axes.spines[:].set(visible=True, color=LIGHT[LINES])
        axes.set(xlabel="guess", ylabel="label")
        every = np.arange(k) if written else np.array([], dtype=np.int64)
        words = [label(names[one], 18) for one in every]
        axes.set_xticks(every, words, rotation=90, fontsize=size)
        axes.set_yticks(every, words, fontsize=size)
        axes.tick_params(length=0)
        for row, column in np.argwhere(confusion) if k <= 12 else ():
            count = str(confusion[row, column])
            axes.text(column, row, count, ha="center", va="center", fontsize=min(size, 9))
        return list(_cells(axes, names, confusion))

    title = "confusion matrix with all names" if large else "confusion matrix"
    return Drawing(title, paint, side, side, stretch=1 if large else 1.5)


def map_side(k: int, large: bool) -> int:
    """px of the side of a map of K classes."""
    return max(WIDTH, 150 + SMALL_ROW * k) if large else WIDTH


def _coloured(confusion: Counts) -> NDArray[np.uint8]:
    """(K, K, 4) colours; what is nought is transparent. Errors are raised, so that one of
    fifty still shows."""
    shares = row_shares(confusion)
    picture = np.empty((*shares.shape, 4), dtype=np.uint8)
    picture[...] = (*RED, 0)
    picture[..., 3] = np.rint(255 * shares**0.4)
    diagonal = np.arange(len(shares))
    picture[diagonal, diagonal, :3] = BLUE
    picture[diagonal, diagonal, 3] = np.rint(230 * np.diag(shares))
    return picture


def _cells(axes: "Axes", names: Sequence[str], confusion: Counts) -> Iterable[Hover]:
    """What the cells say: the largest errors, all right ones, and for the rest their row."""
    k, totals = len(names), confusion.sum(1)
    short = [label(name, 40) for name in names]
    for row in range(k if k > 20 else 0):
        told = f"{short[row]}: {confusion[row, row]:,} of {totals[row]:,} right"
        yield Hover(axes, (-0.5, k - 0.5), (row - 0.5, row + 0.5), told)
    wrong = confusion - np.diag(np.diag(confusion)) if k > 20 else confusion
    cells = [divmod(int(place), k) for place in np.argsort(-wrong, axis=None, kind="stable")]
    for row, column in cells[:MOST_HOVERS]:
        if wrong[row, column]:
            told = f"{short[row]}, taken for {short[column]}: {wrong[row, column]:,}"
            told = told if row != column else f"{short[row]}, right: {wrong[row, row]:,}"
            told += f" of {totals[row]:,}"
            yield Hover(axes, (column - 0.5, column + 0.5), (row - 0.5, row + 0.5), told)


def reliability_diagram(title: str, bins: Reliability) -> Drawing:
    """How often a confidence was right, with its 95 % interval, against the confidence itself, and
    below, how many images had it, in numbers too."""
    edges = np.arange(CALIBRATION_BINS) / CALIBRATION_BINS
    width, held = 1 / CALIBRATION_BINS, bins.count > 0
    counts = zip(bins.right[held].astype(int).tolist(), bins.count[held].tolist(), strict=True)
    spans = np.array([wilson_interval(*one) for one in counts])

    def paint(figure: "Figure") -> list[Hover]:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        right = np.divide(bins.right, bins.count, where=held, out=np.zeros(len(held)))
        sure = np.divide(bins.confidence, bins.count, where=held, out=np.zeros(len(held)))
        axes.bar(edges, right, width, align="edge", color=LIGHT[ACCENT], edgecolor=LIGHT[LINES])
        axes.plot([0, 1], [0, 1], "--", color=LIGHT[INK], linewidth=1.2)
        axes.plot(sure[held], right[held], "o", color=LIGHT[INK], markersize=3)
        axes.vlines(sure[held], spans[:, 0], spans[:, 1], color=LIGHT[INK], linewidth=1)
        axes.set(ylabel="accuracy")
        _share_axis(axes.set_ylim, axes.yaxis.set_major_formatter)
        below.bar(edges, bins.count, width, align="edge", color=LIGHT[FAINT])
        upright = bins.count.max() < 1000
        for b in np.flatnonzero(held):
            place, count = (edges[b] + width / 2, bins.count[b]), f"{bins.count[b]:,}"
            below.annotate(
                count, place, (0, 2), textcoords="offset points", ha="center", va="bottom",
                fontsize=8, rotation=0 if upright else 90,
            )  # fmt: skip
        below.margins(y=0.35 if upright else 1)
        below.grid(visible=False)
        below.set_yticks([])
        below.set(xlabel="confidence", ylabel="images")
        _share_axis(below.set_xlim, below.xaxis.set_major_formatter)
        return [
            Hover(
                axes,
                (edges[b], edges[b] + width),
                (0, 1),
                f"{bins.count[b]:,} images, confidence {tenths(sure[b])}, right {tenths(right[b])} "
                f"({tenths(low)} to {tenths(high)})",
            )
            for b, (low, high) in zip(np.flatnonzero(held), spans, strict=True)
        ]

    return Drawing(title, paint, 320)


@dataclass(frozen=True)
class Trade:
    """What a class trades as its threshold falls: a curve between two shares."""

    name: str
    x: Numbers
    y: Numbers
    area: float


def trades(
    title: str, axes_names: tuple[str, str], lines: Sequence[Trade], chance: bool = False
) -> Drawing:
    """Curves of one class against all others, the area below each in the legend; with `chance` a
    line that guessing would follow."""

    def paint(figure: "Figure") -> list[Hover]:
        axes = figure.add_subplot()
        if chance:
            axes.plot([0, 1], [0, 1], ":", color=LIGHT[FAINT], linewidth=1.2)
        for place, line in enumerate(lines):
            axes.plot(
                line.x,
                line.y,
                "--" if place >= len(SERIES) else "-",
                color=LIGHT[series_colour(place)],
                linewidth=1.5,
                label=f"{label(line.name, 14)} {line.area:.3f}",
            )
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1], xlim=(-0.01, 1.01), ylim=(0, 1.03))
        axes.xaxis.set_major_formatter(per_cent)
        axes.yaxis.set_major_formatter(per_cent)
        figure.legend(loc="outside lower center", ncols=3, handlelength=1.2, columnspacing=1)
        return []

    return Drawing(title, paint, 250 + 16 * math.ceil(len(lines) / 3))


def learning_curve(
    sizes: Sequence[float], accuracy: Sequence[float], images: int, forecast: Forecast
) -> Drawing:
    """Accuracies against how many images heads were trained on, on a logarithmic axis, and the
    band of the forecast from as many `images` as there are now to twice as many."""
    ends = [images, 2 * images]
    low, high = np.clip(np.transpose([forecast.now_band, forecast.twice_band]), 0, 1)

    def paint(figure: "Figure") -> list[Hover]:
        axes = figure.add_subplot()
        axes.fill_between(ends, low, high, color=LIGHT[ACCENT], alpha=0.25, linewidth=0)
        line = [forecast.now, forecast.twice]
        axes.plot(ends, line, "--o", color=LIGHT[ACCENT], label="forecast, band of 90 %")
        axes.plot(sizes, accuracy, "-o", color=LIGHT[INK], markersize=4, label="measured")
        axes.set_xscale("log", base=2)
        ticks = [*sizes[:-1], *ends]
        axes.set_xticks(ticks, [f"{one:,.0f}" for one in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(per_cent)
        axes.set(xlabel="training images", ylabel="accuracy")
        axes.legend()
        return []

    return Drawing("learning curve", paint, HEIGHT)


@dataclass(frozen=True)
class Level:
    """One value of a swept field: the mean accuracy of configurations that have it, and their own
    accuracies."""

    name: str
    mean: float
    points: Sequence[float]
    interval: tuple[float, float] | None = None


def main_effect(field: str, levels: Sequence[Level]) -> Drawing:
    """The mean of each value of a field, every configuration as a faint dot, and an interval where
    one is given."""
    places = np.arange(len(levels))

    def paint(figure: "Figure") -> list[Hover]:
        axes = figure.add_subplot()
        for place, level in zip(places, levels, strict=True):
            points = level.points
            axes.plot([place] * len(points), points, "o", color=LIGHT[FAINT], alpha=0.35)
            if level.interval:
                axes.vlines(place, *level.interval, color=LIGHT[ACCENT], linewidth=2)
        axes.plot(places, [one.mean for one in levels], "-o", color=LIGHT[ACCENT])
        limit = max(6, 48 // len(levels))
        axes.set_xticks(places, [label(one.name, limit) for one in levels])
        axes.set_xlim(-0.5, len(levels) - 0.5)
        axes.grid(visible=False, axis="x")
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, -0.01), min(top, 1.01))  # there is no accuracy beyond
        axes.yaxis.set_major_formatter(per_cent)
        axes.set_xlabel(label(field, 40))
        return []

    return Drawing(f"mean accuracy of each value of {field}", paint, HEIGHT)


def parallel_coordinates(
    fields: Sequence[str], rows: Sequence[Sequence[str]], scores: Sequence[float], best: int
) -> Drawing:
    """A line for each trial through its values, ending at its score; the best one stands out, and
    the others are the fainter the worse they are.

    Args:
        fields: names of the swept fields.
        rows: for each trial the value of each field, as text.
        scores: validation accuracy of each trial, from 0 to 1.
        best: the place of the trial that stands out.
    """
    values = [sorted({row[place] for row in rows}, key=by_number) for place in range(len(fields))]
    low, high = min(scores), max(scores)
    span = (high - low) or 1.0
    width = max(WIDTH, 110 * (len(fields) + 1))

    def height(place: int, value: str) -> float:
        count = len(values[place])
        return (values[place].index(value) + 0.5) / count if count > 1 else 0.5

    def paint(figure: "Figure") -> list[Hover]:
        axes = figure.add_subplot()
        x = np.arange(len(fields) + 1)
        order = sorted(range(len(rows)), key=lambda one: (one == best, scores[one]))
        for one in order:
            y = [*(height(place, value) for place, value in enumerate(rows[one]))]
            good = (scores[one] - low) / span
            axes.plot(
                x,
                [*y, 0.04 + 0.92 * good],
                color=LIGHT[ACCENT if one == best else FAINT],
                linewidth=3 if one == best else 1.2,
                alpha=1 if one == best else 0.2 + 0.5 * good,
            )
        for place, here in enumerate(values):
            for value in here:
                _boxed(axes, place, height(place, value), label(value, 10))
        for share in (0.0, 1.0) if high > low else (0.0,):
            _boxed(axes, len(fields), 0.04 + 0.92 * share, tenths(low + share * span))
        axes.set_xticks(x, [*(label(field, 14) for field in fields), "accuracy"])
        axes.set_yticks([])
        axes.set(ylim=(0, 1), xlim=(-0.3, len(fields) + 0.35))
        axes.spines["left"].set_visible(False)
        return []

    return Drawing("all trials, through their settings to their accuracy", paint, 280, width)


def by_number(value: str) -> tuple[float, str]:
    """Sorts numbers by their value, behind them words by their letters."""
    try:
        return float(value), ""
    except ValueError:
        return math.inf, value


def _boxed(axes: "Axes", x: float, y: float, text: str) -> None:
    """A word that lines run behind."""
    box = {"boxstyle": "round,pad=0.25", "facecolor": LIGHT[PAPER], "edgecolor": LIGHT[LINES]}
    axes.text(x, y, text, ha="center", va="center", fontsize=10, bbox=box)


def series_colour(number: int) -> str:
    """The colour of the run of that number; the colours begin again after six."""
    return SERIES[number % len(SERIES)]
