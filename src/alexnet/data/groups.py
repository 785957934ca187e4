"""Images that belong together: of one animal, one patient, one film, one burst of a camera. Splits
take them whole: who has seen one frame of a film has seen the next one, too."""

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.data.listing import Examples, Paths
from alexnet.data.names import shortly
from alexnet.data.sources import Source
from alexnet.errors import DataError, InputError

BURST, COPIES = "burst", "copies"  # groups that are read from the pictures themselves
SECONDS = 10  # between two pictures of a burst, at most
ENOUGH = 0.9  # of nearly equal pairs, which a proposed pattern must hold together
EXIF_IFD, MAKE, MODEL, SERIAL, TAKEN, CHANGED = 0x8769, 0x010F, 0x0110, 0xA431, 0x9003, 0x0132


def compiled(pattern: str, flag: str, name: str) -> re.Pattern[str]:
    """A pattern that finds `name` in a path: in its group of that name, or its only one.

    Raises:
        InputError: it is no regular expression, or has no such group.
    """
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{flag} {pattern!r} is no regular expression ({error}).",
            rf"Example: {flag} '(?P<{name}>[A-Za-z]+)_\d+'",
        ) from error
    if name not in found.groupindex and found.groups - len(found.groupindex) != 1:
        raise InputError(
            f"{flag} {pattern!r} does not say which part of a path is the {name}.",
            rf"Put it in brackets: {flag} '(?P<{name}>[A-Za-z]+)_\d+'",
        )
    return found


def part_of(pattern: re.Pattern[str], path: str, name: str) -> str:
    """What a pattern finds in a path; empty where it does not fit."""
    found = pattern.search(path)
    if found is None:
        return ""
    if name in pattern.groupindex:
        return found[name] or ""
    named = set(pattern.groupindex.values())
    return found[next(place for place in range(1, pattern.groups + 1) if place not in named)] or ""


def grouped(source: Source, group: str) -> Source:
    """A source whose images have groups: as a pattern finds them in their paths, or where they are
    bursts or copies, as the pictures will say when they are packed.

    Raises:
        DataError: the pattern fits no path. InputError: it is none.
    """
    if not group or source.examples.groups:
        return source
    if group in (BURST, COPIES):
        return replace(source, together=group)
    pattern = compiled(group, "--group", "group")
    examples = Examples(
        one._replace(group=part_of(pattern, one.id, "group")) for one in source.examples
    )
    alone = Paths(one.id for one in examples if not one.group)
    if len(alone) == len(examples):
        raise DataError(
            f"--group {group!r} is no column, and as a pattern fits no path, such as "
            f"{shortly(alone, 3)}.",
            "Name a column of the table, or give a regular expression that finds the group in "
            "paths like these.",
        )
    notes = [f"{len({*examples.groups} - {''}):,} groups stay together in splits"]
    if alone:
        notes.append(f"{len(alone):,} images are in no group, such as {alone[0]}")
    # the examples of a source are read anew by its contents
    return replace(source, examples=examples, notes=source.notes + notes)


# groups as file names often have them: the folder, and the name without its last number
USUAL = (r"([^/]+)/[^/]*$", r"^(.*?)[-_ .]*\d+\.\w+$")


def proposed(ids: Sequence[str], labels: Sequence[int], pairs: Sequence[tuple[int, int]]) -> str:
    """The usual pattern whose groups hold the pairs of nearly equal images together, with three
    groups of each class at least; empty if there is none."""
    for pattern in USUAL:
        fitting = re.compile(pattern)
        groups = [part_of(fitting, one, "group") or one for one in ids]
        together = sum(groups[a] == groups[b] for a, b in pairs)
        of_class = Counter(label for label, _ in {*zip(labels, groups, strict=True)})
        if together >= ENOUGH * len(pairs) and min(of_class.values()) >= 3:
            return pattern
    return ""


def taken(image: Image.Image) -> tuple[str, float] | None:
    """The camera of a picture, and when it was taken, in seconds; None where its file does not
    say."""
    try:
        about = image.getexif()
        inner = about.get_ifd(EXIF_IFD)
        words = str(inner.get(TAKEN) or about.get(CHANGED) or "")
        moment = datetime.datetime.strptime(words.strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except Exception:  # damaged metadata raises whatever Pillow trips over
        return None
    camera = "|".join(str(one) for one in (about.get(MAKE), about.get(MODEL), inner.get(SERIAL)))
    return camera, moment.replace(tzinfo=datetime.UTC).timestamp()


def burst_codes(moments: Sequence[tuple[str, float] | None]) -> list[str]:
    """The name of the burst of each picture; empty for one that says nothing of its time."""
    known = sorted((one, place) for place, one in enumerate(moments) if one is not None)
    names = [""] * len(moments)
    name, before = "", ("", float("-inf"))
    for moment, place in known:
        if moment[0] != before[0] or moment[1] - before[1] > SECONDS:
            name = f"burst {place}"
        names[place], before = name, moment
    return names


def codes_of(groups: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of groups, as a Store keeps them; each image without a group is one of its own."""
    names = {name: code for code, name in enumerate(sorted({*groups} - {""}))}
    alone = iter(range(len(names), len(names) + len(groups)))
    return np.array([names[one] if one else next(alone) for one in groups], dtype=np.int64)
