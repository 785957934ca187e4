"""The same is asked for, whether by Python or by the command line: every field, every file."""

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from makers import TINY, another, write_pictures

import alexnet
from alexnet.cli import main, parse
from alexnet.commands.flags import flags
from alexnet.errors import RecipeError
from alexnet.presets import RECIPES, nearest, told
from alexnet.recipes import FIELD_TYPES, Recipe
from alexnet.runs.configs import asked_for
from alexnet.runs.directory import RunDirectory

BASE = alexnet.recipe("finetune", epochs=9)  # of which each of these is one change


def as_words(name, value):
    """The flag of a field."""
    switch = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{switch}" if value else f"--no-{switch}"]
    return [f"--{switch}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]


@pytest.mark.parametrize("name", FIELD_TYPES)
def test_a_flag_and_a_field_are_the_same(name):
    value = another(name, FIELD_TYPES[name], getattr(BASE, name))
    fields: dict[str, Any] = {name: value}
    if value is None:  # it needs another base
        base: dict[str, dict[str, Any]] = {
            "frozen_dropout": {"cache": False}, "head": {}, "nesterov": {"optimizer": "sgd"},
            "teacher": {"freeze": "none", "finetune_epochs": 0},
            "folds": {"head": "ridge", "finetune_epochs": 0},
        }  # fmt: skip
        fields = base[name] | {name: {"head": "ridge", "teacher": "x", "folds": 5}.get(name, True)}
    words = [word for pair in fields.items() for word in as_words(*pair)]
    typed = parse(["train", "x", "--recipe", "finetune", "--epochs", "9", *words]).fields
    assert getattr(typed, name) != getattr(BASE, name)
    assert typed == alexnet.recipe("finetune", **{"epochs": 9} | fields)
    assert typed == asked_for("x", "finetune", **{"epochs": 9} | fields)


@pytest.mark.parametrize("data", ["digits", "cifar10", "some/folder"])
def test_fields_amend_the_preset_that_the_data_has(data):
    assert asked_for(data, epochs=5) == parse(["train", data, "--epochs", "5"]).fields
    suits = RECIPES[data if data in RECIPES else "folder"].recipe
    assert asked_for(data, epochs=5) == dataclasses.replace(suits, epochs=5)


def test_a_misspelt_field_is_suggested():
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"epohcs": 5}, "'epochs'"), ({"learning_rate": 1}, "'lr'"),
    ]  # fmt: skip
    for fields, hint in wrong:
        with pytest.raises(RecipeError, match=f"no recipe field '{next(iter(fields))}'") as caught:
            asked_for("digits", **fields)
        assert hint in caught.value.hint
    with pytest.raises(RecipeError, match="epochs is -1, expected at least 0"):
        alexnet.recipe("digits", epochs=-1)
    for none in ({"epochs": 1}, None, 7):
        with pytest.raises(RecipeError, match="a recipe is a Recipe or the name of one") as caught:
            alexnet.recipe(none)  # type: ignore[arg-type]
        assert "Fields are keywords" in caught.value.hint


def test_a_recipe_that_names_some_fields_amends_the_preset(capsys):
    for whole in (
        alexnet.recipe("digits", epochs=5),
        alexnet.RECIPES["cifar10"].recipe,
        Recipe().replace(epochs=5),
        pickle.loads(pickle.dumps(alexnet.recipe("cifar10"))),
        copy.deepcopy(dataclasses.replace(Recipe(), epochs=5)),
    ):
        assert asked_for("digits", whole) == whole
    assert capsys.readouterr().err == ""
    for some in (Recipe(epochs=5), pickle.loads(pickle.dumps(Recipe(epochs=5)))):
        assert asked_for("digits", some, lr=0.2) == alexnet.recipe("digits", epochs=5, lr=0.2)
        assert "names 1 fields amends the preset digits" in capsys.readouterr().err


def test_what_a_recipe_is_in_words():
    assert told(RECIPES["digits"].recipe, "digits") == "recipe digits"
    found = alexnet.recipe("digits", epochs=5, flip=True)
    assert nearest(found, "digits") == ("digits", {"epochs": 5, "flip": True})
    assert told(found, "digits") == "recipe digits with flip on, epochs 5"


