"""`alexnet recipes`, `doctor` and `bench`: what there is, what this machine has, what it can do."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from alexnet.commands.early import look_at_data
from alexnet.commands.flags import Arg
from alexnet.commands.options import Data, Device, Precision
from alexnet.console import in_words, table, waiting
from alexnet.presets import preset
from alexnet.recipes import Recipe
from alexnet.values import Between, Count


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
        for key, value in one.recipe.to_dict().items():
            print(f"  {key:<16} {value}{'' if value == plain[key] else '  *'}")
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


@dataclass(kw_only=True)
class Bench:
    """Say what this machine can do, and how long each recipe will take on it.

    A few training steps of each are timed, on made-up pictures of its size; the rest is arithmetic.
    Start, packing and report come on top: seconds, and for large pictures minutes.
    """

    data: Data = ""
    # Time this recipe instead of all that suit DATA.
    recipe: Annotated[list[str], Arg(metavar="NAME", again=True)] = field(default_factory=list)
    # Without DATA: how many images the folder has that recipes for any folder are timed for.
    images: Count = 1000
    # How many classes it has.
    classes: Annotated[int, Between(2)] = 10
    # Seconds for which the steps of each recipe are timed; the more, the surer.
    seconds: Annotated[float, Between(0)] = 1.5
    # Print everything as JSON.
    json: bool = False
    device: Device = "auto"
    precision: Precision = "auto"

    def run(self) -> None:
        for name in self.recipe:
            preset(name)
        if self.data:
            look_at_data(self.data)
        with waiting("loading torch"):
            from alexnet.runtime import keep_memory
            from alexnet.sweeping.bench import bench

        keep_memory()
        found = bench(
            self.data,
            self.recipe,
            images=self.images,
            classes=self.classes,
            seconds=self.seconds,
            device=self.device,
            precision=self.precision,
        )
        print(json.dumps(found, indent=2) if self.json else "\n".join(benched(found)))


def benched(found: Mapping[str, Any]) -> Iterator[str]:
    """What `alexnet.bench` found, as tables."""
    around, limits = found["environment"], found["limits"]
    threads = sorted({count for rates in limits.values() for count in rates})
    yield f"{around['processor']}, {around['device']}, torch {around['versions']['torch']}"
    yield table(
        ["", *(f"{n} thread{'s' * (n > 1)}" if n else around["device"] for n in threads)],
        [
            [what, *(f"{rates[n]:,.4g}" if n in rates else "" for n in threads)]
            for what, rates in limits.items()
        ],
    )
    yield ""
    yield table(
        ["recipe", "images", "per s", "epoch", "all", "memory"],
        [
            [
                one["recipe"],
                f"{one['images']:,}",
                f"{one['images_per_second']:,.0f}",
                took(one["epoch"]),
                took(one["seconds"]),
                f"{one['memory'] / 2**30:.1f} GiB" if one["memory"] else "",
            ]
            for one in found["recipes"]
        ],
    )


def took(seconds: float) -> str:
    """A time that was measured."""
    return f"{seconds:.2g} s" if seconds < 9.5 else in_words(seconds)
