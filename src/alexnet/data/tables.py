"""Labels in a table: which image has which, read from CSV, TSV, JSON lines, Parquet, or rows of a
Python program -> Source. Nothing is moved, and no image is opened. docs/labels.md shows each kind.

Columns that are not named are guessed, from their names and from whether their values are files,
and the guess is said. A table is read row by row.
"""

import codecs
import csv
import io
import itertools
import json
import os
import posixpath
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from alexnet.data.images import Pixels, readable_extensions
from alexnet.data.kinds import TABLES, ending
from alexnet.data.levels import PLAIN_FOLDERS, Folder, alike, split_word, starred, through
from alexnet.data.listing import SPLITS, Example, Examples
from alexnet.data.names import hidden, shortly, spelling
from alexnet.data.reading import Reading
from alexnet.data.sources import Source
from alexnet.data.trees import Inside, LooseFiles, Tree, open_tree, source_state
from alexnet.errors import DataError, InputError, did_you_mean, needs_extra
from alexnet.words import shown

PATHS, LABELS, SPLIT_COLUMNS = (
    words.split()
    for words in (
        "path file filename file_name filepath file_path image_path img_path imagepath image_file "
        "image_name img_name image img images image_id img_id id_code id name fname",
        "label labels class class_name classname class_label category target species breed "
        "diagnosis dx finding tag y level",
        "split set subset partition",
    )
)
MARKS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
LOOKED_AT = 50  # rows that columns are guessed from
MOST_FOLDERS = 50  # in which paths may begin
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF8_HINT = 'Save it as UTF-8: "CSV UTF-8" in a spreadsheet, or iconv -f cp1252 -t utf-8 OLD > NEW'

ROWS = "Expected a row for each image."

Row = tuple[int, Sequence[Any]]  # where it stands, and its values


@dataclass(frozen=True)
class Table:
    """Rows of a table; the first are the names of columns, or else its first row."""

    name: str  # for messages
    rows: Callable[[], Iterator[Row]]
    unit: str = "line"  # what its rows are counted in
    headed: bool = False  # whether the first row certainly are the names of columns

    def at(self, place: int) -> str:
        """Where a row is, in words."""
        return f"{self.name}, {self.unit} {place:,}"


def is_table(name: str) -> bool:
    """Whether a file is called as a table that is read."""
    return ending(name) in TABLES


def opened(name: str, where: str, open_file: Callable[[], IO[bytes]]) -> Table:
    """The table in a file.

    Args:
        name: of the file, which says what kind of table it is.
        where: what messages call it.
        open_file: opens it.
    """
    kind = ending(name)
    if kind == ".parquet":
        return Table(where, lambda: _parquet(where, open_file), "row", headed=True)
    if kind in (".jsonl", ".ndjson"):
        return Table(where, lambda: _json_lines(where, open_file), headed=True)
    separators = "\t" if kind in (".tsv", ".tab") else ",;\t|"
    return Table(where, lambda: _separated(where, open_file, separators))


def _text(where: str, open_file: Callable[[], IO[bytes]]) -> Iterator[str]:
    """The lines of a text file, as they are; a byte-order mark says the encoding, which is UTF-8
    without one."""
    number = 0
    try:
        with open_file() as file:
            wide = file.read(2) in UTF16
        with open_file() as file:
            if wide:
                with io.TextIOWrapper(file, "utf-16", newline="") as lines:
                    for line in lines:
                        number += 1
                        yield line
                return
            for number, coded in enumerate(file, 1):  # line by line: an error knows its line
                yield coded.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeError as error:
        raise DataError(
            f"{where}, line {number:,} is not {'UTF-16' if wide else 'UTF-8'} text ({error}).",
            UTF8_HINT,
        ) from error
    except OSError as error:
        raise DataError(
            f"{where} cannot be read ({error.strerror or error}).", "Check it and its permissions."
        ) from error


