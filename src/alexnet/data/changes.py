"""Changes of labels, in a table beside the data: which images are of another class than their
source says, and which are left out. No picture is touched. `alexnet teach RUN --mend` writes such
a table, or anybody: path and label are enough. DATA?labels=CHANGES.csv is data that is read with it
(`alexnet train DATA --labels CHANGES.csv`). Imports no torch.

path            the image's path inside the data
label           the class that it is of; empty where it is left out, or nobody knows
answer          right, other, remove or unsure; other where the column is missing
was             the class that it had when it was looked at
sha256          the beginning of its checksum then, 16 hexadecimal digits; may be empty
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from alexnet.atomic import write_csv
from alexnet.data.images import Pixels
from alexnet.data.listing import Examples
from alexnet.data.names import find_class
from alexnet.data.sources import Changes, Source, sha256_of
from alexnet.data.tables import Table, is_table, opened, words_of
from alexnet.errors import DataError
from alexnet.words import cell, shown

RIGHT, OTHER, REMOVE, UNSURE = ANSWERS = ("right", "other", "remove", "unsure")
COLUMNS = ("path", "label", "answer", "was", "sha256")


class Change(NamedTuple):
    """What was said of one image; a row of the table."""

    path: str
    label: str = ""
    answer: str = OTHER
    was: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Row:
    """A change, and where it stands, for messages."""

    change: Change
    at: str


def write_changes(path: Path, changes: Sequence[Change]) -> None:
    """Writes a table of changes, whole or not at all.

    Raises:
        DiskError: it cannot be written.
    """
    write_csv(path, [COLUMNS, *(map(cell, one) for one in changes)])


def read_changes(path: Path) -> list[Row]:
    """The rows of a table of changes; none where it has a heading only.

    Raises:
        DataError: there is none, or a row cannot be used; says which.
    """
    if not is_table(path.name) or not path.is_file():
        raise DataError(
            f"there is no table {path} (--labels)." if not path.is_file() else
            f"{path} (--labels) is no table.",
            "Give the table that `alexnet teach RUN --mend` wrote, or one with the columns path "
            "and label.",
        )  # fmt: skip
    table = opened(path.name, str(path), lambda: open(path, "rb"))
    rows = table.rows()
    header = [words_of(one).strip().lower() for one in next(rows, (0, []))[1]]
    missing = [name for name in COLUMNS[:2] if header.count(name) != 1]
    if missing:
        raise DataError(
            f"{path} has not one column {missing[0]!r}; its first line is {shown(header)[:120]}.",
            f"Expected: {','.join(COLUMNS)}; the last three may be missing.",
        )
    found: dict[str, Row] = {}
    for place, values in rows:
        if not any(map(words_of, values)):
            continue
        row = _row(table, place, header, values)
        if row.change.path in found:
            raise DataError(
                f"{row.at} is about {shown(row.change.path)}, as is "
                f"{found[row.change.path].at.rpartition(', ')[2]}.",
                "Keep one of the rows.",
            )
        found[row.change.path] = row
    return list(found.values())


def _row(table: Table, place: int, header: list[str], values: Sequence[object]) -> Row:
    at = table.at(place)
    if len(values) != len(header):
        raise DataError(
            f"{at} has {len(values)} columns, the first line {len(header)}.",
            "The table is damaged: take the line out, or mend it.",
        )
    named = dict(zip(header, map(words_of, values), strict=True))
    change = Change(**{name: named[name] for name in COLUMNS if name in named})
    change = change._replace(answer=change.answer or OTHER)
    if change.answer not in ANSWERS:
        raise DataError(
            f"{at} has the answer {shown(change.answer)!r}.", f"Expected: {', '.join(ANSWERS)}."
        )
    if not change.path or not (change.label or change.answer in (REMOVE, UNSURE)):
        raise DataError(
            f"{at} has no {'label' if change.path else 'path'}.", "Fill it in, or take it out."
        )
    return Row(change, at)


def state_of(table: str) -> str:
    """A signature of a table of changes; empty where none is given."""
    if not table:
        return ""
    path = Path(table)
    return hashlib.sha256(path.read_bytes() if path.is_file() else b"").hexdigest()


def changed(source: Source, table: str) -> Source:
    """A source with the labels of a table of changes, and without the images it takes out; splits
    are drawn as before, by the labels that were (`Example.drawn`).

    Raises:
        DataError: the table is damaged, speaks of other data or of classes that are not there, or
            leaves a class without images. An image that has changed since is an error when it is
            read.
    """
    if not table:
        return source
    path = Path(table)
    listed = read_changes(path)
    rows = of_source(listed, source.examples.ids, source.classes, source.names, path)
    labels = {name: label for label, name in enumerate(source.classes)}
    examples = Examples()
    count = 0
    for place, example in enumerate(source.examples):
        change = rows[place].change if place in rows else Change("", answer=UNSURE)
        if change.answer == REMOVE:
            continue
        label = labels.get(change.label, example.label)
        if label != example.label:
            count += 1
            example = example._replace(label=label, drawn=example.label)
        examples.append(example)
    emptied = {*source.examples.labels.tolist()} - {*examples.labels.tolist()}
    if emptied:
        raise DataError(
            f"{path} leaves no image of {', '.join(source.classes[one] for one in emptied)}.",
            "Leave the class out of the data, or take its rows out of the table.",
        )
    left_out = len(source.examples) - len(examples)
    gone = len(listed) - len(rows)
    notes = [f"{gone:,} images of {path.name} are not there any more"] if gone else []

    def contents() -> Iterator[bytes | Pixels | OSError]:
        for place, content in enumerate(source.contents()):
            row = rows.get(place)
            if row is not None and not isinstance(content, OSError):
                require_same(row, sha256_of(content))
            if row is None or row.change.answer != REMOVE:
                yield content

    signature = f"{source.signature} {state_of(table)}" if source.signature else ""
    return replace(
        source, examples=examples, contents=contents, notes=source.notes + notes,
        signature=signature, changes=Changes(path.name, count, left_out),
    )  # fmt: skip


def of_source(
    rows: Sequence[Row],
    ids: Iterable[str],
    classes: Sequence[str],
    names: Sequence[str],
    table: Path,
) -> dict[int, Row]:
    """Rows by the places of their images among the paths of all; their labels, identifiers or
    readable names, become identifiers.

    Raises:
        DataError: there is none of these images, or a class is not one of these.
    """
    known = {cell(name): name for name in classes} | {name: name for name in classes}
    wanted = {row.change.path for row in rows}
    places = {
        path: place for place, id_ in enumerate(ids) for path in (cell(id_), id_) if path in wanted
    }
    found = {}
    for row in rows:
        label = row.change.label
        try:
            own = known.get(label) or (classes[find_class(label, classes, names)] if label else "")
        except DataError as error:
            raise DataError(
                f"{row.at} has the label {shown(label)!r}: {shown(error.message)}", error.hint
            ) from error
        if row.change.path in places:
            change = row.change._replace(label=own)
            found[places[row.change.path]] = replace(row, change=change)
    if rows and not found:
        raise DataError(
            f"none of the {len(rows):,} images of {table} is in the data, such as "
            f"{shown(rows[0].change.path)}.",
            "Give the table that was made for this data.",
        )
    return found


def require_same(row: Row, sha256: bytes) -> None:
    """DataError if an image with this checksum, or its beginning, is another one than when it was
    looked at."""
    before, now = row.change.sha256.lower(), sha256.hex()
    if before and not (now.startswith(before) or before.startswith(now)):
        raise DataError(
            f"{shown(row.change.path)} has changed since it was looked at ({row.at}).",
            "Take that line out of the table, and look at the image anew.",
        )


def told(table: str, changed: int, left_out: int, evaluated: int) -> str:
    """What a table of changes did, in words."""
    labels, pictures = ("" if one == 1 else "s" for one in (changed, left_out))
    tested = f"; of images that the figures are of: {evaluated:,}"
    return (
        f"{changed:,} label{labels} changed and {left_out:,} picture{pictures} left out by {table}"
        + (tested if evaluated else "")
    )
