"""Labels that are probably wrong, looked at one picture at a time: those that `data check` doubts
and those that a run got wrong, the most doubtful first. What is said of a picture is on the disk,
in a table of changes beside the data, before anybody hears that it was taken.

Rows are places in the Store of the run; N images, K classes.
"""

import contextlib
import functools
import io
import shlex
import threading
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alexnet import marks
from alexnet.checking.label_errors import cross_validated, features_of, label_errors, seeing_part
from alexnet.console import say
from alexnet.data.changes import (
    OTHER,
    RIGHT,
    Change,
    of_source,
    read_changes,
    require_same,
    write_changes,
)
from alexnet.data.datasets import packed
from alexnet.data.images import BadImage, open_image, square_pixels
from alexnet.data.originals import original
from alexnet.data.reading import parted, title_of
from alexnet.data.store import Store
from alexnet.data.trees import levels_of
from alexnet.errors import InputError
from alexnet.network.saliency import nearest_neighbours
from alexnet.reporting.illustrations import number
from alexnet.runs.directory import Predictions, RunDirectory
from alexnet.runs.own_data import own_data
from alexnet.runtime import choose_device
from alexnet.scoring.metrics import softmax
from alexnet.teaching.folder import Gone
from alexnet.words import shown

NEIGHBOURS = 6  # of each of two classes
AHEAD = 2  # pictures that are told of: the next one can be fetched while this one is looked at
LARGE, SMALL = 640, 160  # px of a picture


@dataclass(frozen=True)
class Suspect:
    """A picture whose label is doubted."""

    row: int
    given: int
    suggested: int
    p_given: float
    p_suggested: float


def suspects_of(
    store: Store, probabilities: Any, found: Predictions, temperature: float = 1
) -> list[Suspect]:
    """The pictures to look at, the most doubtful first: those whose label is the least probable,
    which finds more wrong labels than how far another one is ahead (docs/teach.md). Where both
    doubt a picture, the greater doubt counts.

    Args:
        store: the data of the run.
        probabilities: (N, K) of every picture, from others alone.
        found: what the run said of pictures that it was not trained on.
        temperature: that makes probabilities of its logits.
    """
    doubts = [Suspect(*one) for one in label_errors(probabilities, store.y)]
    rows, p = {id_: row for row, id_ in enumerate(store.ids)}, softmax(found.logits / temperature)
    for place in np.flatnonzero(~found.hits).tolist():
        row = rows.get(found.ids[place])
        if row is not None:
            given, guess = int(store.y[row]), int(p[place].argmax())
            doubts.append(
                Suspect(row, given, guess, float(p[place, given]), float(p[place, guess]))
            )
    doubts.sort(key=lambda one: one.p_given)
    return list({one.row: one for one in reversed(doubts)}.values())[::-1]


def table_beside(data: str) -> Path:
    """Where the table of changes of some data lies: the one that it is read with; else beside it,
    or where it has no place of its own, in the current folder."""
    plain, reading = parted(data)
    if reading.labels:
        return Path(reading.labels)
    where = levels_of(Path(plain))[0]
    own = where.exists() and not marks.kind_of(where)
    name = where.stem if where.is_file() else where.name
    return (where.parent if own else Path.cwd()) / f"{name}-changes.csv"


