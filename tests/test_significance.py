"""What is more than noise: against known quantiles, by hand, and by simulation."""

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from alexnet.scoring import metrics
from alexnet.scoring.significance import (
    TrainingNoise,
    behind_best,
    difference,
    mcnemar,
    mean_interval,
    smallest_gap,
    studentized_range,
    training_noise,
)

UNKNOWN = TrainingNoise()


def hits(generator, n, share, seeds=1):
    return generator.random((seeds, n)) < share


# -- differences


def test_quantiles_are_those_of_the_tables():
    assert studentized_range(2, math.inf, 0.95) == pytest.approx(stats.norm.ppf(0.975))
    assert studentized_range(2, 7, 0.95) == pytest.approx(stats.t.ppf(0.975, 7))
    # Pearson and Hartley, "Biometrika tables for statisticians" (1966), table 29
    assert studentized_range(9, 18, 0.95) * math.sqrt(2) == pytest.approx(4.96, abs=0.01)
    assert studentized_range(20, math.inf, 0.95) * math.sqrt(2) == pytest.approx(5.01, abs=0.01)


def test_with_one_training_it_is_the_adjusted_interval_of_two_paired_shares():
    """Bonett and Price (2012) by hand: 40 images right in one alone, 20 in the other alone."""
    one = np.array([True] * 40 + [False] * 20 + [True] * 140)
    other = np.array([False] * 40 + [True] * 20 + [True] * 140)
    found = difference(one[None], other[None], UNKNOWN)
    p, q = 41 / 202, 21 / 202
    half = stats.norm.ppf(0.975) * math.sqrt((p + q - (p - q) ** 2) / 202)
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((p - q - half, p - q + half))


def test_a_handful_of_images_proves_nothing():
    for n in (1, 2, 3):
        assert difference(np.ones((1, n), bool), np.zeros((1, n), bool), UNKNOWN).is_noise
    same = hits(np.random.default_rng(0), 50, 0.5)
    found = difference(same, same, UNKNOWN)
    assert found.mean == 0
    assert found.low < 0 < found.high  # equal on 50 images, not on all there are


def test_the_noise_of_trainings_is_pooled():
    generator = np.random.default_rng(0)
    settings = [hits(generator, 400, 0.7, seeds) for seeds in (2, 3, 1)]
    noise = training_noise(settings)
    accuracies = [one.mean(1) for one in settings]
    pooled = (accuracies[0].var(ddof=1) + 2 * accuracies[1].var(ddof=1)) / 3
    assert noise.variance == pytest.approx(pooled)
    assert noise.degrees == 3
    assert noise.deviation == pytest.approx(math.sqrt(pooled))
    flips = (settings[0].var(0, ddof=1).mean() + 2 * settings[1].var(0, ddof=1).mean()) / 3
    assert noise.of_images == pytest.approx(flips / 400)
    assert training_noise(settings[2:]) == UNKNOWN
    assert UNKNOWN.deviation is None


def test_both_kinds_of_noise_widen_an_interval():
    """By hand, where trainings differ as a whole alone, and settings on images alone."""
    right = np.arange(1000) < 700
    other = np.arange(1000) >= 400
    noise = TrainingNoise(0.0004, 0.0, 6)
    found = difference(np.stack([right, right]), np.stack([other, other]), noise, values=4)
    of_images = (700 + 2) / 1002 - (100 / 1002) ** 2
    squared = studentized_range(4, math.inf, 0.95) ** 2 * of_images / 1002
    squared += studentized_range(4, 6, 0.95) ** 2 * 0.0004
    assert found.mean == pytest.approx(0.1)
    assert found.high - found.low == pytest.approx(2 * math.sqrt(squared))


def test_what_single_trainings_bring_into_the_images_counts_once():
    """Trainings of settings that are the same network with other luck."""
    generator = np.random.default_rng(0)
    settings = [hits(generator, 4000, 0.5, 5) for _ in range(10)]
    noise = training_noise(settings)
    found = behind_best(settings)[-1]
    squared = studentized_range(10, 40, 0.95) ** 2 * 2 / 5 * noise.variance
    assert (found.high - found.low) / 2 == pytest.approx(math.sqrt(squared), rel=0.05)


