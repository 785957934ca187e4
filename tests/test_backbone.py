"""The backbone: how it learns from a teacher, and what starts from it."""

import json
import os
import signal
from typing import Any

import pytest
import torch
from makers import (
    FROZEN,
    MADE_FOR,
    SMALL,
    TINY,
    change,
    class_folders,
    lines,
    network_of,
    snapshot,
    write_pictures,
)
from torch import nn

import alexnet
from alexnet.cli import main
from alexnet.errors import Interrupted, ModelError, RecipeError
from alexnet.fitting.distillation import GRID, Student, Teacher
from alexnet.network import weight_names, weights
from alexnet.network.description import Preprocessing, architecture
from alexnet.network.model import AlexNet
from alexnet.network.weight_names import weights_folder
from alexnet.presets import RECIPES
from alexnet.runs import choice
from alexnet.runs.directory import RunDirectory

TAUGHT = change(TINY, teacher="made", teacher_size=20)


# -- learning from a teacher


def teacher_of(prepared, size=32):
    torch.manual_seed(0)
    network = AlexNet(SMALL, 1)
    return network, Teacher(network, MADE_FOR, prepared, size, torch.device("cpu"), torch.float32)


def test_a_teacher_sees_the_pictures_as_it_was_made_for_them():
    prepared = Preprocessing(32, 32, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    network, teacher = teacher_of(prepared)
    pixels = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    def normalised(how):
        mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (how.mean, how.std))
        return (pixels - mean) / std

    maps = network.eval().features(normalised(MADE_FOR))
    expected = nn.BatchNorm2d(maps.shape[1], affine=False)(nn.AdaptiveAvgPool2d(GRID)(maps))
    torch.testing.assert_close(teacher(normalised(prepared)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_student_learns_to_predict_its_teacher():
    _, teacher = teacher_of(MADE_FOR)
    student = Student(AlexNet(SMALL, 2), teacher, weight=2.0)
    x = torch.randn(32, 3, 32, 32)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    terms = []
    for _ in range(30):
        logits, term = student(x)
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        terms.append(float(term.detach()) / 2)
    assert 0.5 < terms[0] <= 1.001  # it predicts nothing yet; a channel that is always 0 counts 0
    assert terms[-1] < 0.8 * terms[0]
    assert logits.shape == (32, 2)
    assert student.eval()(x).shape == (32, 2)
    assert not any("teacher" in name for name in student.state_dict())


@pytest.mark.slow
def test_a_run_with_a_teacher_keeps_the_network_alone(folder, made, tmp_path, capsys):
    run = alexnet.train(folder, TAUGHT, out=tmp_path / "run")
    assert "teacher made: the small network, at 20 px" in capsys.readouterr().err
    plain = alexnet.train(folder, TINY, out=tmp_path / "plain")
    ours, theirs = (RunDirectory(one).network().tensors for one in (run, plain))
    assert ours.keys() == theirs.keys()
    name = "features.0.weight"
    assert not torch.equal(ours[name], theirs[name])
    averaged = alexnet.train(folder, change(TAUGHT, average=0.5), out=tmp_path / "averaged")
    assert RunDirectory(averaged).network().tensors.keys() == ours.keys()


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [2, 4])
def test_resuming_with_a_teacher_gives_the_same_bits(stop_at, folder, made, tmp_path, monkeypatch):
    whole = alexnet.train(folder, TAUGHT, out=tmp_path / "whole")
    original, steps = torch.optim.SGD.step, []

    def step(self, *arguments):
        steps.append(1)
        if len(steps) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(Interrupted):
        alexnet.train(folder, TAUGHT, out=tmp_path / "broken")
    broken = alexnet.train(folder, TAUGHT, out=tmp_path / "broken", resume=True)
    ours, theirs = (RunDirectory(one).network().tensors for one in (whole, broken))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_teacher_that_nobody_could_learn_from(folder, made, tmp_path):
    with pytest.raises(RecipeError, match="teacher is made, but the convolutions"):
        change(FROZEN, teacher="made")
    with pytest.raises(ModelError, match="too small for the small network"):
        alexnet.train(folder, change(TAUGHT, teacher_size=4), out=tmp_path / "run")
    with pytest.raises(alexnet.AlexNetError, match="there are no weights 'mad'"):
        alexnet.train(folder, change(TAUGHT, teacher="mad"), out=tmp_path / "run")


# -- a head that is solved, and then everything


@pytest.mark.slow
def test_a_solved_head_is_kept_unless_finetuning_is_better(folder, made, tmp_path):
    solved = change(FROZEN, head="logistic")
    head = alexnet.train(folder, solved, out=tmp_path / "head")
    assert [line["epoch"] for line in lines(head)] == [1]
    worse = change(solved, finetune_epochs=2, finetune_lr=5.0)
    kept = alexnet.train(folder, worse, out=tmp_path / "kept")
    assert [line["epoch"] for line in lines(kept)] == [1, 2, 3]
    better = alexnet.train(
        folder, change(solved, finetune_epochs=3, finetune_lr=0.02), out=tmp_path / "better"
    )
    chosen = [max(line["epoch"] for line in lines(run) if line["best"]) for run in (kept, better)]
    first, second, third = (RunDirectory(run).network().tensors for run in (head, kept, better))
    name = "features.0.weight"
    assert torch.equal(first[name], second[name]) == (chosen[0] == 1)
    assert torch.equal(first[name], third[name]) == (chosen[1] == 1)


# -- what a folder starts from


@pytest.fixture
def backbone(monkeypatch):
    """A small network in the place of the backbone."""
    path = weights_folder() / "small.safetensors"
    made = network_of(path, architecture("compact", width=0.1), 5, MADE_FOR)
    monkeypatch.setitem(weight_names.SHIPPED, "backbone", path)
    return made


QUICK = {"epochs": 2, "finetune_epochs": 1, "report": False, "tensorboard": False}


def settled(folder, **fields):
    return choice.settled(folder, RECIPES["folder"].recipe.replace(**fields))


@pytest.fixture
def photos(tmp_path):
    """Not tiny."""
    return write_pictures(tmp_path / "photos", side=choice.TINY + 1)


def test_a_folder_starts_from_the_backbone(photos, backbone, tmp_path, capsys):
    recipe = RECIPES["folder"].recipe.replace(**QUICK)
    run = alexnet.train(photos, recipe, out=tmp_path / "run")
    assert "starts from our backbone" in " ".join(capsys.readouterr().err.split())
    settings = RunDirectory(run).settings
    assert settings.asked.weights == settings.recipe.weights == "backbone"
    assert RunDirectory(run).network().architecture.map_maximum
    assert [line["epoch"] for line in lines(run)] == [1, 2, 3]
    assert alexnet.train(photos, recipe, out=run, resume=True) == run


def test_another_network_starts_from_scratch(photos, backbone):
    recipe, told = settled(photos, width=0.5, lr=0.03, finetune_epochs=3)
    assert recipe == RECIPES["scratch"].recipe.replace(width=0.5, lr=0.03)
    assert "another network than asked for (--width); --finetune-epochs of frozen layers" in told


def test_many_images_start_from_scratch(photos, backbone, monkeypatch):
    assert settled(photos)[0].weights == "backbone"
    monkeypatch.setattr(choice, "MANY", 59)
    recipe, told = settled(photos, seed=3)
    assert recipe == RECIPES["scratch"].recipe.replace(seed=3)
    assert "60 training images are enough for a network of their own" in told


def test_few_images_train_the_head_alone(photos, backbone, monkeypatch):
    assert settled(photos)[0].finetune_epochs == 0
    assert settled(photos, finetune_epochs=4)[0].finetune_epochs == 4
    assert settled(photos, mixup=0.2)[0].finetune_epochs == 10
    monkeypatch.setattr(choice, "ENOUGH", 60)
    usual = RECIPES["folder"].recipe
    assert settled(photos)[0] == usual.replace(weights="backbone")


def test_tiny_images_start_from_scratch(backbone, tmp_path):
    small = write_pictures(tmp_path / "small", side=choice.TINY)
    recipe, told = settled(small)
    assert recipe == RECIPES["scratch"].recipe
    assert f"images of {choice.TINY} px show too little" in told


def test_recipes_that_name_their_weights_are_left_alone(folder):
    for recipe in (RECIPES["scratch"].recipe, RECIPES["finetune"].recipe, TINY):
        assert choice.settled(folder, recipe) == (recipe, "")


@pytest.mark.slow
def test_a_run_that_began_from_scratch_goes_on_so(photos, tmp_path):
    """As a run of 0.1.0 did, whose default was another."""
    before = RECIPES["scratch"].recipe.replace(width=0.1, epochs=1, report=False, warmup=0.0)
    run = alexnet.train(photos, before, out=tmp_path / "run")
    now = RECIPES["folder"].recipe.replace(width=0.1, epochs=1, report=False, warmup=0.0)
    assert alexnet.train(photos, now, out=run, resume=True) == run


def test_fields_that_are_swept_count_as_changed(photos, backbone):
    asked = RECIPES["folder"].recipe
    trained, solved = asked.replace(weights="backbone", finetune_epochs=0), settled(photos)[0]
    assert solved.folds == choice.FOLDS
    for swept, base in (
        (["lr", "dropout"], trained),
        (["lr", "finetune_epochs"], asked.replace(weights="backbone")),
        (["image_size", "seed"], solved),
        (["lr", "width"], RECIPES["scratch"].recipe),
        (["weights"], RECIPES["scratch"].recipe),
    ):
        assert choice.settled(photos, asked, swept=swept)[0] == base, swept
    assert "(--width, --norm)" in choice.settled(photos, asked, swept=["width", "norm"])[1]
    assert "weights are swept" in choice.settled(photos, asked, swept=["weights"])[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "judged"),
    [({"lr": [0.05, 0.001]}, "validation"), ({"image_size": [24, 32]}, "5-fold cross-validation")],
)
def test_a_sweep_starts_from_what_a_training_would(
    grid, judged, photos, backbone, tmp_path, capsys
):
    sweep = alexnet.sweep(photos, grid=grid, out=tmp_path / "sweep", tensorboard=False)
    said = " ".join(capsys.readouterr().err.split())
    assert "each trial: starts from our backbone" in said
    assert f"best on {judged}: " in said and f": {judged} top-1 " in said
    [best] = json.loads((sweep / "summary.json").read_text())["winner_trials"]
    assert RunDirectory(sweep / "trials" / best).settings.recipe.weights == "backbone"
    page = (sweep / "report.html").read_text()
    assert f"accuracy on {judged}" in page and ("training, in 5-fold" in page) == ("5" in judged)
    assert ("the epoch that was kept" in page) == (judged == "validation")  # a solved head has one
    [[field, values]] = grid.items()
    asked = f"{field}={','.join(map(str, values))}"
    assert main(["sweep", str(photos), "--grid", asked, "--dry-run"]) == 0
    images = "6 validation" if judged == "validation" else "48 cross-validated"
    assert f"2 settings and {images} images" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_rate_is_looked_for_of_a_head_that_is_trained(photos, backbone, tmp_path):
    run = alexnet.train(photos, out=tmp_path / "run", only_find_lr=True)
    assert (run / "lr.json").is_file()
    assert RunDirectory(run).settings.recipe.head == "trained"


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"width": 0.1}, {"image_size": 24, "crop": 24, "pool": "max"}])
def test_a_sweep_that_began_from_scratch_goes_on_so(how, photos, backbone, tmp_path, capsys):
    """As one of 0.1.0 did, whose default was another."""
    grid = {"lr": [0.05, 0.01]}
    brief: dict[str, Any] = {"epochs": 1, "tensorboard": False}
    sweep = alexnet.sweep(photos, "scratch", grid, out=tmp_path / "sweep", **brief, **how)
    before = snapshot(sweep / "trials")
    capsys.readouterr()
    assert alexnet.sweep(photos, "folder", grid, out=sweep, **brief, **how) == sweep
    assert "starts from scratch: so this sweep began" in capsys.readouterr().err
    assert snapshot(sweep / "trials") == before