class Mending:
    """The pictures that are looked at, and what was said of them; its methods may be called by
    several threads."""

    def __init__(self, run: str | Path, table: Path, device: str = "auto") -> None:
        """
        Raises:
            RunError: it is no finished run. DataError: its data is not there any more or has
                changed; or the table is not of this data, or damaged.
        """
        directory = RunDirectory(run)
        settings, trained = directory.settings, directory.load()
        found, where = directory.predictions(), choose_device(device)
        self.run, self.data, self.table = directory.path, settings.data, table
        # what is answered changes the labels of data that is read with this table
        then = packed(settings.fingerprint) if parted(self.data)[1].labels else iter(())
        own = own_data(settings, trained.preprocessing, next(then, None))
        self.store = store = own.store
        self.ids = store.ids
        self.changes = self._read()
        body = seeing_part(settings.recipe, trained.model)
        self.features = features_of(body, trained.preprocessing, store, where)
        probabilities = cross_validated(self.features.x, store.y, len(store.classes))
        temperature = number(directory.metrics().get("temperature"))
        doubted = suspects_of(store, probabilities, found, temperature if temperature > 0 else 1)
        self.suspects = {one.row: one for one in doubted}
        self._lock = threading.Lock()
        self.neighbours = functools.lru_cache(maxsize=64)(self._neighbours)
        say(f"{len(self.suspects):,} of {len(store):,} labels are doubted")

    def _read(self) -> dict[str, Change]:
        """What was said before, by the pictures' paths, in the order of the answers."""
        store = self.store
        if not self.table.exists():
            return {}
        rows = read_changes(self.table)
        known = of_source(rows, self.ids, store.classes, store.names, self.table)
        for place, row in known.items():
            if store.content is not None:
                require_same(row, store.content[place].tobytes())
        paths = {row.at: self.ids[place] for place, row in known.items()}
        changes = {row.at: row.change for row in known.values()}
        return {paths.get(row.at, row.change.path): changes.get(row.at, row.change) for row in rows}

    def about(self) -> dict[str, Any]:
        """What does not change while pictures are looked at."""
        store, (plain, reading) = self.store, parted(self.data)
        data = plain + replace(reading, labels="").query
        words = ["alexnet", "train", data, "--labels", str(self.table), "--config", str(self.run)]
        named = zip(store.classes, store.names, strict=True)
        return {
            "of": self.store.fingerprint[:12],
            "data": title_of(self.data),
            "table": str(self.table),
            "command": shlex.join(words),
            "classes": [{"class": class_, "name": name} for class_, name in named],
        }

    def state(self) -> dict[str, Any]:
        """How far it is, and the pictures to look at next."""
        changes = self.changes  # which is replaced as a whole
        left = [one for one in self.suspects.values() if self.ids[one.row] not in changes]
        return {
            "total": len(self.suspects),
            "looked": len(self.suspects) - len(left),
            "counts": Counter(one.answer for one in changes.values()),
            "last": self._last(changes),
            "items": [self._told(one) for one in left[:AHEAD]],
        }

    def _last(self, changes: dict[str, Change]) -> int | None:
        """The picture that something was said of last."""
        rows = {self.ids[row]: row for row in self.suspects}
        return next((rows[id_] for id_ in reversed(changes) if id_ in rows), None)

    def _told(self, one: Suspect) -> dict[str, Any]:
        store = self.store
        return {
            "row": one.row,
            "name": shown(self.ids[one.row]),
            "given": store.classes[one.given],
            "suggested": store.classes[one.suggested],
            "p_given": one.p_given,
            "p_suggested": one.p_suggested,
            "like_given": self.neighbours(one.row, one.given),
            "like_suggested": self.neighbours(one.row, one.suggested),
        }

    def _neighbours(self, row: int, label: int) -> list[int]:
        """The rows of the pictures of a class that are nearest to one."""
        others = np.flatnonzero(self.store.y == label)
        others = others[others != row]
        near = nearest_neighbours(self.features.x[[row]], self.features.x[others], NEIGHBOURS)[1]
        found: list[int] = others[near[0]].tolist()
        return found

    def answer(self, row: int, answer: str, label: str = "") -> None:
        """Takes down what was said of a picture.

        Raises:
            Gone: it is not asked about, or something was said of it before. InputError: there is no
                such class. DiskError: the table cannot be written, and nothing was taken down.
        """
        if row not in self.suspects:
            raise Gone("this picture is not asked about.", "Look at the page anew.")
        was, picture = self.store.classes[self.store.y[row]], self.ids[row]
        if answer == OTHER and (label == was or label not in self.store.classes):
            raise InputError(f"{shown(label[:60])!r} is no other class.", "Choose one of the list.")
        content = self.store.content
        sha256 = "" if content is None else content[row].tobytes().hex()
        label = {RIGHT: was, OTHER: label}.get(answer, "")
        with self._lock:
            if picture in self.changes:
                raise Gone("this was answered before, in another tab.", "Here is the next one.")
            self._write({**self.changes, picture: Change(picture, label, answer, was, sha256)})

    def undo(self, row: int) -> None:
        """Takes back what was said last.

        Raises:
            Gone: something else was said last.
        """
        with self._lock:
            if row != self._last(self.changes):
                raise Gone("this is not the last answer any more.", "Look at the page anew.")
            self._write({id_: one for id_, one in self.changes.items() if id_ != self.ids[row]})

    def _write(self, changes: dict[str, Change]) -> None:
        write_changes(self.table, list(changes.values()))
        self.changes = changes

    def picture(self, row: int, side: int) -> bytes:
        """The centre square of a picture, at most `side` px: of its file, or where that is not
        there any more, as it was packed. A .png or .jpg file.

        Raises:
            Gone: there is no such row.
        """
        if row not in range(len(self.store)):
            raise Gone("there is no such picture.", "Look at the page anew.")
        pixels, path = np.asarray(self.store.x[row]), original(self.data, self.ids[row])
        with contextlib.suppress(OSError, BadImage):  # there in one moment, and gone in the next
            if path is not None:
                pixels = square_pixels(open_image(path.read_bytes()), side)
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        image.thumbnail((side, side))
        file = io.BytesIO()
        image.save(file, "PNG" if image.width < SMALL else "JPEG", quality=90)
        return file.getvalue()
