"""By which files a folder that this package wrote is recognised. Standard library only."""

from collections.abc import Set
from pathlib import Path

RUN, AROUND, SWEEP, STORE, ARRAY = (
    "recipe.json", "environment.json", "sweep.json", "store.json", "x.bin",
)  # fmt: skip
BEST = "best.json"  # in the folder of a sweep: the recipe of its best trial
OUTPUT = ".alexnet-output"  # in folders of copies and sheets, which have no other file of ours
FILES = frozenset([RUN, AROUND, SWEEP, STORE, ARRAY, OUTPUT])


def output_kind(names: Set[str]) -> str:
    """What of ours a folder is that holds files of these names; empty if it is none."""
    if {RUN, AROUND} <= names:
        return "a run"
    if SWEEP in names:
        return "a sweep"
    if {STORE, ARRAY} <= names:
        return "a Store"
    return "written by alexnet" if OUTPUT in names else ""


def kind_of(folder: Path) -> str:
    """The same of a folder on disk."""
    return output_kind({name for name in FILES if (folder / name).is_file()})