def test_well_known_data_sets_are_told(backbone, tmp_path):
    cifar = "airplane automobile bird cat deer dog frog horse ship truck".split()
    told = settled(class_folders(tmp_path / "cifar", dict.fromkeys(cifar, 3), size=(32, 32)))[1]
    assert "These are the classes of cifar10, for which --recipe cifar10 is made" in told
    assert choice.well_known(1000, ["n01443537", "n01698640"]) == ["tiny-imagenet"]
    assert not choice.well_known(999, ["n01443537", "n01698640"])
    assert not choice.well_known(30, ["cat", "dog"])


@pytest.mark.parametrize("name", ["digits", "cifar10", "tiny-imagenet-frozen-as-run"])
def test_a_recipe_for_other_data_is_told(name, photos, tmp_path):
    asked = RECIPES[name].recipe.replace(seed=3)
    recipe, told = choice.settled(photos, asked)
    assert recipe == asked
    assert f"recipe {name} is made for" in told
    tens = class_folders(tmp_path / "tens", dict.fromkeys("0123456789", 2), size=(8, 8))
    assert bool(choice.settled(tens, asked)[1]) == (name != "digits")
    assert choice.settled("digits", RECIPES["digits"].recipe) == (RECIPES["digits"].recipe, "")


def test_a_run_that_is_called_as_weights_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = write_pictures(tmp_path / "photos")
    asked = RECIPES["folder"].recipe.replace(weights="backbone")
    assert choice.settled(photos, asked) == (asked, "")
    write_pictures(tmp_path / "backbone")
    told = choice.settled(photos, asked)[1]
    assert told.endswith("the weights of that name; what is called so in this folder is ./backbone")
    assert choice.settled(photos, asked.replace(weights="./backbone"))[1] == ""


