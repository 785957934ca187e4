"""Width, height and mode of the image files of a data set, from their headers alone."""

import json
import warnings
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from alexnet.atomic import write_json
from alexnet.console import progress
from alexnet.data.datasets import find_data
from alexnet.data.store import Store
from alexnet.data.trees import Tree, open_tree
from alexnet.errors import DataError
from alexnet.runtime import cache_folder

VERSION = 1
LONG = 3.0  # longer side by shorter side; of more, the centre square shows less than a third


@dataclass(frozen=True)
class Headers:
    """What the headers of image files say, together."""

    images: int
    sizes: dict[str, list[int]]  # width and height: least, median, greatest, px as stored
    modes: dict[str, int]  # Pillow's modes, the commonest first; empty if no file was opened
    long: list[str]  # ids of images of which the centre square shows less than a third


def read_headers(store: Store, data: str = "") -> Headers | None:
    """The headers of all image files that a Store was packed from, from the cache if they were read
    before; None if the source is not there any more, or is not of image files.

    `data` is where the source is now, if that is not where it was packed from.
    """
    if store.info.get("native"):  # all are squares of the size stored
        side = [store.x.shape[-1]] * 3
        return Headers(len(store), {"width": side, "height": side}, {}, [])
    path = cache_folder() / "checks" / f"headers-{VERSION}-{store.fingerprint}.json"
    try:
        return Headers(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    found = _read(store, data or store.info["source"])
    if found is not None:
        write_json(path, asdict(found))
    return found


def _read(store: Store, data: str) -> Headers | None:
    if store.info.get("layout") not in ("class-folders", "tiny-imagenet"):
        return None
    try:
        tree = open_tree(find_data(data), cache_folder())
    except DataError:
        return None
    ids = store.ids
    files = set(tree.files())
    # ids begin below a single folder that holds everything
    first = next((path for path in files if path == ids[0] or path.endswith("/" + ids[0])), None)
    if first is None:
        return None
    base = first.removesuffix(ids[0])
    sizes, modes, long = [], Counter[str](), []
    with progress("reading headers", len(ids)) as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters was said when it was packed
        for name in ids:
            header = _header(tree, base + name) if base + name in files else None
            if header:
                (width, height), mode = header
                sizes.append((width, height))
                modes[mode] += 1
                if max(width, height) > LONG * min(width, height):
                    long.append(name)
            advance(1)
    if not sizes:
        return None
    across = np.array(sizes).T
    spread = [[int(a.min()), int(np.median(a)), int(a.max())] for a in across]
    return Headers(
        len(sizes),
        dict(zip(("width", "height"), spread, strict=True)),
        dict(modes.most_common()),
        long,
    )


def _header(tree: Tree, path: str) -> tuple[tuple[int, int], str] | None:
    try:
        with tree.open(path) as file, Image.open(file) as image:
            return image.size, image.mode
    except Exception:  # of every kind, as in trees.py and images.py: then it is a bad file
        return None