def _separated(where: str, open_file: Callable[[], IO[bytes]], separators: str) -> Iterator[Row]:
    lines = _text(where, open_file)
    first = next((line for line in lines if line.strip()), "")
    plain = re.sub(r'"[^"]*"', "", first)
    separator = max(separators, key=plain.count)
    reader = csv.reader(
        itertools.chain([first], lines), delimiter=separator, strict=True, skipinitialspace=False
    )
    try:
        for values in reader:
            if values:
                yield reader.line_num, values
    except csv.Error as error:
        raise DataError(
            f"{where}, line {reader.line_num:,} is no row of a table ({error}).",
            'A quotation mark inside a value is written twice, as in "a ""good"" dog".',
        ) from error


def _json_lines(where: str, open_file: Callable[[], IO[bytes]]) -> Iterator[Row]:
    header: list[str] = []
    for number, line in enumerate(_text(where, open_file), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            if not isinstance(found, dict):
                raise ValueError(f"it is {line.strip()[:60]!r}")
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where}, line {number:,} is no JSON object ({error}).",
                'Expected in each line: {"path": "a.jpg", "label": "cat"}',
            ) from error
        if not header:
            header = list(found)
            yield 0, header
        yield number, [found.get(name) for name in header]


def _parquet(where: str, open_file: Callable[[], IO[bytes]]) -> Iterator[Row]:
    with needs_extra(f"reading {where}", "parquet"):
        import pyarrow
        from pyarrow import parquet
    try:
        with open_file() as content, parquet.ParquetFile(content) as file:
            flat = [one.name for one in file.schema_arrow if one.type.num_fields == 0]
            yield 0, flat
            number = 0
            for batch in file.iter_batches(columns=flat):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield number, values
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{where} cannot be read as Parquet ({str(error)[:200]}).", "Write it again."
        ) from error