def test_the_best_is_not_behind_itself():
    generator = np.random.default_rng(0)
    ranked = [hits(generator, 500, share, 2) for share in (0.9, 0.7, 0.1)]
    best, *others = behind_best(ranked)
    assert best.mean == 0
    assert best.is_noise
    assert [one.is_noise for one in others] == [False, False]
    assert others[0].mean == pytest.approx(ranked[0].mean() - ranked[1].mean())


@pytest.mark.slow
@given(seeds=st.integers(1, 4), n=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_intervals_hold_what_they_are_about(seeds, n, seed):
    generator = np.random.default_rng(seed)
    ranked = [hits(generator, n, 0.6, seeds) for _ in range(3)]
    ranked.sort(key=lambda one: -one.mean())
    noise = training_noise(ranked)
    for one, behind in zip(ranked, behind_best(ranked), strict=True):
        assert -1 <= behind.low <= behind.mean + 1e-9
        assert behind.mean - 1e-9 <= behind.high <= 1
        low, high = mean_interval(one, noise)
        assert 0 <= low <= one.mean() + 1e-9
        assert one.mean() - 1e-9 <= high <= 1


def test_the_interval_of_a_mean():
    one = hits(np.random.default_rng(0), 300, 0.8)
    assert mean_interval(one, UNKNOWN) == metrics.wilson_interval(int(one.sum()), 300)
    both = np.stack([one[0], one[0]])
    low, high = mean_interval(both, TrainingNoise(0.0004, 0.0, 12))
    half = math.hypot(
        stats.norm.ppf(0.975) * math.sqrt(one.var() / 300),
        stats.t.ppf(0.975, 12) * math.sqrt(0.0002),
    )
    assert (low, high) == pytest.approx((one.mean() - half, one.mean() + half))


@pytest.mark.slow
def test_more_seeds_and_images_show_smaller_gaps():
    assert smallest_gap(9, 3, 5000, 0.004) < smallest_gap(9, 2, 5000, 0.004) < 0.03
    assert smallest_gap(9, 3, 5000, 0.004) < smallest_gap(9, 3, 500, 0.004)
    assert smallest_gap(2, 3, 5000, 0.004) < smallest_gap(20, 3, 5000, 0.004)
    assert smallest_gap(9, 3, 5000, 0.0) < smallest_gap(9, 3, 5000, 0.008)
    assert smallest_gap(9, 1, 5000, 0.0) == smallest_gap(9, 1, 5000, 0.008)


def test_mcnemar_by_hand():
    one = np.array([True] * 8 + [False] * 2 + [True] * 90)
    other = np.array([False] * 8 + [True] * 2 + [True] * 90)
    # twice the probability of at most 2 heads in 10
    assert mcnemar(one, other) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar(other, one) == mcnemar(one, other)
    assert mcnemar(one, one) == 1.0


@pytest.mark.slow
def test_equal_settings_are_called_worse_in_5_of_100_sweeps():
    """The long form, tests/long/equal_settings.py, has every number of settings and seeds."""
    from long.equal_settings import equal, gap_as_told, worse

    for case in (equal(2, 1, 0.0), equal(6, 2, 0.008), equal(12, 3, 0.004), equal(2, 5, 0.0)):
        assert 0.01 <= case.share(300) <= 0.09, case.name  # 5 % within 3 standard errors
    assert worse(2, 0.8).share(60) >= 0.8
    assert worse(3, 0.9).share(60) >= 0.9
    assert 0.6 < gap_as_told(3, 0.004).share(100) < 0.95


# -- likelihood and temperature


def exact_loss(logits, label):
    """-log softmax in decimal arithmetic of 50 digits behind the point."""
    getcontext().prec = 50
    numbers = [Decimal(float(one)) for one in logits]
    return (sum(one.exp() for one in numbers)).ln() - numbers[label]


@pytest.mark.parametrize("scale", [0.01, 1, 20, 200])
def test_losses_are_those_of_fifty_digits(scale):
    generator = np.random.default_rng(0)
    logits = (generator.normal(size=(30, 6)) * scale).astype(np.float32)
    labels = generator.integers(0, 6, 30)
    found = metrics.losses(logits, labels)
    for row, label, one in zip(logits, labels, found, strict=True):
        exact = exact_loss(row, label)
        assert abs(Decimal(float(one)) - exact) <= Decimal("1e-14") * exact + Decimal("1e-40")
    exact = sum(exact_loss(*one) for one in zip(logits, labels, strict=True)) / 30
    assert metrics.nll(logits, labels) == pytest.approx(float(exact), rel=1e-14)


def test_a_sure_mistake_costs_what_it_costs():
    logits = np.array([[1000, 0], [1000, 0]], np.float32)
    assert metrics.metrics(logits, np.array([1, 0]), ["a", "b"], "test")["nll"] == 500
    assert metrics.losses(np.array([[0, 50.0]]), np.array([1]))[0] == pytest.approx(math.exp(-50))


def sample(n, k=4, scale=1.0, seed=0):
    """Logits that say the truth when divided by `scale`, and labels drawn as they say."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, k)) * 3
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(1)
    return (logits * scale).astype(np.float32), labels


def test_the_temperature_is_the_best_of_a_fine_grid():
    logits, labels = sample(400, k=5, scale=3)
    grid = np.exp(np.linspace(np.log(0.1), np.log(20), 2000))
    exact = logits.astype(np.float64)
    best = grid[int(np.argmin([metrics.nll(exact / t, labels) for t in grid]))]
    assert metrics.fit_temperature(logits, labels) == pytest.approx(best, rel=3e-3)


def test_a_temperature_that_validation_supports_is_found_with_its_interval():
    for scale in (0.5, 2.5):
        found = metrics.supported_temperature(*sample(5000, scale=scale))
        assert found.value == pytest.approx(scale, rel=0.1)
        assert found.value == min(found.interval, key=lambda end: abs(math.log(end)))
        logits, labels = sample(5000, scale=scale)
        best = metrics.nll(logits / metrics.fit_temperature(logits, labels), labels)
        for end in found.interval:  # the ratio test
            lost = 2 * 5000 * (metrics.nll(logits.astype(np.float64) / end, labels) - best)
            assert lost == pytest.approx(stats.chi2.ppf(0.95, 1), rel=1e-3)


@pytest.mark.slow
def test_intervals_of_temperatures_hold_the_true_one():
    held = 0
    for seed in range(100):
        logits, labels = sample(300, scale=2, seed=seed)
        low, high = metrics.supported_temperature(logits, labels).interval
        held += low <= 2 <= high
    assert held >= 89


def test_no_temperature_where_validation_supports_none():
    right = np.eye(3, dtype=np.float32)[[0, 1, 2] * 40] * 5
    without_a_mistake = metrics.supported_temperature(right, np.array([0, 1, 2] * 40))
    assert without_a_mistake.value == 1
    assert without_a_mistake.interval[0] == pytest.approx(0.01)
    assert metrics.supported_temperature(right, np.array([1, 2, 0] * 40)).value == 1  # all wrong
    assert metrics.supported_temperature(*sample(2000)).value == 1  # calibrated as it is
    assert metrics.supported_temperature(right[:1], np.array([0])).value == 1


def test_no_temperature_that_harms_on_one_half():
    """Almost all mistakes are in one half: the temperatures of the halves contradict each other."""
    logits, labels = sample(400, scale=0.5)
    one = np.array_split(np.random.default_rng(0).permutation(400), 2)[0]
    logits[one] *= 8
    low, high = (found := metrics.supported_temperature(logits, labels)).interval
    assert not low <= 1 <= high
    assert found.value == 1


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 100, 500])
def test_a_temperature_does_no_harm_on_other_images(n):
    """Networks with ten classes, calibrated, too sure and too unsure, and the same on 5,000 other
    images."""
    harm, applied = [], 0
    for seed in range(60):
        logits, labels = sample(n + 5000, k=10, scale=(0.9, 1, 1.1, 2)[seed % 4], seed=seed)
        found = metrics.supported_temperature(logits[:n], labels[:n]).value
        applied += found != 1
        others, truth = logits[n:].astype(np.float64), labels[n:]
        harm.append(metrics.nll(others / found, truth) - metrics.nll(others, truth))
    assert applied > 5
    assert max(harm) < 0.01
