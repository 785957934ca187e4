"""By which file a folder that this package wrote is recognised. Standard library only."""

from pathlib import Path

RUN, SWEEP, STORE = "recipe.json", "sweep.json", "store.json"
OUTPUT = ".alexnet-output"  # in folders of copies and sheets, which have no other file of ours
KINDS = {RUN: "a run", SWEEP: "a sweep", STORE: "a Store", OUTPUT: "what alexnet wrote"}


def kind_of(folder: Path) -> str:
    """What of ours a folder is: "a run", "a sweep", "a Store", "what alexnet wrote", or nothing."""
    return next((kind for mark, kind in KINDS.items() if (folder / mark).is_file()), "")
