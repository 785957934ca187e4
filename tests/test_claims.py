"""What is said of the paper's claims is what the two sweeps hold."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet.presets import STUDIES
from alexnet.scoring.significance import difference, training_noise


@pytest.fixture
def claims(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "docs"))
    import claims

    return claims


def test_every_claim_is_a_point_of_the_study_and_every_point_a_claim(claims):
    changes = [one.change for one in claims.CLAIMS if one.change != claims.VIEWS]
    start, *others = STUDIES[claims.TRICKS].points
    assert start == {}
    assert sorted(map(str, changes)) == sorted(map(str, others))


@pytest.mark.parametrize(
    "points, low, high, expected",
    [
        (0.01, 0.005, 0.02, "agrees"),
        (0.01, 0.001, 0.008, "agrees, but less"),
        (0.01, 0.02, 0.03, "agrees, and more"),
        (0.01, -0.01, 0.02, "too noisy to say"),
        (0.01, -0.01, 0.005, "**not here**"),
        (0.01, -0.02, -0.01, "**the opposite here**"),
        (None, 0.01, 0.02, "helps"),
        (None, -0.02, -0.01, "costs"),
        (None, -0.01, 0.01, "not told from noise"),
    ],
)
def test_words_for_an_interval(claims, points, low, high, expected):
    assert claims.verdict(points, low, high) == expected


def test_when_a_training_error_is_reached(claims):
    assert claims.crossing([0.5, 0.3, 0.2, 0.1]) == pytest.approx(2.5)
    assert claims.crossing([0.25]) == 1
    assert math.isinf(claims.crossing([0.5, 0.3]))


def test_two_readings_of_the_same_trainings_are_compared_within_each(claims):
    rng = np.random.default_rng(0)
    one = rng.random((3, 4000)) < np.array([[0.5], [0.6], [0.7]])  # trainings lie far apart
    better = one | (rng.random(one.shape) < 0.03)
    found = claims.of_the_same(better, one)
    assert found.mean == pytest.approx(better.mean() - one.mean())
    assert 0 < found.low < found.high < 0.03
    assert difference(better, one, training_noise([better, one])).is_noise


def run_of(hits, errors):
    """What is read of a run."""
    settings = SimpleNamespace(asked=SimpleNamespace(fraction=0.5, val_size=0.4))
    return SimpleNamespace(
        predictions=lambda: SimpleNamespace(ids=list(range(len(hits))), hits=hits),
        epochs=lambda: [{"train_top1": 1 - one, "seconds": 30} for one in errors],
        settings=settings,
    )


def test_two_sweeps_come_to_a_table(claims, monkeypatch, tmp_path):
    rng = np.random.default_rng(1)
    rate = {"{}": 0.6, "{'norm': 'none'}": 0.5}

    def points(path, name):
        if name == claims.TRICKS:
            return [
                (one, [run_of(rng.random(2000) < rate.get(str(one), 0.6), [0.5]) for _ in range(3)])
                for one in STUDIES[name].points
            ]
        speed = {"relu": [0.4, 0.2], "tanh": [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]}
        return [
            (one, [run_of(rng.random(9) < 0.5, speed[one["activation"]]) for _ in range(3)])
            for one in STUDIES[name].points
        ]

    monkeypatch.setattr(claims, "points", points)
    monkeypatch.setattr(claims, "ten_views", lambda run: run.predictions().hits)
    found = claims.found_in(tmp_path, tmp_path)
    assert (found["images"], found["trained_on"], found["seeds"]) == (2000, 15_000, 3)
    assert found["trainings"] == 30
    rows = {trick: (ours, agree) for trick, _, ours, agree in claims.rows(found)}
    assert rows["local response normalisation"][1] == "agrees, and more"
    assert rows["ten views, not one"][0].startswith("+0.0 (")
    assert rows["epochs that tanh needs to 25 % training error"][0].startswith("2.57 times")
    assert claims.section(found | dict.fromkeys("machine version commit date".split(), "x"))


def test_runs_over_other_images_are_refused(claims):
    one, other = run_of(np.ones(3, bool), []), run_of(np.ones(4, bool), [])
    with pytest.raises(SystemExit, match="different images"):
        claims.hits_of([one, other])
