"""What a run is asked for: the preset that suits the data, or a named one; amended by a file or
taken from another run; amended by fields. The one way to a recipe, from Python and from the command
line. Imports no torch.
"""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

from alexnet import marks
from alexnet.console import say
from alexnet.errors import RecipeError
from alexnet.presets import default_recipe, preset_for
from alexnet.recipes import FIELD_TYPES, NEWER, Recipe
from alexnet.runs.directory import RunDirectory
from alexnet.values import ELSEWHERE

Fields = dict[str, Any]
Asked = Annotated[Recipe | str | None, ELSEWHERE]  # by `asked_for`


def asked_for(data: str, recipe: Asked = None, *, config: str | Path = "", **fields: Any) -> Recipe:
    """The recipe of a run.

    Args:
        data: a name or a path.
        recipe: the name of a preset, or None for the one that suits the data; or a Recipe, which is
            taken as it is if it is whole, and amends the preset that suits the data if not.
        config: a run directory, whose recipe is taken; a sweep directory, for that of its best
            trial; or a .toml or .json file of fields, which amend the preset (its entry `recipe`
            names another one).
        fields: amend all that.

    Raises:
        RecipeError: no such preset or field, a value that a field cannot have, a file that cannot
            be read. RunError: not a run directory.
    """
    if isinstance(recipe, Recipe):
        if config:
            raise RecipeError("a Recipe and a config both say all of a run.", "Give one of them.")
        amendments = recipe.amendments
        if amendments is None:
            return recipe.replace(**fields)
        say(
            f"a Recipe that names {len(amendments)} fields amends the preset {preset_for(data)}; "
            "alexnet.recipe(NAME, ...) makes a whole one"
        )
        return default_recipe(data).replace(**amendments | fields)
    if not config:
        return default_recipe(data, recipe).replace(**fields)
    path = Path(config).expanduser()
    if (path / marks.SWEEP).is_file():
        path /= marks.BEST
        if not path.is_file():
            raise RecipeError(
                f"the sweep {path.parent} has not chosen a best trial.",
                "Give the same `alexnet sweep` command again: it goes on where it was stopped.",
            )
    if path.is_dir() or path.name == marks.RUN:
        if recipe:
            raise RecipeError(
                f"the run {path} has a whole recipe, and so does the preset {recipe}.",
                "Leave out --recipe, or --config.",
            )
        return RunDirectory(path if path.is_dir() else path.parent).settings.asked.replace(**fields)
    found = read_fields(path)
    named = found.pop("recipe", None)
    if FIELD_TYPES.keys() - NEWER.keys() <= found.keys():  # a whole recipe, perhaps an older one
        older = sorted(NEWER.keys() - found.keys())
        if older:
            say(f"{path} is older than {', '.join(older)}: taken as releases without them did")
        return _amended(path, Recipe(), NEWER | found).replace(**fields)
    return _amended(path, default_recipe(data, recipe or named), found).replace(**fields)


def _amended(path: Path, base: Recipe, found: Fields) -> Recipe:
    """A recipe with the fields of a file."""
    try:
        return base.replace(**found)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error.message}", error.hint) from error


def read_fields(path: Path) -> Fields:
    """The fields that a .toml or .json file holds, named as those of a Recipe or as flags.

    Raises:
        RecipeError: there is no such file, or it holds something else.
    """
    hint = "Example of a .toml file: lr = 0.02 on one line, epochs = 60 on the next."
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".toml":
            found = tomllib.loads(text)
        elif path.suffix.lower() == ".json":
            found = json.loads(text)
        else:
            raise RecipeError(f"{path} is neither a run directory nor a .toml or .json file.", hint)
    except FileNotFoundError as error:
        raise RecipeError(
            f"there is nothing at {path}.", "Give a run directory, or a .toml or .json file."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"{path} cannot be read ({error}).", hint) from error
    if not isinstance(found, dict) or any(isinstance(one, dict) for one in found.values()):
        raise RecipeError(f"{path} does not hold fields and their values.", hint)
    return {name.replace("-", "_"): value for name, value in found.items()}
