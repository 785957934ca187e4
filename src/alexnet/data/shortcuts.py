"""What files tell of their class without anyone looking at a picture: where cats come from one
camera or website and dogs from another, sizes and formats differ with the class, and with them
edges, blur and traces of compression. A network learns these as gladly as cats and dogs, and its
test images have them, too. Imports no torch.

Shapes: N images, C kinds of files, K classes.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 4  # of sizes, for each doubling
TELLING = 0.3  # of what the commonest class leaves wrong, the share that files get right
ENOUGH = 40  # images; of fewer chance alone may tell as much


def kind_of(size: tuple[int, int], *words: str | None) -> tuple[object, ...]:
    """What kind of file one is: its width and height (px), roughly, and whatever else is alike in
    files of one kind, such as the format."""
    return (*(round(STEPS * math.log2(side)) for side in size), *words)


def told_by_files(kinds: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, float]:
    """How well the kinds of files (N,) tell the labels (N,), JSON-ready: each image is taken for
    the commonest class among the others of its kind, or where it has no like, among all.

    Returns:
        {"top1": the share that is right so, "chance": the share of the commonest class}.
    """
    kind = np.unique(kinds, return_inverse=True)[1].ravel()
    label = np.unique(labels, return_inverse=True)[1].ravel()
    counts = np.zeros((kind.max() + 1, label.max() + 1), np.int64)  # (C, K)
    np.add.at(counts, (kind, label), 1)
    whole, size = counts.sum(0), counts.sum(1)
    guess, first = counts.argmax(1), counts.max(1)
    counts[np.arange(len(counts)), guess] = -1
    second = counts.max(1)
    right = (guess[kind] == label) & (first - 1 > second)[kind]
    right |= (size[kind] == 1) & (label == whole.argmax())
    return {
        "top1": round(float(right.mean()), 4),
        "chance": round(float(whole.max()) / len(label), 4),
    }


def in_words(info: Mapping[str, Any], images: int) -> str:
    """A sentence on a Store (its `info`, and how many images it has) whose files tell the class;
    empty where they do not, or nothing is known."""
    found = info.get("by_file")
    if not found or images < ENOUGH:
        return ""
    top1, chance = float(found["top1"]), float(found["chance"])
    if top1 - chance < TELLING * (1 - chance):
        return ""
    return (
        f"size, colour mode and format of a file alone tell its class in {top1:.0%} (the commonest "
        f"class: {chance:.0%}): a network may learn where pictures come from, not what they show"
    )
