"""What the data of a run looked like: counts, sizes, blank images, duplicates, and which evaluated
images training has seen. Nothing is changed."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.data.duplicates import Pair, find_duplicates, leaks
from alexnet.data.splits import Splits
from alexnet.data.store import Store

SHOWN, SHOWN_SIDE = 12, 96  # pairs with pictures, and their side in px

Indices = NDArray[np.int64]


def describe(
    store: Store, splits: Splits, evaluated: str = "test", fold: Indices | None = None
) -> dict[str, Any]:
    """What a run was trained and evaluated on, JSON-ready.

    Args:
        store: images.
        splits: as the run drew them.
        evaluated: the split of the final figures, "test" or "val".
        fold: of each training image, where these stand for "val".

    Returns:
        classes (images per split, by readable name), image_size, greyscale and left_out (counts),
        blank (ids), duplicates (groups: exact, near, across_splits; and examples with pictures as
        data URIs), leaks (ids of evaluated images with a duplicate or near-duplicate in training),
        and sizes (least, median, greatest) where they are known.
    """
    places = {"train": splits.train, "val": splits.val, "test": splits.test}
    judged = places[evaluated] if fold is None else splits.train
    ids, found = store.ids, find_duplicates(store)
    split_of = {int(place): name for name, part in places.items() for place in part}
    used = [[one for one in group if one in split_of] for group in found.groups]
    exact = [[one for one in group if one in split_of] for group in found.exact]
    near = [[one for one in group if one in split_of] for group in found.near]
    counts = {
        name: np.bincount(store.y[part], minlength=len(store.classes))
        for name, part in places.items()
    }
    description = {
        "classes": {
            name: {split: int(count[label]) for split, count in counts.items()}
            for label, name in enumerate(store.names)
        },
        "image_size": int(store.x.shape[-1]),
        "greyscale": int(store.info.get("greyscale", {}).get("found", 0)),
        "left_out": len(store.info["bad"]),
        "blank": [ids[one] for one in found.blank if one in split_of],
        "duplicates": {
            "exact": sum(len(group) > 1 for group in exact),
            "near": sum(len(group) > 1 for group in near),
            "across_splits": sum(len({split_of[one] for one in group}) > 1 for group in used),
            "examples": [
                {
                    "ids": [ids[pair.a], ids[pair.b]],
                    "splits": [split_of[pair.a], split_of[pair.b]],
                    "images": [picture(store, pair.a), picture(store, pair.b)],
                    "distance": pair.distance,
                }
                for pair in telling_pairs(store, split_of)[:SHOWN]
            ],
        },
        "leaks": [ids[one] for one in leaks(store, judged, splits.train, fold)],
    }
    sizes = sizes_of(store)
    return description | ({"sizes": sizes} if sizes else {})


def sizes_of(store: Store) -> dict[str, list[int]]:
    """Width and height of the images as they were before packing: least, median, greatest, px;
    empty where a Store of release 0.1.0 does not know."""
    if "sizes" in store.info:
        return dict(store.info["sizes"])
    side = [int(store.x.shape[-1])] * 3
    return {"width": side, "height": side} if store.info.get("native") else {}


def telling_pairs(store: Store, split_of: dict[int, str]) -> list[Pair]:
    """One pair of each group of duplicates: across splits first, then the closest."""
    found = find_duplicates(store)
    pairs = [Pair(group[0], one, 0.0, False) for group in found.exact for one in group[1:]]
    pairs = [one for one in pairs + found.pairs if one.a in split_of and one.b in split_of]
    pairs.sort(key=lambda one: (split_of[one.a] == split_of[one.b], one.distance, one))
    group_of = {place: number for number, group in enumerate(found.groups) for place in group}
    first: dict[int, Pair] = {}
    for pair in pairs:
        first.setdefault(group_of[pair.a], pair)
    return list(first.values())


def image_of(store: Store, place: int) -> Image.Image:
    """An image of a Store."""
    return Image.fromarray(np.asarray(store.x[place]).transpose(1, 2, 0))


def picture(store: Store, place: int) -> str:
    """A small JPEG of an image as a data URI."""
    image = image_of(store, place)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
