"""A grid over recipe fields -> trials, and groups of trials that can train side by side."""

import itertools
import json
import random as random_module
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from alexnet.errors import RecipeError, did_you_mean
from alexnet.recipes import FIELD_TYPES, Recipe

# what may differ between heads that train side by side
STACKABLE = frozenset(
    {"lr", "momentum", "weight_decay", "schedule", "gamma", "step_size", "warmup"}
)
Grid = dict[str, list[Any]]


@dataclass(frozen=True)
class Trial:
    """One point of a sweep."""

    settings: dict[str, Any]  # the swept fields
    recipe: Recipe

    @property
    def name(self) -> str:
        """The name of its folder: equal recipes, equal names."""
        return self.recipe.digest


def parse_grid(texts: Sequence[str]) -> Grid:
    """{"lr": [0.1, 0.01]} from "lr=0.1,0.01", values typed as the recipe's fields. Numbers of one
    value are separated by "/": mean=0.5/0.5/0.5.

    Raises:
        RecipeError: an unknown field, a value of another type, nothing to sweep.
    """
    grid: Grid = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in FIELD_TYPES:
            raise RecipeError(
                f"there is no recipe field {name!r} to sweep.", did_you_mean(name, FIELD_TYPES)
            )
        if not equals or not values.strip():
            raise RecipeError(f"{text!r} has no values.", "Example: --grid lr=0.1,0.01,0.001")
        if name in grid:
            raise RecipeError(f"{name} is in the grid twice.", "Put all its values into one.")
        grid[name] = [parse_value(one.strip()) for one in values.split(",")]
        if len({repr(one) for one in grid[name]}) < len(grid[name]):
            raise RecipeError(f"{name} has the same value twice: {values}.", "Leave one out.")
    return grid


def parse_value(text: str) -> Any:
    """A number, true, false, none, several numbers, or a word."""
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    if "/" in text and all(_number(part) is not None for part in text.split("/")):
        return tuple(_number(part) for part in text.split("/"))
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None


def plan(
    base: Recipe, grid: Grid, *, seeds: int = 1, random: int = 0, max_trials: int = 200
) -> list[Trial]:
    """All trials of a grid, in order, each with `seeds` seeds; or `random` of its points.

    Raises:
        RecipeError: nothing to sweep, too many trials, a point that no recipe allows.
    """
    if not grid:
        raise RecipeError("there is nothing to sweep.", "Example: --grid lr=0.1,0.01,0.001")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if random:
        points = random_module.Random(base.seed).sample(points, min(random, len(points)))  # noqa: S311
    if seeds > 1 and "seed" in grid:
        raise RecipeError("seed is in the grid, and --seeds is given.", "Leave one out.")
    if len(points) * seeds > max_trials:
        raise RecipeError(
            f"the grid has {len(points):,} points, which with {seeds} seeds is "
            f"{len(points) * seeds:,} trials; at most {max_trials:,} are allowed.",
            f"Use --random N, or --max-trials {len(points) * seeds}.",
        )
    trials = []
    for point in points:
        for seed in range(seeds):
            settings = point | ({"seed": base.seed + seed} if seeds > 1 else {})
            # one spelling of a value, so that 1 and 1.0 are the same trial
            recipe = Recipe.from_dict(base.to_dict() | typed(settings))
            trials.append(Trial({name: getattr(recipe, name) for name in settings}, recipe))
    return trials


def typed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with numbers turned into words where a field wants words, such as model=2012."""
    fixed = {}
    for name, value in settings.items():
        hint = FIELD_TYPES[name]
        words = get_args(hint) if get_origin(hint) is Literal else ()
        wants_text = hint is str or any(isinstance(word, str) for word in words)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fixed[name] = str(value) if wants_text and is_number else value
    return fixed


def stacks(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Groups of trials that train side by side; a group of one trains alone."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        recipe = trial.recipe
        fields = recipe.to_dict()
        if (
            recipe.freeze != "none"
            and recipe.cache
            and recipe.head == "trained"
            and recipe.lr != "auto"
            and recipe.epochs
            and not recipe.finetune_epochs
            and not recipe.average
        ):
            fields = {name: value for name, value in fields.items() if name not in STACKABLE}
        groups.setdefault(json.dumps(fields, sort_keys=True), []).append(trial)
    return list(groups.values())


def told(settings: dict[str, Any]) -> str:
    """Settings in words."""
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in settings.items()
    )
