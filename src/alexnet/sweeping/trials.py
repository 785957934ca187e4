"""Values of recipe fields -> points -> trials, and groups of trials that can train side by side."""

import itertools
import json
import math
import random as random_module
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from alexnet.errors import RecipeError
from alexnet.presets import Study
from alexnet.recipes import FIELD_TYPES, STACKABLE, Recipe, nearest_name

Point = dict[str, Any]  # field: value
A_GRID = 'Example: grid={"lr": [0.1, 0.01], "momentum": [0.9, 0.0]}'


@dataclass(frozen=True)
class Range:
    """Every number from `low` to `high`; both ends are included."""

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def log(self) -> bool:
        """Whether its numbers are drawn evenly on a logarithmic scale: where it spans a factor of
        10 or more."""
        return self.low > 0 and self.high >= 10 * self.low

    def draw(self, generator: random_module.Random) -> float:
        """A number of it."""
        if self.log:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = generator.uniform(self.low, self.high)
        return round(value) if self.whole else float(f"{value:.4g}")

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


Space = dict[str, list[Any] | Range]
TRIALS = 50  # of --search tpe, where nobody says how many


@dataclass(frozen=True)
class Trial:
    """One point of a sweep."""

    settings: dict[str, Any]  # the swept fields
    recipe: Recipe

    @property
    def name(self) -> str:
        """The name of its folder: equal recipes, equal names."""
        return self.recipe.digest

    @property
    def judged_on(self) -> str:
        """What it is compared with others on."""
        folds = self.recipe.folds
        return f"{folds}-fold cross-validation" if folds else "validation"


def parse_space(texts: Sequence[str]) -> Space:
    """{"lr": [0.1, 0.01]} from "lr=0.1,0.01", and a Range from "lr=0.001..0.1"; values typed as the
    recipe's fields. Numbers of one value are separated by "/": mean=0.5/0.5/0.5.

    Raises:
        RecipeError: an unknown field, a value of another type, nothing to sweep.
    """
    space: Space = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in FIELD_TYPES:
            raise unknown_field(name)
        if not equals or not values.strip():
            raise RecipeError(f"{text!r} has no values.", "Example: --grid lr=0.1,0.01,0.001")
        if name in space:
            raise RecipeError(f"{name} is in the grid twice.", "Put all its values into one.")
        if ".." in values:
            space[name] = parse_range(name, values)
            continue
        listed = [parse_value(one.strip()) for one in values.split(",")]
        if len({repr(one) for one in listed}) < len(listed):
            raise RecipeError(f"{name} has the same value twice: {values}.", "Leave one out.")
        space[name] = listed
    return space


def space_of(grid: Mapping[str, Any] | Sequence[Point]) -> Space | list[Point]:
    """What Python programs give as a grid: lists of values, ranges, and both as text, as the
    command line has them; or listed points.

    Raises:
        RecipeError: as `parse_space`; no lists of values.
    """
    if not isinstance(grid, Mapping):
        points = list(grid) if isinstance(grid, Iterable) else [grid]
        for point in points:
            if not isinstance(point, Mapping):
                raise RecipeError(f"{point!r} is no point of a grid.", A_GRID)
            if unknown := [name for name in point if name not in FIELD_TYPES]:
                raise unknown_field(unknown[0])
        return points
    space: Space = {}
    for name, values in grid.items():
        if isinstance(values, str):
            space |= parse_space([f"{name}={values}"])
            continue
        if name not in FIELD_TYPES:
            raise unknown_field(name)
        if isinstance(values, Range):
            space[name] = values
            continue
        if not isinstance(values, Iterable):
            raise RecipeError(f"{name} is {values!r}, expected its values in a list.", A_GRID)
        # NumPy's numbers as Python's
        listed = [one.item() if hasattr(one, "item") else one for one in values]
        if not listed:
            raise RecipeError(f"{name} has no values.", A_GRID)
        space[name] = listed
    return space


def require_used(search: str, random: int, trials: int) -> None:
    """RecipeError where points are chosen in another way than the one that is spoken of."""
    if search == "tpe" and random:
        raise RecipeError(
            f"random is {random}, but --search tpe chooses the points itself.",
            f"Use --trials {random} for as many, or leave out --search.",
        )
    if search != "tpe" and trials != TRIALS:
        raise RecipeError(
            f"trials is {trials}, but only --search tpe counts its points so.",
            f"Use --random {trials} for as many points of a grid, or --search tpe.",
        )