def is_missing(value: Any) -> bool:
    """Whether a table holds nothing there: None, NaN, or what pandas has for it."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def words_of(value: Any) -> str:
    """A value of a table as text: 3.0, as which pandas keeps a 3 beside gaps, is 3 again; nothing
    for what is missing."""
    if is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


class Finder:
    """Finds the files that a table speaks of; with which ending, where it leaves that out, is found
    with the first one."""

    def __init__(self, tree: Tree, *folders: str) -> None:
        """`folders`: in the tree, each with a slash behind it; paths begin in one of them."""
        self.tree, self.folders, self.ending = tree, folders or ("",), ""
        # in the order in which they are tried
        self.endings = ["", *sorted(readable_extensions(), key=lambda one: (one != ".jpg", one))]

    def path_of(self, text: str, folder: str | None = None) -> str:
        """Where a path of a table leads, inside the tree; empty where it leads out of it."""
        if text.startswith("/"):
            root = f"{self.tree.where.as_posix().rstrip('/')}/"
            if not text.startswith(root):
                return ""
            text = text[len(root) :]
        else:
            text = (self.folders[0] if folder is None else folder) + text
        path = posixpath.normpath(text) if _BENT.search(text) else text
        return "" if path.startswith(("../", "/")) or path in ("..", ".") else path

    def find(self, value: str) -> str:
        """The file of a path as a table has it; empty if there is none.

        Raises:
            DataError: there are several, in different folders.
        """
        for text in filter(None, dict.fromkeys((value, value.strip(), value.replace("\\", "/")))):
            paths = {self.path_of(text, folder) for folder in self.folders} - {""}
            for extension in dict.fromkeys((self.ending, *self.endings)) if paths else ():
                found = [path + extension for path in paths if self.tree.has(path + extension)]
                if len(found) > 1:
                    raise DataError(
                        f"{shown(text)} in a table may be {shortly(map(shown, found))}.",
                        "Write the folder into the paths of the table.",
                    )
                if found:
                    self.ending = extension
                    return found[0]
        return ""


_BENT = re.compile(r"(^|/)\.{0,2}(/|$)")  # a part that is empty or of dots


@dataclass(frozen=True)
class Columns:
    """Places of columns; -1 where there is none."""

    path: int
    labels: tuple[int, ...]  # one; or those whose names are the classes, of which one is marked
    split: int
    group: int
    width: int  # how many there are
    header: Sequence[Any] | None  # None where the first row is one of the others


def labelled_rows(
    table: Table, reading: Reading, finder: Finder
) -> tuple[Examples, list[str], list[str]]:
    """Examples, classes and notes of a table; labels are places in the classes, which are sorted.

    Raises:
        DataError: it has no such columns, or a row that cannot be used; says which.
    """
    columns, notes = _columns(table, reading, finder)
    return _Rows(table, columns, finder, notes).read()


def _columns(table: Table, reading: Reading, finder: Finder) -> tuple[Columns, list[str]]:
    start = list(itertools.islice(table.rows(), LOOKED_AT))
    if not start:
        raise DataError(f"{table.name} is empty.", 'Expected: "path,label", then a line per image.')
    header = [words_of(one).strip() for one in start[0][1]]
    headed = table.headed or not any(_is_image(value, finder) for value in header)
    if not headed:
        header = [str(place + 1) for place in range(len(header))]
    sample = [values for _, values in start[headed:]]
    if not sample:
        raise DataError(f"{table.name} has no rows, only {', '.join(map(shown, header))}.", ROWS)
    guess = _Guess(table, header, sample, finder, reading)
    found = guess.columns(start[0][1] if headed else None)
    said = [] if headed else [f"{table.name} has no names of columns: they are counted, from 1"]
    return found, said + guess.said


def _is_image(value: str, finder: Finder) -> bool:
    return ending(value) in readable_extensions() and bool(finder.find(value))


class _Guess:
    """Which columns are meant."""

    def __init__(
        self, table: Table, header: list[str], sample: list[Sequence[Any]], finder: Finder,
        reading: Reading,
    ) -> None:  # fmt: skip
        self.table, self.header, self.sample = table, header, sample
        self.finder, self.reading = finder, reading
        self.plain = [re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_") for name in header]
        self.said: list[str] = []

    def columns(self, first: Sequence[Any] | None) -> Columns:
        asked = self.reading
        split = self.named(asked.split_column, "split") if asked.split_column else -1
        group = self.header.index(asked.group) if asked.group in self.header else -1
        path = self.named(asked.path_column, "path") if asked.path_column else self.path()
        given = bool(asked.label_column)
        labels = (
            (self.named(asked.label_column, "label"),) if given
            else self.labels({path, group, split}, named=first is not None)
        )  # fmt: skip
        if split < 0:
            split = self.split({path, *labels, group})
        words = []
        if not asked.path_column:
            words.append(f"the path of an image in the column {self.header[path]!r}")
        if not given:
            names = [shown(self.header[place]) for place in labels]
            words.append(
                f"the label of an image in the column {names[0]!r}" if len(names) == 1
                else f"the label of an image is which of {shortly(names)} is 1"
            )  # fmt: skip
        if words:
            self.said.append(f"{self.table.name}: {', '.join(words)}")
        found = Columns(path, labels, split, group, len(self.header), first)
        if split >= 0 and not asked.split_column:
            self.said.append(f"{self.table.name}: splits are those of {self.header[split]!r}")
        return found

    def named(self, name: str, what: str) -> int:
        if self.header.count(name) == 1:
            return self.header.index(name)
        if name in self.header:
            raise DataError(
                f"{self.table.name} has {self.header.count(name)} columns called {name!r}.",
                "Give each a name of its own.",
            )
        raise DataError(
            f"{self.table.name} has no column {name!r} (--{what}-column).",
            did_you_mean(name, self.header),
        )

    def values(self, place: int) -> list[str]:
        return [words_of(row[place]) for row in self.sample if place < len(row)]

    def like(self, known: Iterable[str], without: Iterable[int] = ()) -> list[int]:
        """Columns of these names, in the order of the names."""
        return [
            place
            for name in known
            for place, plain in enumerate(self.plain)
            if plain == name and place not in without
        ]

    def path(self) -> int:
        likely = self.like(PATHS)
        rest = [place for place in range(len(self.header)) if place not in likely]
        for place in (*likely, *rest):
            if any(map(self.finder.find, self.values(place)[:20])):
                return place
        for place in range(len(self.header)):
            if any(ending(one) in readable_extensions() for one in self.values(place)):
                return place  # images that are not there
        if likely:
            return likely[0]
        raise self.unclear("path")

    def labels(self, taken: set[int], named: bool) -> tuple[int, ...]:
        """The column of labels; or, where the columns have names, those of 0 and 1 of which each
        row marks one."""
        likely = self.like(LABELS, taken)
        others = [place for place in range(len(self.header)) if place not in taken]
        if likely or len(others) == 1:
            return ((likely or others)[0],)
        marks = {
            place: [MARKS.get(value.strip().lower()) for value in self.values(place)]
            for place in (others if named else ())
            if place not in self.like(SPLIT_COLUMNS)
        }
        marking = [place for place, values in marks.items() if None not in values]
        sums = [sum(map(bool, row)) for row in zip(*(marks[one] for one in marking), strict=False)]
        if len(marking) > 1 and set(sums) == {1}:
            return tuple(marking)
        raise self.unclear("label", [self.header[one] for one in marking])

    def split(self, taken: set[int]) -> int:
        for place in self.like(SPLIT_COLUMNS, taken):
            if all(split_word(one)[0] for one in self.values(place)):
                return place
        return -1

    def unclear(self, what: str, marking: Sequence[str] = ()) -> DataError:
        if len(marking) > 1:
            return DataError(
                f"{self.table.name} marks images by 0 and 1 in {shortly(map(shown, marking))}, and "
                "not each in one of these: an image of several classes, or of none.",
                "One class for each image is what is learned: name a column, --label-column NAME, "
                "or take those rows out.",
            )
        return DataError(
            f"{self.table.name} does not show which column holds the {what} of an image; it has "
            f"{', '.join(map(repr, map(shown, self.header[:20])))}.",
            f"Name it: --{what}-column NAME"
            + (
                f" Paths were looked for in {self.finder.tree.where}; if they begin elsewhere: "
                "--images FOLDER"
                if what == "path"
                else ""
            ),
        )


class _Rows:
    """Rows -> examples."""

    def __init__(self, table: Table, columns: Columns, finder: Finder, notes: list[str]) -> None:
        self.table, self.columns, self.finder, self.notes = table, columns, finder, notes
        self.labels: dict[str, int] = {}  # in the order in which they come; and where each did
        self.first: list[int] = []
        self.spelt: dict[str, str] = {}
        self.splits: dict[str, str] = {}
        self.found = Examples()
        self.places = array("q")
        self.missing: list[str] = []
        self.gone = 0

    def read(self) -> tuple[Examples, list[str], list[str]]:
        rows = self.table.rows()
        if self.columns.header is not None:
            next(rows)
        for place, values in rows:
            self.take(place, values)
        if not len(self.found):
            raise DataError(f"{self.table.name} has no rows but blank ones.", ROWS)
        repeated = self.found.repeated()
        for one, first in repeated:
            self.compare(one, first)
        self.refuse_missing()
        classes = sorted(self.labels)
        found, again = self.found, {one for one, _ in repeated}
        if again:
            found = found.take(place for place in range(len(found)) if place not in again)
        place_of = {name: place for place, name in enumerate(classes)}
        found = found.sorted([place_of[name] for name in self.labels])
        self.note_all(classes, len(found), len(again))
        return found, classes, self.notes

    def take(self, place: int, values: Sequence[Any]) -> None:
        columns = self.columns
        if len(values) != columns.width:
            if not any(map(words_of, values)):
                return
            raise DataError(
                f"{self.table.at(place)} has {len(values)} columns, the first row {columns.width}.",
                "A value with a separator in it stands in quotation marks.",
            )
        text = words_of(values[columns.path])
        if columns.header is not None and list(values) == list(columns.header):
            raise DataError(
                f"{self.table.at(place)} repeats the names of the columns.", "Take the row out."
            )
        label = self.label_of(values, place, text)
        known = self.labels.get(label)
        if known is None:
            known = self.new_label(label, place, text)
        split = "all" if columns.split < 0 else self.split_of(values[columns.split], place)
        group = "" if columns.group < 0 else words_of(values[columns.group])
        path = self.finder.find(text)
        if not path:
            path = self.absent(text, place)
        self.found.append(Example(split, known, path, group))
        self.places.append(place)

    def label_of(self, values: Sequence[Any], place: int, path: str) -> str:
        """The label of a row: what its column says, or the name of the column that marks it."""
        header, labels = self.columns.header, self.columns.labels
        if header is None or len(labels) == 1:
            return words_of(values[labels[0]])
        found = []
        for column in labels:
            value = words_of(values[column]).strip().lower()
            if value not in MARKS:
                raise DataError(
                    f"{self.table.at(place)} ({shown(path)}) has {value!r} in the column "
                    f"{shown(words_of(header[column]))!r}, expected 0 or 1.",
                    "Mend it, or name the column of the labels: --label-column NAME",
                )
            if MARKS[value]:
                found.append(words_of(header[column]).strip())
        if len(found) > 1:
            raise DataError(
                f"{self.table.at(place)} ({shown(path)}) marks {len(found)} classes, "
                f"{shortly(map(shown, found))}; expected one.",
                "Take the row out, or leave one mark.",
            )
        return found[0] if found else ""

    def new_label(self, label: str, place: int, path: str) -> int:
        at = self.table.at(place)
        if not label.strip():
            raise DataError(
                f"{at} ({shown(path)}) has no label.", "Fill it in, or take the row out."
            )
        if label in (".", "..") or {"/", "\\", "\0"} & set(label):
            raise DataError(
                f"{at}: {label!r} cannot name a class, which is called as a folder can be.",
                "Write the labels without slashes.",
            )
        form = " ".join(label.split())
        other = self.spelt.setdefault(form, label)
        if other != label:
            mine, theirs = spelling(label, other)
            raise DataError(
                f"{at} has the label {mine}, {self.table.unit} "
                f"{self.first[self.labels[other]]:,} {theirs}: they differ in spaces only.",
                "Write them alike.",
            )
        self.first.append(place)
        return self.labels.setdefault(label, len(self.labels))

    def split_of(self, value: Any, place: int) -> str:
        text = words_of(value)
        if text not in self.splits:
            split, rest = split_word(text)
            if not split or rest:
                raise DataError(
                    f"{self.table.at(place)} is in the split {text!r}, expected train, val or "
                    "test.",
                    "Name the column of the splits, --split-column NAME, or mend it.",
                )
            self.splits[text] = split
        return self.splits[text]

    def absent(self, text: str, place: int) -> str:
        """The path of a file that is not there."""
        path = self.finder.path_of(text) if text else ""
        if not path:
            raise DataError(
                f"{self.table.at(place)}: {text!r} "
                + (f"leads out of {self.finder.tree.where}." if text else "is no path."),
                "Give the folder that all images lie in: --images FOLDER",
            )
        self.gone += 1
        if len(self.missing) < 5:
            self.missing.append(f"{self.table.unit} {place:,}: {shown(text)}")
        return path

    def refuse_missing(self) -> None:
        """DataError where so many images are not there that they lie elsewhere."""
        if not self.gone:
            return
        told = f"{self.gone:,} of {len(self.found):,} images of {self.table.name} are not there"
        where = self.finder.tree.where / self.finder.folders[0]
        if 2 * self.gone >= len(self.found):
            raise DataError(
                f"{told} ({'; '.join(self.missing)}). Looked for in {where}.",
                "If their paths begin elsewhere: --images FOLDER. If another column holds them: "
                "--path-column NAME",
            )
        self.notes.append(f"{told} in {where}, such as {self.missing[0]}")

    def compare(self, place: int, first: int) -> None:
        """The same path once more: DataError unless everything else is the same, too."""
        one, other = self.found[place], self.found[first]
        names = list(self.labels)
        for what, mine, theirs in (
            ("label", names[one.label], names[other.label]),
            ("split", one.split, other.split),
            ("group", one.group, other.group),
        ):
            if mine != theirs:
                raise DataError(
                    f"{self.table.at(self.places[place])} gives {shown(one.id)} the {what} "
                    f"{mine!r}, {self.table.unit} {self.places[first]:,} {theirs!r}.",
                    "Keep one of the rows.",
                )

    def note_all(self, classes: list[str], examples: int, again: int) -> None:
        if again:
            self.notes.append(
                f"{again:,} rows of {self.table.name} repeat others, and are used once"
            )
        if len(classes) > max(20, examples // 2):
            self.notes.append(
                f"{examples:,} images have {len(classes):,} different labels: is it the right "
                "column? --label-column NAME chooses another"
            )
        parts = {name: re.split(r"[ ,;|]+", name) for name in classes}
        if put := [name for name, some in parts.items() if len(some) > 1 and {*some} <= {*classes}]:
            self.notes.append(
                f"{len(put):,} labels put others together ({shortly(map(shown, put), 3)}): each is "
                "a class of its own, since an image has one"
            )
        forms = Counter(map(alike, classes))
        for form, count in forms.items():
            if count > 1:
                names = [name for name in classes if alike(name) == form]
                mine, other = spelling(*names[:2])
                self.notes.append(f"the labels {mine} and {other} differ in so little: one class?")


def table_source(
    tables: Mapping[str, Table], tree: Tree, reading: Reading, folders: Mapping[str, Sequence[str]]
) -> Source:
    """The images of a tree, with the labels of tables.

    Args:
        tables: by split; one alone may be of "all", and say the splits itself.
        folders: by split: in the tree, each with a slash behind it, in which paths may begin; the
            first in which most are found counts, the top of the tree before them.

    Raises:
        DataError: a table has no such columns, or a row that cannot be used.
    """
    notes: list[str] = []
    parts: list[tuple[str, Examples, list[str]]] = []
    for split, table in tables.items():
        finder, said = _finder(table, tree, folders.get(split, ()))
        examples, classes, more = labelled_rows(table, reading, finder)
        notes += said + more
        parts.append((split, examples, classes))
    every = sorted({name for _, _, classes in parts for name in classes})
    place = {name: label for label, name in enumerate(every)}
    found = parts[0][1]
    if len(parts) > 1:
        found = Examples(
            one._replace(label=place[classes[one.label]], split=split)
            for split, examples, classes in parts
            for one in examples
        )
    return Source(
        "table", every, every, found, partial(contents_of, tree, found), list(tree.left_out),
        notes + tree.notes,
    )  # fmt: skip


def contents_of(
    tree: Tree, examples: Examples, base: str = ""
) -> Iterator[bytes | Pixels | OSError]:
    """The files of examples, whose paths begin in the folder `base`, with a slash."""
    for path in examples.ids:
        try:
            yield tree.read(base + path)
        except OSError as error:
            yield error


def _finder(table: Table, tree: Tree, folders: Iterable[str]) -> tuple[Finder, list[str]]:
    """What finds the images of a table: in the first folder in which most are; in several, where
    more are found in these."""
    every = list(folders)
    alone = next((one for one in ("", *every) if fits(table, Finder(tree, one))), None)
    found = 0.0 if alone is None else share_found(table, Finder(tree, alone))
    begin = [alone or ""]
    if found < 1 and len(every) > 1:
        together = share_found(table, Finder(tree, *every))
        begin = every if together > found and 2 * together >= 1 else begin
    said = f"paths of {table.name} begin in {' or '.join(begin)}" if any(begin) else ""
    return Finder(tree, *begin), [said] if said else []


def fits(table: Table, finder: Finder) -> bool:
    """Whether most rows of the beginning of a table have a value that is a file."""
    return 2 * share_found(table, finder) >= 1


def share_found(table: Table, finder: Finder) -> float:
    """The share of rows of the beginning of a table that have a value that is a file; of these but
    one, which may be the names of the columns."""
    rows = [values for _, values in itertools.islice(table.rows(), LOOKED_AT)]

    def found(values: Sequence[Any]) -> bool:
        try:
            return any(finder.find(words_of(value)) for value in values)
        except DataError:  # there are several
            return False

    return sum(map(found, rows)) / max(1, len(rows) - 1)


def folder_of_paths(table: Table, reading: Reading, usual: Path) -> Path:
    """The folder in which the paths of a table begin: the usual one, unless its images are neither
    there nor in a folder in it, and it has whole paths; then the deepest that has all of these."""
    start = [values for _, values in itertools.islice(table.rows(), LOOKED_AT)]
    columns = [
        place
        for place, name in enumerate(start[0] if start else ())
        if reading.path_column in ("", words_of(name).strip(), str(place + 1))
        and all(place < len(row) and _is_whole(row[place]) for row in start[1:] or start)
    ]
    inner = _folders_in(usual, table.name) if columns and not reading.path_column else []
    finders = (Finder(LooseFiles(usual), folder) for folder in ("", *inner))
    if not columns or (not reading.path_column and any(fits(table, one) for one in finders)):
        return usual
    rows = (values for _, values in table.rows())
    paths = {words_of(row[place]) for row in rows for place in columns if place < len(row)}
    try:
        common = Path(os.path.commonpath({os.path.dirname(one) for one in paths if _is_whole(one)}))  # noqa: PTH120
    except ValueError:  # several drives of Windows
        return usual
    return usual if common.is_relative_to(usual) else common


def _is_whole(value: Any) -> bool:
    """Whether it is the whole path of an image."""
    text = words_of(value)
    return os.path.isabs(text) and ending(text) in readable_extensions()  # noqa: PTH117


def tables_in(tree: Tree, top: Folder, reading: Reading) -> Source | None:
    """The images of a folder with the labels of the tables in it, or in the folders directly in
    it; None where there is no table that speaks of them.

    Raises:
        DataError: there are several, and their names are not those of splits; or as
            `table_source`.
    """
    tree = Inside(tree, f"{top.path}/" if top.above else "")
    named = bool(reading.path_column or reading.label_column)
    tables: dict[str, list[tuple[list[str], Table]]] = {}
    for folder in (top, *top.inner):
        for table, beside in _tables_of(tree, folder, "" if folder is top else f"{folder.name}/"):
            if named or _speaks(table, tree, reading, beside):
                name = table.name.rpartition("/")[2]
                split = split_word(name.rpartition(".")[0].lower().removesuffix("labels"))[0]
                split = split or split_word(folder.name)[0] or "all"
                tables.setdefault(split, []).append((beside, table))
    if not tables:
        return None
    if any(len(some) > 1 for some in tables.values()) or (len(tables) > 1 and "all" in tables):
        several = [table.name for some in tables.values() for _, table in some]
        raise DataError(
            f"{tree.where} has several tables with labels: {', '.join(several)}.",
            "Give the one that is meant as DATA.",
        )
    chosen = {split: tables[split][0] for split in SPLITS if split in tables}
    source = table_source(
        {split: table for split, (_, table) in chosen.items()},
        tree,
        reading,
        {split: folders for split, (folders, _) in chosen.items()},
    )
    names = ", ".join(table.name for _, table in chosen.values())
    source.notes.insert(0, f"labels are those of {names}")
    if unnamed := top.count - sum(map(tree.has, source.examples.ids)):
        source.left_out.append(f"{unnamed:,} images that {names} does not name")
    return source


def labels_beside(
    tree: Tree, top: Folder, reading: Reading, classes: Sequence[str]
) -> Iterator[str]:
    """What is to be said of tables in a folder that speak of the images in it, whose labels are the
    `classes`, which are folders. The beginning of a table is looked at.

    Raises:
        DataError: it has other labels.
    """
    where = tree.where
    tree = Inside(tree, f"{top.path}/" if top.above else "")
    tables = list(_tables_of(tree, top, ""))
    images = {_stem(path) for path in top.below("", images=True)} if tables else set()
    for table, beside in tables:
        start = replace(table, rows=partial(_beginning, table))
        try:
            rows = [values for _, values in start.rows()]
            named = sum(any(_stem(words_of(one)) in images for one in row) for row in rows)
            if 2 * named < len(rows) - 1 or not named:  # seen at once, without looking for files
                continue
            finder, _ = _finder(start, tree, beside)
            if not fits(start, finder):
                continue
            found, names, _ = labelled_rows(start, reading, finder)
        except DataError:
            yield f"{table.name}, which names these images; for its labels give it as DATA"
            continue
        there = [(one.id, names[one.label]) for one in found if tree.has(one.id)]
        pairs = {(path.rpartition("/")[0], label) for path, label in there}
        folders, labels = ({*one} for one in zip(*pairs, strict=True)) if pairs else ((), ())
        if len(pairs) == len(folders) == len(labels):  # perhaps by other names
            continue
        if 2 * sum(_is_called(path, label) for path, label in there) >= len(there):
            continue
        own = where / top.path / table.name if where.is_dir() else f"{table.name}, unpacked"
        raise DataError(
            f"{where / top.path} can be read in two ways: {table.name} has the labels "
            f"{shortly(map(shown, names))}, and its images lie in folders called "
            f"{shortly(map(shown, classes))}.",
            f"For the labels of the table, give {own}; for those of the folders, "
            f"{starred(top, where)}.",
        )


def _stem(path: str) -> str:
    """The name of a file without its folder and its ending."""
    name = path.strip().replace("\\", "/").rpartition("/")[2]
    return name.removesuffix(ending(name)) if ending(name) in readable_extensions() else name


def _beginning(table: Table) -> Iterator[Row]:
    return itertools.islice(table.rows(), LOOKED_AT)


def _is_called(path: str, label: str) -> bool:
    """Whether a label is the name of a folder that an image lies in; numbers may begin with 0."""
    plain = alike(label).lstrip("0")
    return any(alike(name).lstrip("0") == plain for name in path.split("/")[:-1])


def _tables_of(tree: Tree, folder: Folder, start: str) -> Iterator[tuple[Table, list[str]]]:
    """The tables directly in a folder, whose path is `start`; and the folders in which the paths of
    each may begin."""
    for name in sorted(filter(is_table, folder.files)):
        if "submission" not in name.lower():  # Kaggle's example of an answer
            table = opened(name, start + name, partial(_held, tree, start + name))
            yield table, _beside(folder, start, name)


def _held(tree: Tree, path: str) -> IO[bytes]:
    """A table inside a tree: read at once, since damaged members of archives raise whatever their
    readers trip over."""
    return io.BytesIO(tree.read(path))


def _speaks(table: Table, tree: Tree, reading: Reading, folders: Sequence[str]) -> bool:
    """Whether a table has labels of images of the tree."""
    try:
        finder, _ = _finder(table, tree, folders)
        return fits(table, finder) and bool(_columns(table, reading, finder))
    except DataError:
        return False


def _beside(folder: Folder, start: str, name: str) -> list[str]:
    """Folders in which the paths of a table may begin: its own, whose path is `start`, and those in
    it, the likeliest first; of train/train/ the inner one."""
    inner = {one: folder.folders[one] for one in _likely(folder.folders, name)}
    paths = [
        f"{start}{one}{through(inside).path.removeprefix(inside.path)}/"
        for one, inside in inner.items()
    ]
    return [start, *paths] if start else paths


def _folders_in(root: Path, table: str) -> list[str]:
    """The same of a folder on disk."""
    with os.scandir(root) as entries:
        inner = [one.name for one in entries if not hidden(one.name) and one.is_dir()]
    likely = [f"{one}/" for one in _likely(inner, table)]
    # train/train/, as Kaggle's archives are unpacked
    return [f"{one}{one}" if (root / one / one).is_dir() else one for one in likely]


def _likely(folders: Iterable[str], table: str) -> list[str]:
    """Folders, first those that are called as a table, then those that hold images by name."""
    stem = table.rpartition(".")[0].casefold()
    return sorted(
        folders,
        key=lambda one: (
            not stem.startswith(one.casefold()),
            split_word(one)[0] != split_word(stem.removesuffix("labels"))[0],
            one.casefold() not in PLAIN_FOLDERS,
            one,
        ),
    )[:MOST_FOLDERS]


def table_file(where: Path, reading: Reading, space: Path) -> tuple[Source, str]:
    """The images that a table on disk speaks of, and a signature that changes when it or one of
    them does.

    Args:
        where: the table.
        space: a folder for temporary files.
    """
    if reading.label_pattern:
        raise InputError(
            f"{where} is a table, whose labels stand in a column.",
            "Leave out --label-pattern, or give the folder of the images.",
        )
    table = opened(where.name, str(where), lambda: open(where, "rb"))
    images = reading.images
    root = Path(images) if images else folder_of_paths(table, reading, where.parent)
    if not root.exists():
        raise DataError(f"there is nothing at {root} (--images).", "Check the path.")
    tree: Tree = LooseFiles(root) if root.is_dir() else open_tree(root, space)
    folders = _folders_in(root, where.name) if root.is_dir() else []
    source = table_source({"all": table}, tree, reading, {"all": folders})
    state = tree.seen.hexdigest() if isinstance(tree, LooseFiles) else source_state(root)[0]
    return source, f"{source_state(where)[0]} {reading.query} {state}"
