"""Simulates sweeps over settings that are all equal, and over one that is worse: how often is one
called worse? Ends with 1 if that is less than 2 or more than 7 % of the sweeps over equal settings,
or if a gap of 3 points is missed too often.

OMP_NUM_THREADS=1 uv run python tests/long/equal_settings.py --sweeps 2000

No normal means are drawn but networks that are right or wrong about images, the same for all: an
image is as hard as it is, for all; somewhat harder for one setting than for another; and somewhat
harder in one training than in the next. Each training also has an accuracy of its own, over all
images there could be, which varies by the deviation. The shares of images on which two trainings
differ are those that `significance` takes for granted.

The short form is a test (tests/test_significance.py).
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import stats

from alexnet.scoring.significance import Hits, behind_best, smallest_gap
from alexnet.sweeping.results import Configuration, effects

ACCURACY = 0.8
# how alike two trainings find images hard, of other settings and of one, as a correlation: they
# differ on 13 and 10 % of the images
OTHER_SETTING, SAME_SETTING = 0.83, 0.90


def trained(
    generator: np.random.Generator, gaps: Sequence[float], seeds: int, deviation: float, images: int
) -> Hits:
    """(C, S, N) of C settings that lie so far below the accuracy."""

    def drawn(share: float, *shape: int) -> Any:
        return np.float32(share**0.5) * generator.standard_normal(shape, dtype=np.float32)

    each = ACCURACY - np.array(gaps)[:, None]
    accuracy = each + deviation * generator.standard_normal((len(gaps), seeds))
    hardness = drawn(OTHER_SETTING, images) + drawn(
        SAME_SETTING - OTHER_SETTING, len(gaps), 1, images
    )
    hardness = hardness + drawn(1 - SAME_SETTING, len(gaps), seeds, images)
    found: Hits = hardness < stats.norm.ppf(accuracy)[:, :, None].astype(np.float32)
    return found


def called_worse(hits: Hits) -> list[int]:
    """The settings that a sweep calls worse."""
    order = np.argsort(-hits.mean((1, 2)), kind="stable")
    behind = behind_best([hits[place] for place in order])
    return [int(place) for place, one in zip(order, behind, strict=True) if not one.is_noise]


def fields_that_matter(hits: Hits, points: Sequence[dict[str, int]]) -> list[str]:
    """The fields of a sweep over these points that are said to matter."""
    found = []
    for point, runs in zip(points, hits, strict=True):
        results: list[Any] = [  # what stands for them
            SimpleNamespace(hits=one, predictions=SimpleNamespace(logits=one)) for one in runs
        ]
        found.append(Configuration(point, results, float(runs.mean())))
    return [field for field, one in effects(found).items() if one["verdict"] == "matters"]


@dataclass(frozen=True)
class Case:
    """What is simulated, and in which share of the sweeps something is to be found."""

    name: str
    gaps: Sequence[float]
    seeds: int
    deviation: float
    low: float
    high: float
    images: int = 5000
    found: Callable[[Hits], bool] = lambda hits: bool(called_worse(hits))

    def share(self, sweeps: int) -> float:
        """In which share of so many sweeps something is found."""
        generator = np.random.default_rng([len(self.gaps), self.seeds, int(self.deviation * 1e4)])
        made = (
            trained(generator, self.gaps, self.seeds, self.deviation, self.images)
            for _ in range(sweeps)
        )
        return sum(map(self.found, made)) / sweeps


def equal(settings: int, seeds: int, deviation: float, images: int = 2000) -> Case:
    """Settings that are equal: nothing is to be found in 95 of 100 sweeps."""
    name = f"{settings} equal settings, {images} images"
    return Case(name, [0.0] * settings, seeds, deviation, 0.02, 0.07, images)


def worse(seeds: int, least: float) -> Case:
    """The first of 9 is 3 points worse than all others, which are equal."""
    name, gaps = "9 settings, one 3 points worse", [0.03] + [0.0] * 8
    return Case(name, gaps, seeds, 0.004, least, 1, found=lambda hits: 0 in called_worse(hits))


def gap_as_told(seeds: int, deviation: float) -> Case:
    """The last of 9 is better than all others by what `alexnet sweep --dry-run` says is found in 80
    of 100 sweeps; the first of the others is looked for."""
    gap = smallest_gap(9, seeds, 5000, deviation)
    name, gaps = f"9 settings, one {100 * gap:.1f} points better", [gap] * 8 + [0.0]
    return Case(name, gaps, seeds, deviation, 0.7, 0.9, found=lambda hits: 0 in called_worse(hits))


def without_effect(name: str, points: Sequence[dict[str, int]], seeds: int) -> Case:
    """Fields of which none does anything, all of them together."""
    return Case(
        f"{name}: fields without effect",
        [0.0] * len(points),
        seeds,
        0.004 if seeds > 1 else 0.0,
        0.005,  # values that are compared over few points of a grid, and Bonferroni over fields
        0.07,
        found=lambda hits: bool(fields_that_matter(hits, points)),
    )


GRID = [dict(zip("abc", point, strict=True)) for point in np.ndindex(3, 3, 2)]
ONE_CHANGE = [{name: int(name == other) for name in "abcdefgh"} for other in "-abcdefgh"]


def cases() -> Iterator[Case]:
    """All that the words of a sweep promise."""
    for settings in (2, 6, 12, 20):
        yield equal(settings, 1, 0.0)
        for seeds, deviation in itertools.product((2, 3, 5), (0.0, 0.004, 0.008)):
            yield equal(settings, seeds, deviation)
    yield worse(2, 0.8)
    yield worse(3, 0.9)
    for seeds, deviation in ((1, 0.0), (2, 0.004), (3, 0.004), (3, 0.008), (5, 0.008)):
        yield gap_as_told(seeds, deviation)
    for seeds in (1, 2, 3):
        yield without_effect("a grid of 3 x 3 x 2", GRID, seeds)
        yield without_effect("8 changes, one at a time", ONE_CHANGE, seeds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=2000)
    sweeps, wrong = parser.parse_args().sweeps, 0
    for case in cases():
        share = case.share(sweeps)
        missed = not case.low <= share <= case.high
        wrong += missed
        print(
            f"{case.name}, {case.seeds} seeds, deviation {100 * case.deviation:.1f}: "
            f"{share:.1%}{' (EXPECTED ' if missed else ' ('}{case.low:.1%} to {case.high:.1%})",
            flush=True,
        )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
