"""What others have written about a run for its report, read with distrust: pictures, and the state
of the data. Imports no torch.

Whatever is not as it should be is left out. An image is a data URI of a PNG, JPEG or WebP; nothing
else ever gets into a page.
"""

import base64
import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from alexnet.runs.directory import RunDirectory

DATA_URI = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")


def png_of(uri: str) -> bytes:
    """The content of a data URI of a PNG; nothing if it is of something else, or damaged."""
    kind, _, content = uri.partition(",")
    with contextlib.suppress(ValueError):
        return base64.b64decode(content, validate=True) if "png" in kind else b""
    return b""


class Album:
    """Lets images through until they weigh too much for one page."""

    def __init__(self, budget: int) -> None:
        self.budget = budget  # bytes that are left
        self.left_out = 0

    def image(self, value: object) -> str:
        """The image, or "" if it is none or finds no room."""
        if not isinstance(value, str) or not DATA_URI.fullmatch(value):
            return ""
        if len(value) > self.budget:
            self.left_out += 1
            return ""
        self.budget -= len(value)
        return value

    def images(self, values: object, limit: int) -> list[str]:
        """The first images of a list."""
        return [one for one in map(self.image, entries(values)[:limit]) if one]


@dataclass(frozen=True)
class Picture:
    """An image of the data with what was made of it."""

    id: str
    image: str  # data URI
    label: str
    guess: str = ""
    p: float = math.nan  # of the guess
    p_label: float = math.nan
    cam: str = ""  # data URI: where the network looked
    distance: float = math.nan
    neighbours: list["Picture"] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return self.guess == self.label


@dataclass(frozen=True)
class Confusion:
    """Images of one class taken for another."""

    label: str
    guess: str
    count: int
    images: list[str]


@dataclass(frozen=True)
class Unit:
    """A unit of a layer and the images that excite it most."""

    layer: str
    unit: int
    images: list[str]


@dataclass(frozen=True)
class Illustrations:
    """The pictures of a report; any of them may be missing."""

    samples: list[Picture]
    mistakes: list[Picture]
    confident: list[Picture]
    confusions: list[Confusion]
    filters: str
    units: list[Unit]
    neighbours: list[Picture]


def read_illustrations(run: RunDirectory, album: Album) -> Illustrations:
    """The pictures of a run directory; none of them where they cannot be read."""
    found = run.illustrations()
    return Illustrations(
        samples=list(_pictures(found.get("samples"), album, 24)),
        mistakes=list(_pictures(found.get("mistakes"), album, 12)),
        confident=list(_pictures(found.get("confident"), album, 12)),
        confusions=[
            Confusion(
                text(one.get("label")),
                text(one.get("guess")),
                count(one.get("count")),
                album.images(one.get("images"), 6),
            )
            for one in objects(found.get("confusions"))[:12]
        ],
        filters=album.image(found.get("filters")),
        units=[
            unit
            for one in objects(found.get("units"))[:24]
            if (
                unit := Unit(
                    text(one.get("layer")),
                    count(one.get("unit")),
                    album.images(one.get("images"), 9),
                )
            ).images
        ],
        neighbours=list(_pictures(found.get("neighbours"), album, 8)),
    )


def _pictures(values: object, album: Album, limit: int) -> Iterator[Picture]:
    for one in objects(values)[:limit]:
        if image := album.image(one.get("image")):
            yield Picture(
                id=text(one.get("id")),
                image=image,
                label=text(one.get("label")),
                guess=text(one.get("guess")),
                p=number(one.get("p")),
                p_label=number(one.get("p_label")),
                cam=album.image(one.get("cam")),
                distance=number(one.get("distance")),
                neighbours=list(_pictures(one.get("neighbours"), album, 6)),
            )


@dataclass(frozen=True)
class Twins:
    """Two images that are the same, or nearly."""

    ids: list[str]
    splits: list[str]
    images: list[str]
    distance: float


@dataclass(frozen=True)
class DataState:
    """What a look at the data found."""

    classes: dict[str, dict[str, int]]  # images of each class in each split
    image_size: int
    greyscale: int
    left_out: int
    blank: list[str]
    exact: int  # duplicates
    near: int
    across_splits: int
    twins: list[Twins]
    leaks: list[str]  # ids of evaluated images with a (near) duplicate in training
    sizes: dict[str, list[int]]  # of the files: "width" and "height", each least, median, greatest

    @property
    def splits(self) -> list[str]:
        """The splits that hold images, in their usual order."""
        held = {split for counts in self.classes.values() for split in counts}
        return [split for split in ("train", "val", "test") if split in held]


def read_data_state(run: RunDirectory, album: Album) -> DataState | None:
    """The state of the data, or None where it is not known."""
    found = run.data_state()
    if not found:
        return None
    duplicates, classes = as_object(found.get("duplicates")), as_object(found.get("classes"))
    sizes = as_object(found.get("sizes"))
    return DataState(
        classes={
            text(name): {text(split): count(n) for split, n in as_object(counts).items()}
            for name, counts in classes.items()
        },
        image_size=count(found.get("image_size")),
        greyscale=count(found.get("greyscale")),
        left_out=count(found.get("left_out")),
        blank=[text(one) for one in entries(found.get("blank"))],
        exact=count(duplicates.get("exact")),
        near=count(duplicates.get("near")),
        across_splits=count(duplicates.get("across_splits")),
        twins=[
            Twins(
                [text(id_) for id_ in entries(one.get("ids"))[:2]],
                [text(split) for split in entries(one.get("splits"))[:2]],
                album.images(one.get("images"), 2),
                number(one.get("distance")),
            )
            for one in objects(duplicates.get("examples"))[:6]
        ],
        leaks=[text(one) for one in entries(found.get("leaks"))],
        sizes={
            side: [count(one) for one in entries(sizes.get(side))[:3]]
            for side in ("width", "height")
            if len(entries(sizes.get(side))) >= 3
        },
    )


def as_object(value: object) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def entries(value: object) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def objects(value: object) -> list[dict[str, Any]]:
    """The objects in a list."""
    return [one for one in entries(value) if isinstance(one, dict)]


def text(value: object) -> str:
    """`value` if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float:
    """`value` if it is a number, else not a number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:
        return math.nan
    return float(value)


def count(value: object) -> int:
    """`value` if it is a whole number from 0, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
