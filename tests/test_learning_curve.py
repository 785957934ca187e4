"""What more images would bring: forecasts from heads on parts of the images."""

import dataclasses
import json

import numpy as np
import pytest
from makers import FROZEN, MADE_FOR, SMALL, change, network_of, run_directory, write_pictures

import alexnet
from alexnet.checking.learning_curve import FEWEST, drawn, parts_of, right_by_size
from alexnet.cli import main
from alexnet.errors import DataError, RunError
from alexnet.reporting.report import contents, write_report
from alexnet.runs.directory import RunDirectory
from alexnet.scoring.learning_curve import Forecast, forecast, told

SIZES = np.array([25, 50, 100, 200])


def error(n):
    """The law that the images below follow."""
    return 0.1 + 0.6 * (n / 25) ** -0.5


def images(seed, count):
    """How often `count` images are right at SIZES: some are easier than others, at every size."""
    hard = np.random.default_rng(seed).random(count)
    return np.stack([hard > error(size) for size in SIZES]).astype(float)


def test_a_forecast_says_what_twice_as_many_images_come_to():
    found = forecast(images(0, 2000), SIZES, 200)
    assert found.now == pytest.approx(1 - error(200), abs=0.02)
    assert found.twice == pytest.approx(1 - error(400), abs=0.02)
    assert found.gain == pytest.approx(found.twice - found.now)
    assert found.gain_band[0] < error(200) - error(400) < found.gain_band[1]
    assert found.gain_band[1] - found.gain_band[0] < found.twice_band[1] - found.twice_band[0]
    few = forecast(images(0, 60), SIZES, 200)  # images that were looked at
    assert few.twice_band[1] - few.twice_band[0] > found.twice_band[1] - found.twice_band[0]


@pytest.mark.slow
def test_the_band_holds_the_truth_in_nine_of_ten_cases():
    every = [forecast(images(seed, 300), SIZES, 200) for seed in range(100)]
    held = [one.twice_band[0] <= 1 - error(400) <= one.twice_band[1] for one in every]
    assert 85 <= sum(held) <= 100


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_is_always_or_never_right_has_a_forecast(share):
    found = forecast(np.full((4, 40), share), SIZES, 200)
    assert found.twice == pytest.approx(share, abs=0.06)
    assert np.isfinite([*found.twice_band, *found.gain_band]).all()


def test_the_words():
    def said(low, high):
        band = (0.7, 0.9)
        return told(Forecast(0.74, band, 0.78, band, 0.04, (low, high)))

    assert said(0.01, 0.07).startswith(
        "Twice as many pictures would help: of 100 new pictures about 74 are right now, and then "
        "78 (70 to 90), which is +4.0 (+1.0 to +7.0)."
    )
    assert "would hardly help" in said(-0.01, 0.009)
    assert "It is not sure" in said(-0.02, 0.05)


def test_parts_have_the_same_share_of_every_class():
    labels = np.repeat([0, 1, 2], [40, 8, 2])
    order = np.random.default_rng(0).permutation(50)
    parts = parts_of(labels, order)
    assert sorted(np.concatenate(parts)) == list(range(50))
    assert np.bincount(labels[parts[0]]).tolist() == [5, 1, 1]
    assert np.bincount(labels[np.concatenate(parts[:3])]).tolist() == [20, 4, 1]


def test_an_image_is_looked_at_by_heads_that_have_not_seen_its_group():
    """Labels are chance, and images of a group are alike: who has seen one knows the others."""
    generator = np.random.default_rng(0)
    groups, labels = np.repeat(np.arange(40), 5), np.repeat(generator.integers(0, 2, 40), 5)
    x = generator.standard_normal((40, 16))[groups] + generator.normal(0, 0.01, (200, 16))
    known, sizes = right_by_size(np.tanh(x @ generator.standard_normal((16, 99))), labels, None, 2)
    honest, _ = right_by_size(np.tanh(x @ generator.standard_normal((16, 99))), labels, groups, 2)
    assert known[-1].mean() > 0.9 > 0.7 > honest[-1].mean()
    assert sizes == pytest.approx([20, 40, 80, 160], abs=2)
    fold, order = drawn(labels, groups, 0)
    assert all(len(set(fold[groups == group])) == 1 for group in range(40))
    assert (np.diff(groups[order]) != 0).sum() == 39  # those of a group follow each other


@pytest.mark.slow
def test_a_run_says_what_more_images_would_bring(tmp_path, capsys):
    weights = tmp_path / "made.safetensors"
    network_of(weights, SMALL, 5, MADE_FOR)
    photos = write_pictures(tmp_path / "photos")
    recipe = change(FROZEN, weights=str(weights))
    run = alexnet.train(photos, recipe, out=tmp_path / "run")
    assert main(["learning-curve", str(run), "--format", "json"]) == 0
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert output.err.count("the frozen layers run once") == 1  # while it was trained
    assert found == RunDirectory(run).learning_curve()
    assert found["sizes"] == pytest.approx([6, 12, 21, 38], abs=1) and not found["finetuned"]
    assert set(found["classes"]) == {"blue", "green", "red"}
    assert found["classes"]["red"]["images"] * 3 == found["images"]
    assert main(["learning-curve", str(run)]) == 0
    assert told(Forecast(**found["all"]))[:30] in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow
def test_the_report_shows_it(tmp_path):
    run = run_directory(tmp_path / "run")
    directory = RunDirectory(run)
    assert contents(directory)["learning_curve"] is None
    found = dataclasses.asdict(forecast(images(0, 300), SIZES, 200))
    whole = {"images": 200, "sizes": SIZES.tolist(), "accuracy": [0.3, 0.5, 0.6, 0.7], "all": found}
    classes = {"cat": {"images": 100, **found}, "dog": {"images": 7}, "<b>": 3}
    directory.write_learning_curve(whole | {"classes": classes})
    shown = contents(directory)["learning_curve"]
    assert shown["told"] == told(Forecast(**found)) and shown["few"] == ["dog", "<b>"]
    assert [row["name"] for row in shown["rows"]] == ["cat"]
    page = write_report(run).read_text(encoding="utf-8")
    assert "Would more pictures help?" in page and "<b>," not in page
    for broken in (
        {"all": found | {"twice_band": ["<b>", 1]}},
        {"sizes": ["x"] * 4},
        {"sizes": []},
    ):
        directory.write_learning_curve(whole | broken)
        assert contents(directory)["learning_curve"] is None


def test_a_network_of_its_own_has_no_frozen_features(photos_run):
    with pytest.raises(RunError, match="began without weights"):
        alexnet.learning_curve(photos_run)


def test_too_few_images_are_told(tmp_path):
    weights = tmp_path / "made.safetensors"
    network_of(weights, SMALL, 5, MADE_FOR)
    photos = write_pictures(tmp_path / "photos", per_class=5)
    recipe = change(FROZEN, weights=str(weights), head="ridge")
    run = alexnet.train(photos, recipe, out=tmp_path / "run")
    with pytest.raises(DataError, match=f"takes {FEWEST} images of each class") as caught:
        alexnet.learning_curve(run)
    assert "blue has 4" in caught.value.message and "Add 1" in caught.value.hint