def unknown_field(name: object) -> RecipeError:
    """The error of a name that is no field."""
    close = nearest_name(str(name), FIELD_TYPES)
    hint = f"Did you mean {close!r}?" if close else "`alexnet train --help-all` explains them."
    return RecipeError(f"there is no recipe field {name!r} to sweep.", hint)


def parse_range(name: str, text: str) -> Range:
    """The Range of "0.001..0.1".

    Raises:
        RecipeError: not two numbers in ascending order.
    """
    low, _, high = text.partition("..")
    ends = _number(low.strip()), _number(high.strip())
    if ends[0] is None or ends[1] is None or not ends[0] < ends[1]:
        raise RecipeError(
            f"{name} is {text!r}, expected a smaller and a larger number.", "Example: lr=0.001..0.1"
        )
    return Range(ends[0], ends[1])


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


def grid_points(space: Space) -> list[Point]:
    """Every combination of the listed values, in order.

    Raises:
        RecipeError: nothing to sweep, or a range, which has no end of points.
    """
    if not space:
        raise RecipeError("there is nothing to sweep.", "Give values, such as lr=0.1,0.01,0.001.")
    for name, values in space.items():
        if isinstance(values, Range):
            raise RecipeError(
                f"{name} is a range, {values}, and a grid needs its values.",
                "Use --random N or --search tpe, or list values.",
            )
    listed = [values for values in space.values() if not isinstance(values, Range)]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*listed)]


def study_points(study: Study) -> list[Point]:
    """The points of a named sweep."""
    return study.points or grid_points({**study.grid})


def random_points(space: Space, count: int, seed: int) -> list[Point]:
    """`count` points of the space, none twice; all of a grid that has fewer."""
    generator = random_module.Random(seed)  # noqa: S311
    if not any(isinstance(values, Range) for values in space.values()):
        return drawn(grid_points(space), count, seed)
    return [
        {
            name: values.draw(generator)
            if isinstance(values, Range)
            else values[generator.randrange(len(values))]
            for name, values in space.items()
        }
        for _ in range(count)
    ]


def drawn(points: list[Point], count: int, seed: int) -> list[Point]:
    """`count` of the points, none twice."""
    return random_module.Random(seed).sample(points, min(count, len(points)))  # noqa: S311


def points_of(space: Space | Sequence[Point], random: int, seed: int) -> list[Point]:
    """The points to try: those listed, all of a grid, or some drawn at random."""
    if not isinstance(space, dict):
        points = list(space)
        return drawn(points, random, seed) if random else points
    return random_points(space, random, seed) if random else grid_points(space)


def plan(
    base: Recipe, points: Sequence[Point], *, seeds: int = 1, max_trials: int = 200
) -> list[Trial]:
    """The trials of some points, in order, each with `seeds` seeds from the recipe's own upwards.

    Raises:
        RecipeError: too many trials, a point that no recipe allows.
    """
    if seeds > 1 and any("seed" in point for point in points):
        raise RecipeError("seed is in the grid, and --seeds is given.", "Leave one out.")
    if len(points) * seeds > max_trials:
        raise RecipeError(
            f"the grid has {len(points):,} points, which with {seeds} seeds is "
            f"{len(points) * seeds:,} trials; at most {max_trials:,} are allowed.",
            f"Use --random N, or --max-trials {len(points) * seeds}.",
        )
    fields = {name: None for point in points for name in point}  # in order
    trials = {}
    for point in points:
        for seed in range(seeds):
            seeded = {"seed": base.seed + seed} if seeds > 1 else {}
            recipe = base.replace(**typed(point | seeded))
            # as the recipe spells a value, so that 1 and 1.0 are the same trial
            settings = {name: getattr(recipe, name) for name in [*fields, *seeded]}
            trials[recipe.digest] = Trial(settings, recipe)
    return list(trials.values())


def typed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with numbers and none turned into words where a field wants words, such as
    model=2012 and norm=none."""
    fixed = {}
    for name, value in settings.items():
        hint = FIELD_TYPES[name]
        words = get_args(hint) if get_origin(hint) is Literal else ()
        wants_text = hint is str or any(isinstance(word, str) for word in words)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fixed[name] = str(value) if wants_text and is_number else value
        if value is None and ("none" in words or hint is str):
            fixed[name] = "none"
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
            and not recipe.solved
            and recipe.lr != "auto"
            and recipe.epochs
            and not recipe.finetune_epochs
            and not recipe.average
            and recipe.shards in ("auto", 1)
            and recipe.optimizer != "muon"  # whose steps depend on all of a weight
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