def test_a_folder_that_is_called_as_a_data_set_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert choice.made_for_other_data("digits", RECIPES["digits"].recipe) == ""
    for name in ("digits", "cifar10"):
        write_pictures(tmp_path / name)
    told = choice.made_for_other_data("digits", RECIPES["digits"].recipe)
    assert (
        told == "digits is the data set of that name; what is called so in this folder is ./digits"
    )
    told = choice.made_for_other_data("cifar10", RECIPES["cifar10"].recipe)
    assert told.endswith("this is other data; as ./cifar10 it starts from our backbone")


@pytest.mark.parametrize(("images", "told"), [(4, True), (5, False)])
def test_classes_of_few_images_are_told_what_that_is_worth(
    images, told, backbone, tmp_path, capsys
):
    folder = class_folders(tmp_path / "few", {"cat": 9, "eel": images}, size=(32, 32))
    recipe = RECIPES["folder"].recipe.replace(**QUICK)
    alexnet.train(folder, recipe, out=tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    expected = "the smallest class, eel, has 4 images: 2 to train on, 1 for validation, 1 for the"
    assert (expected in said) == told


# -- the backbone itself


def test_the_backbone_comes_with_the_package(tmp_path):
    path = weight_names.SHIPPED["backbone"]
    assert path.stat().st_size <= 4_000_000
    network = weights.find_weights("backbone")
    assert network.architecture.name == "compact"
    assert len(network.classes) == 100
    assert "backbone" in dict(weights.listing())
    with pytest.raises(alexnet.AlexNetError, match="there are other weights named backbone"):
        other = network_of(tmp_path / "other.safetensors", SMALL, 5)
        weights.import_weights(other.path, "backbone")
