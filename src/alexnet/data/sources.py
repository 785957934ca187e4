"""Source: the labelled images of a data set, listed, before any is decoded."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from alexnet.data.images import Pixels
from alexnet.data.listing import Examples
from alexnet.errors import DataError


class Changes(NamedTuple):
    """What a table of changes did to a source."""

    table: str  # its name
    changed: int  # labels
    left_out: int  # images


@dataclass(frozen=True)
class Source:
    """All labelled images of a data set, in order, before any is decoded."""

    layout: str
    classes: list[str]
    names: list[str]  # readable, all different
    examples: Examples
    contents: Callable[[], Iterator[bytes | Pixels | OSError]]  # in the order of `examples`
    left_out: list[str] = field(default_factory=list)  # what was seen and not used, in words
    notes: list[str] = field(default_factory=list)  # what else there is to say of the reading
    together: str = ""  # "burst" or "copies": what belongs together, as the pictures will say
    name: str = ""  # what messages call it, where it has no address
    signature: str = ""  # changes with it, where it has no address
    changes: Changes | None = None  # of its labels, where there was a table of them

    def __str__(self) -> str:
        return self.name or self.layout

    def __post_init__(self) -> None:
        for name in self.classes:  # they become names of folders, and so must not lead elsewhere
            if not name or name in (".", "..") or {"/", os.sep, "\0"} & set(name):
                raise DataError(
                    f"{name!r} cannot name a class, which is called as a folder can be.",
                    "Mend the list of class names.",
                )


def sha256_of(content: bytes | Pixels) -> bytes:
    """The checksum of an image: of its file, or of its pixels where it has none."""
    return hashlib.sha256(content if isinstance(content, bytes) else content.tobytes()).digest()


Data = str | Path | Source  # an address, or what a program holds
