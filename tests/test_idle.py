"""Fields without effect: those that are said to have none have none, and all others have one."""

import functools

import numpy as np
import pytest
from makers import FROZEN, TINY, another, change, lines, write_pictures
from safetensors.numpy import load_file

import alexnet
from alexnet.cli import main
from alexnet.errors import InputError, RecipeError
from alexnet.idle import without_effect
from alexnet.recipes import BYSTANDERS, FIELD_TYPES
from alexnet.runs.directory import RunDirectory

SOLVED = change(FROZEN, head="logistic")
BASES = {
    "everything is trained": change(TINY, image_size=20, crop=16, precision="fp32"),
    "a head on cached features": FROZEN,
    "a head, new views in each epoch": change(FROZEN, cache=False),
    "a head, then everything": change(FROZEN, epochs=1, finetune_epochs=1),
    "solved": SOLVED,
    "solved in folds": change(SOLVED, folds=2),
    "solved, then everything": change(SOLVED, finetune_epochs=1),
}
# which of these pictures, or of what they come to, have no effect by chance, or are the same thing
ALIKE = set(
    "columns pool activation greyscale views val_size batch_size warmup class_weights patience "
    "keep".split()
)


@pytest.fixture
def outcome(tmp_path, made):
    """Recipe -> what its training comes to: the weights, the answers, the losses."""
    write_pictures(tmp_path / "photos", per_class=8, side=24)
    runs = 0

    def trained(recipe):
        nonlocal runs
        runs += 1
        run = alexnet.train(tmp_path / "photos", recipe, out=tmp_path / f"run{runs}")
        losses = [(one["train_loss"], one["val_loss"]) for one in lines(run)]
        logits = np.load(run / "predictions.npz")["logits"]
        return (
            load_file(run / "best.safetensors"),
            logits,
            losses,
            RunDirectory(run).settings.recipe,
        )

    return trained


def same(one, other, losses=True):
    return (
        one[0].keys() == other[0].keys()
        and all(np.array_equal(one[0][name], other[0][name]) for name in one[0])
        and np.array_equal(one[1], other[1])
        and (one[2] == other[2] or not losses)
    )


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
def test_what_is_said_to_have_no_effect_has_none(base, outcome):
    """All of it changed at once: the same bits."""
    before = outcome(BASES[base])
    idle = without_effect(before[3])
    others = {name: another(name, FIELD_TYPES[name], getattr(BASES[base], name)) for name in idle}
    changes = {name: value for name, value in others.items() if value is not None}
    assert len(changes) >= 6
    recipe = change(BASES[base], **changes)
    assert same(before, outcome(recipe), losses="loss" not in idle)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["everything is trained", "a head on cached features"])
def test_every_other_field_has_an_effect_or_is_refused(base, outcome):
    before = outcome(BASES[base])
    idle, silent = without_effect(before[3]), []
    for name in FIELD_TYPES.keys() - BYSTANDERS - ALIKE - idle.keys() - {"weights", "model"}:
        value = another(name, FIELD_TYPES[name], getattr(BASES[base], name))
        try:
            if value is not None and same(before, outcome(change(BASES[base], **{name: value}))):
                silent.append(name)
        except alexnet.AlexNetError:
            continue
    assert silent == ["freeze"] * ("head" in base)  # there is nothing between the two


def test_it_is_said_once_and_where_it_was_asked_for(folder, made, tmp_path, capsys):
    train = functools.partial(alexnet.train, folder, FROZEN)
    train(out=tmp_path / "plain")
    assert "no effect" not in capsys.readouterr().err
    train(out=tmp_path / "other", gamma=0.5, step_size=3, jitter=0.5)
    told = [one for one in capsys.readouterr().err.splitlines() if "no effect" in one]
    assert [one.split(":")[0] for one in told] == ["gamma", "step_size"]
    train(out=tmp_path / "solved", head="logistic", jitter=0.5, lr=1.0)
    told = [one for one in capsys.readouterr().err.splitlines() if "no effect" in one]
    fields = {name for one in told for name in one.split(":")[0].split(", ")}
    assert {"jitter", "lr"} <= fields
    assert fields <= without_effect(change(SOLVED, shards=1, fc_layers=1)).keys()


@pytest.mark.slow
def test_what_has_no_effect_is_not_swept(folder, made, tmp_path, capsys):
    with pytest.raises(RecipeError, match="jitter is swept, but has no effect: the frozen layers"):
        alexnet.sweep(folder, FROZEN, {"jitter": [0.0, 0.5]}, out=tmp_path / "a")
    with pytest.raises(RecipeError, match=r"hidden is swept, but has no effect: .* fc_layers=2"):
        alexnet.sweep(folder, FROZEN, {"hidden": [8, 16]}, out=tmp_path / "b")
    assert main(["sweep", str(folder), "--grid", "gamma=0.1,0.5", "--dry-run"]) == 2
    assert "--schedule is one-cycle" in capsys.readouterr().err
    assert main(["sweep", "digits", "--grid", "gamma=0.1,0.5", "--grid", "schedule=one-cycle,step",
                 "--dry-run"]) == 0  # fmt: skip


def test_points_that_no_recipe_allows_say_nothing_of_effects(folder, made, tmp_path):
    base, space = change(FROZEN, epochs=1), {"warmup": [5.0, 6.0], "lr": [0.1, 0.2]}
    with pytest.raises(RecipeError, match="warmup is 5 epochs, the whole training 1"):
        alexnet.sweep(folder, base, space, out=tmp_path / "a")


def test_splits_that_the_data_has_are_not_drawn():
    assert without_effect(FROZEN).keys().isdisjoint({"val_size", "test_size", "split_seed"})
    assert {"val_size", "test_size", "split_seed"} <= without_effect(
        FROZEN, ["train", "val", "test"]
    ).keys()
    drawn = without_effect(FROZEN, ["train", "test"])
    assert "test_size" in drawn
    assert "val_size" not in drawn


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"trials": 5}, "trials is 5, but only search="),
        ({"search": "tpe", "random": 5}, "random is 5, but .* chooses the points itself"),
        ({"search": "typ"}, "search is 'typ', expected one of grid, tpe"),
    ],
)
def test_a_search_takes_what_is_meant_for_it(fields, told, tmp_path):
    with pytest.raises(InputError, match=told):
        alexnet.sweep("digits", grid={"lr": [0.1, 0.2]}, out=tmp_path / "a", **fields)
    assert not (tmp_path / "a").exists()
