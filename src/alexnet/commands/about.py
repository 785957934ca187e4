"""`alexnet recipes` and `doctor`: what there is, and what this machine has."""

import json
from dataclasses import dataclass
from typing import Annotated

from alexnet.commands.flags import Arg
from alexnet.console import waiting
from alexnet.presets import preset
from alexnet.recipes import Recipe


@dataclass(kw_only=True)
class Recipes:
    """List the named recipes, or show one: its source, command, numbers and every field."""

    name: Annotated[str, Arg(metavar="NAME", help="a recipe", positional=True)] = ""
    # Print the fields as JSON.
    json: bool = False

    def run(self) -> None:
        from alexnet.presets import RECIPES, STUDIES

        if not self.name:
            width = max(map(len, [*RECIPES, *STUDIES]))
            for name, one in RECIPES.items():
                print(f"{name:<{width}}  {one.summary}")
            print("studies (alexnet sweep --study NAME)")
            for name, named in STUDIES.items():
                print(f"{name:<{width}}  {named.summary}")
            return
        one = preset(self.name)
        if self.json:
            print(json.dumps(one.recipe.to_dict(), indent=2))
            return
        for label in ("summary", "source", "command", "expected", "measured"):
            print(f"{label:<9} {getattr(one, label)}")
        print("fields")
        plain = Recipe().to_dict()
        for field, value in one.recipe.to_dict().items():
            print(f"  {field:<16} {value}{'' if value == plain[field] else '  *'}")
        print("  (* differs from the plain default)")


@dataclass(kw_only=True)
class Doctor:
    """Say what this machine has: versions, device, precision, threads, and what the cache holds;
    any folder of it may be deleted, and is made again when it is needed."""

    def run(self) -> None:
        with waiting("loading torch"):
            from alexnet.runtime import doctor

        for name, told in doctor().items():
            print(f"{name:<13} {told}")