# -- files and runs --------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path):
    """The recipe that a command asks for with a file of this content."""

    def typed(name, content, *words, data="digits"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        fields = parse(["train", data, "--config", str(tmp_path / name), *words]).fields
        if not words:
            assert asked_for(data, config=tmp_path / name) == fields
        return fields

    return typed


def test_a_file_amends_the_preset_and_flags_amend_both(asked):
    content = "lr = 0.02\nbatch-size = 8\nmean = [0.1, 0.2, 0.3]\n"
    fields = {"lr": 0.02, "batch_size": 8, "mean": (0.1, 0.2, 0.3)}
    assert asked("a.toml", content) == alexnet.recipe("digits", **fields)
    assert asked("a.toml", content, "--lr", "1") == alexnet.recipe("digits", **fields | {"lr": 1.0})
    assert asked("a.json", '{"recipe": "cifar10", "seed": 3}') == alexnet.recipe("cifar10", seed=3)


def test_a_whole_recipe_needs_no_preset(asked, monkeypatch, capsys):
    whole = json.dumps(BASE.to_dict())
    assert asked("whole.json", whole) == BASE
    monkeypatch.setattr("alexnet.runs.configs.NEWER", {"report": True})  # as if it came later
    older = {name: one for name, one in BASE.to_dict().items() if name != "report"}
    assert asked("older.json", json.dumps(older)) == BASE
    assert "older.json is older than report" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", "lr = ", "cannot be read"),
        ("a.toml", "[lr]\nvalue = 1", "does not hold fields"),
        ("a.json", "[1]", "does not hold fields"),
        ("a.json", '{"epohcs": 1}', "no recipe field 'epohcs'"),
        ("a.json", '{"epochs": "many"}', "epochs is 'many', expected a whole number"),
        ("a.yaml", "lr: 1", "neither a run directory nor a .toml or .json file"),
    ],
)
def test_a_file_that_cannot_be_used(name, content, message, asked):
    with pytest.raises(RecipeError, match=message):
        asked(name, content)


def test_a_run_is_a_recipe(tmp_path):
    data, run = write_pictures(tmp_path / "photos", 12), tmp_path / "run"
    alexnet.train(data, TINY, seed=3, out=run)
    expected = dataclasses.replace(TINY, seed=3)
    assert parse(["train", "x", "--config", str(run)]).fields == expected
    assert parse(["train", "x", "--config", str(run / "recipe.json")]).fields == expected
    assert asked_for("x", config=run, lr=1.0) == dataclasses.replace(expected, lr=1.0)
    with pytest.raises(RecipeError, match="has a whole recipe"):
        asked_for("x", "digits", config=run)


# -- the same weights ------------------------------------------------------------------------------

CHANGES = [
    {}, {"lr": 0.02}, {"batch_size": 8}, {"flip": False}, {"optimizer": "adamw", "nesterov": False},
    {"seed": 7}, {"label_smoothing": 0.1}, {"fc_layers": 2, "hidden": 16}, {"average": 0.9},
    {"schedule": "step", "step_size": 1}, {"norm": "none", "clip": 1.0},
]  # fmt: skip
BRIEF = {"epochs": 2, "width": 0.1, "report": False, "tensorboard": False}


def both_ways(data, fields, folder):
    """best.safetensors of a run by Python, and of one by the command line."""
    words = [word for pair in fields.items() for word in as_words(*pair)]
    alexnet.train(data, out=folder / "python", **fields)
    assert main(["train", str(data), *words, "--out", str(folder / "words")]) == 0
    return [RunDirectory(folder / one).best.read_bytes() for one in ("python", "words")]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_folder_trains_to_the_same_bits(change, tmp_path):
    data = write_pictures(tmp_path / "photos", 12)
    size = {"image_size": 20, "crop": 16, "pool": "max"}
    one, other = both_ways(data, BRIEF | size | change, tmp_path)
    assert one == other


@pytest.mark.slow
def test_digits_train_to_the_same_bits(tmp_path):
    one, other = both_ways("digits", BRIEF, tmp_path)
    assert one == other


def test_flags_are_known_without_reading_their_source():
    assert [one.switch for one in flags(Recipe, told=False)] == [
        one.switch for one in flags(Recipe)
    ]
