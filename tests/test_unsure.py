"""Saying that it does not know: the definition, the coverage by simulation, and every door."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from makers import Colours
from PIL import Image
from servers import Asked

import alexnet
from alexnet.classification.classifier import PredictionSet
from alexnet.classification.onnx_classifier import OnnxClassifier
from alexnet.cli import main
from alexnet.errors import InputError, RunError
from alexnet.runs.calibration import distances
from alexnet.runs.directory import RunDirectory
from alexnet.scoring.conformal import (
    Calibration,
    Share,
    abstaining,
    answered,
    by_chance,
    images_needed,
    upper_quantile,
)

FORGETFUL = np.zeros((1, 1), np.float16)
RATE = 0.3  # of the run on 60 photographs, which has few for validation


def calibration(n=200, tests=100, seed=0):
    generator = np.random.default_rng(seed)
    p, far, test_p, test_far = (
        np.sort(generator.random(size).astype(np.float32)) for size in (n, n, tests, tests)
    )
    return Calibration(p, far, test_p, test_far, generator.random((7, 4)).astype(np.float16))


# -- numbers


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=60),
    st.integers(1, 99).map(lambda one: one / 100),
)
def test_the_quantile_is_the_definition(values, rate):
    rank = math.ceil(round((len(values) + 1) * (1 - rate), 9))
    array = np.array(values, np.float32)
    if rank > len(values):
        with pytest.raises(InputError, match="validation images, and a rate of"):
            upper_quantile(array, rate)
    else:
        assert upper_quantile(array, rate) == sorted(values)[rank - 1]


@pytest.mark.parametrize(("rate", "needed"), [(0.05, 19), (0.1, 9), (0.3, 3), (0.5, 1), (0.9, 1)])
def test_so_many_images_are_needed(rate, needed):
    assert images_needed(rate) == needed
    upper_quantile(np.zeros(needed), rate)
    with pytest.raises(InputError, match=f"takes {needed} at least"):
        upper_quantile(np.zeros(needed - 1), rate)


def test_a_rate_that_can_be_kept_is_named():
    with pytest.raises(InputError) as caught:
        upper_quantile(np.zeros(12), 0.05)
    assert "--abstain 0.08" in caught.value.hint  # 1/13, rounded up
    upper_quantile(np.zeros(12), 0.08)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5.0, math.nan])
def test_what_is_no_rate(rate):
    with pytest.raises(InputError, match="expected a share above 0 and below 1"):
        calibration().thresholds(rate)


def test_sets_hold_the_true_class_as_often_as_promised():
    """Over many draws the mean coverage is ceil((n + 1)(1 - rate)) / (n + 1), exactly, whatever the
    network gives; so is that of the marks."""
    generator = np.random.default_rng(1)
    n, rate, trials, each = 49, 0.1, 400, 50
    held = np.zeros(trials)
    for trial in range(trials):
        logits = 2 * generator.normal(size=(n + each, 5))
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        # drawn from (p + 0.2) / 2: the network is too sure
        labels = (np.log(p + 0.2) + generator.gumbel(size=p.shape)).argmax(1)
        true = p[np.arange(n + each), labels].astype(np.float32)
        limits = Calibration(true[:n], true[:n], true, true, FORGETFUL).thresholds(rate)
        sets = limits.sets(p[n:].astype(np.float32))
        held[trial] = sets[np.arange(each), labels[n:]].mean()
    expected = math.ceil((n + 1) * (1 - rate)) / (n + 1)
    assert held.mean() == pytest.approx(expected, abs=4 * held.std() / math.sqrt(trials))


def test_a_memory_without_width_is_none():
    nothing = np.zeros(0, np.float32)
    with pytest.raises(ValueError, match="no memory"):
        Calibration(nothing, nothing, nothing, nothing, np.zeros((9, 0), np.float16)).checked()


def test_figures_of_a_rate():
    logits = np.log([[0.8, 0.1, 0.1], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7], [0.33, 0.33, 0.34]])
    p = np.linspace(0.02, 1, 50, dtype=np.float32)  # the rate 0.7 takes 0.7 and more
    found = abstaining(
        Calibration(p, p, np.array([0.5, 0.9]), np.array([0.1, 0.9]), FORGETFUL),
        logits, np.array([0, 1, 2, 2]), 0.7,
    )  # fmt: skip
    assert found["coverage"] == 0.5 and found["set_size"] == 0.5
    assert (found["one"], found["several"], found["none"]) == (0.5, 0, 0.5)
    assert found["false_alarms"] == 0.5 and found["validation"] == 50


def test_the_distance_is_that_of_the_fifth_nearest():
    angles = np.radians([0, 10, 20, 30, 40, 50, 60])
    memory = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float16)
    there = torch.tensor([[3.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    expected = [1 - math.cos(math.radians(40)), 1 - math.cos(math.radians(70)), 1]
    assert distances(there, memory) == pytest.approx(expected, abs=1e-3)
    assert distances(there[:1], memory[:3]) == pytest.approx(
        1 - math.cos(math.radians(20)), abs=1e-3
    )


def test_accuracy_against_answers():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.4, 0.6]])
    shares, accuracy = answered(p, np.array([0, 0, 0, 1]))
    assert shares.tolist() == [0.25, 0.5, 1]
    assert accuracy.tolist() == [1, 0.5, 0.75]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "images", "rate"), [(19, 37, 0.05), (200, 500, 0.1)])
def test_what_few_images_miss_by_chance_is_no_broken_promise(n, images, rate):
    generator, broken = np.random.default_rng(5), 0
    for _ in range(400):
        threshold = -upper_quantile(-generator.random(n), rate)
        missed = int((generator.random(images) < threshold).sum())
        broken += by_chance(Share(missed, images), n, rate) < 0.025
    assert broken < 400 * 0.025 + 3 * 400**0.5 * 0.16  # three standard errors
    assert by_chance(Share(images, images), n, rate) < 1e-9
    assert by_chance(Share(0, images), n, rate) == pytest.approx(1)


def test_a_promise_that_was_not_kept_is_said():
    p = np.linspace(0.5, 1, 99, dtype=np.float32)
    for test, said in ((p, False), (p - np.float32(0.2), True)):
        told = Calibration(p, p, test, p, FORGETFUL).told(0.05)
        assert ("which is more" in told) == said
    assert "no test split" in Calibration(p, p, p[:0], p[:0], FORGETFUL).told(0.05)


def test_a_calibration_travels():
    one = calibration()
    there = Calibration.from_dict(json.loads(json.dumps(one.to_dict())))
    for rate in (0.01, 0.05, 0.5):
        assert there.thresholds(rate) == one.thresholds(rate)
        assert there.told(rate) == one.told(rate)
    with pytest.raises(ValueError, match="not of the same images"):
        Calibration.from_dict({**one.to_dict(), "distance": [1.0]})


# -- every door


@pytest.fixture
def pictures(photos_run, tmp_path):
    """Three images that the run knows the like of, and a blank one."""
    files = [photos_run.parent / "photos" / name / "3.png" for name in ("cat", "dog", "eel")]
    Image.new("RGB", (90, 40), "red").save(tmp_path / "red.png")
    return [*files, tmp_path / "red.png"]


def test_a_run_is_calibrated_when_it_ends(photos_run):
    run = RunDirectory(photos_run)
    found, figures = run.calibration(), run.metrics()
    assert len(found.test_p) == figures["n"] == 12
    assert found.memory.shape == (42, 96)  # training images; mean and maximum of 48 channels
    assert np.allclose(np.linalg.norm(found.memory.astype(float), axis=1), 1, atol=1e-3)
    assert "abstain" not in figures  # of a rate that takes more validation images
    predicted = run.predictions()
    p = np.exp(predicted.logits - predicted.logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    true = p[np.arange(12), predicted.labels]
    assert found.test_p == pytest.approx(np.sort(true), abs=1e-5)


def test_an_older_run_is_calibrated_when_asked(photos_run, pictures, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(photos_run, run)
    kept = RunDirectory(run).calibration()
    (run / "calibration.npz").unlink()
    model = alexnet.load(run, precision="fp32")
    assert not model.calibrated
    model.predict_set(pictures, abstain=RATE)
    made = RunDirectory(run).calibration()
    assert "is calibrated, once" in capsys.readouterr().err
    for name, values in vars(kept).items():  # that was bfloat16
        assert np.allclose(getattr(made, name), values, atol=0.03), name


def test_gone_data_and_damage_are_said(photos_run, pictures, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(photos_run, run)
    file = run / "calibration.npz"
    file.write_bytes(file.read_bytes()[:-60])
    words = ["predict", str(run), str(pictures[0]), "--abstain", str(RATE)]
    assert main(words) == 2
    assert "calibration.npz is damaged" in capsys.readouterr().err
    RunDirectory(run).write_calibration(calibration())  # of another network
    assert main(words) == 2
    assert "what it remembers is not of this network" in capsys.readouterr().err
    file.unlink()
    recipe = run / "recipe.json"
    recipe.write_text(recipe.read_text().replace(str(photos_run.parent), "/nowhere").strip())
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "was not calibrated" in told and "is not at /nowhere/photos any more" in told
    assert main(words[:-2]) == 0


@pytest.mark.parametrize("rate", ["1", "-0.5"])
def test_bad_rates_are_said_before_anything_is_loaded(rate, capsys):
    assert main(["predict", "no-run", "no.png", "--abstain", rate]) == 2
    assert "expected a share above 0 and below 1" in capsys.readouterr().err


def test_too_few_validation_images(photos_run, pictures, capsys):
    assert main(["predict", str(photos_run), str(pictures[0]), "--abstain", "0.01"]) == 2
    told = capsys.readouterr().err
    assert "validation images, and a rate of 0.01 takes 99 at least" in told


def test_the_command_line(photos_run, pictures, tmp_path, capsys):
    words = ["predict", str(photos_run), *map(str, pictures), "--abstain", str(RATE)]
    expected = alexnet.load(photos_run).predict_set(pictures, abstain=RATE)
    assert main(words) == 0
    told = capsys.readouterr()
    assert "at most 30 % of these sets miss the true class" in told.err
    for line, one in zip(told.out.splitlines(), expected, strict=True):
        assert f": {one} (" in line
    assert main([*words, "--json"]) == 0
    for line, one in zip(capsys.readouterr().out.splitlines(), expected, strict=True):
        assert json.loads(line)["set"] == one.classes and json.loads(line)["unlike"] == one.unlike
    copies = tmp_path / "copies"
    assert main([*words, "--csv", "--copy-to", str(copies)]) == 0
    heading, *rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert heading[-2:] == ["set_size", "unlike"]
    assert [row[-2:] for row in rows] == [
        [str(len(one.classes)), str(int(one.unlike))] for one in expected
    ]
    unsure = list((copies / "unsure").iterdir()) if (copies / "unsure").exists() else []
    assert len(unsure) == sum(not one.sure for one in expected)


def test_a_blank_picture_is_unlike_those_of_the_run(photos_run, pictures):
    found = alexnet.load(photos_run).predict_set(pictures, abstain=RATE)
    assert found[3].unlike and "unlike anything seen" in str(found[3])
    assert not all(one.unlike for one in found[:3])


def test_sets_in_words():
    p = np.array([0.5, 0.4, 0.1], np.float32)
    assert str(PredictionSet(["n1", "n2"], ["cat", "dog"], p, False)) == "cat or dog"
    many = PredictionSet(list("abcdefg"), list("abcdefg"), p, False)
    assert str(many) == "a or b or c or d or e or 2 more" and not many.sure
    assert str(PredictionSet([], [], p, True)) == "none of these; unlike anything seen"


@pytest.mark.slow
def test_an_exported_file_says_the_same(photos_run, pictures, tmp_path, capsys):
    file = alexnet.export(photos_run, out=tmp_path / "model.onnx", abstain=True)
    run, exported = alexnet.load(photos_run, precision="fp32"), alexnet.load(file)
    squares = [run.square(one.read_bytes()) for one in pictures]
    for one, other in zip(run.examined(squares), exported.examined(squares), strict=True):
        assert np.allclose(one, other, atol=1e-5)
    for rate in (RATE, 0.5):
        assert run.calibration.thresholds(rate) == exported.calibration.thresholds(rate)
        sets = [model.predict_set(pictures, abstain=rate) for model in (run, exported)]
        assert list(map(str, sets[0])) == list(map(str, sets[1]))
    assert np.array_equal(exported.predict_proba(pictures[:1]), exported.examined(squares[:1])[0])


@pytest.mark.slow
def test_files_without_calibration(photos_run, pictures, tmp_path, capsys):
    plain = OnnxClassifier(alexnet.export(photos_run, out=tmp_path / "plain.onnx"))
    assert [one.name for one in plain.session.get_outputs()] == ["probabilities"]
    assert "calibration" not in plain.about
    with pytest.raises(RunError, match="holds no calibration") as caught:
        plain.predict_set(pictures)
    assert "alexnet export RUN --abstain" in caught.value.hint
    assert main(["export", str(photos_run), "--format", "pt2", "--abstain"]) == 2
    assert "--abstain is for ONNX" in capsys.readouterr().err


def test_the_api(photos_run, pictures):
    model = alexnet.load(photos_run, precision="fp32")
    asked = Asked(model, Colours())
    try:
        abstains = [one["abstains"] for one in asked.get("/v1/models").json()["models"]]
        assert abstains == [True, False]
        expected = model.predict_set(pictures, abstain=RATE)
        for file, one in zip(pictures, expected, strict=True):
            content = file.read_bytes()
            answer = asked.post(content, f"/v1/predict?abstain={RATE}&top=1").json()["images"][0]
            assert [guess["class"] for guess in answer["set"]] == one.classes
            assert answer["unlike"] == one.unlike and len(answer["top"]) == 1
            assert set(asked.post(content).json()["images"][0]) == {"top"}
        for query, status, told in (
            ("abstain=0.05&model=model1", 409, "is not calibrated"),
            ("abstain=0.01", 422, "takes 99 at least"),
            ("abstain=1", 422, "abstain: "),
        ):
            refused = asked.post(content, f"/v1/predict?{query}")
            assert refused.status_code == status and told in refused.json()["error"]
    finally:
        asked.close()
