"""Paths and examples by the million: sequences in columns, of a few dozen bytes for each element
where a list of Python's objects takes hundreds."""

import bisect
import heapq
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Self, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test", "all")  # the order in which sources list their examples
Element = TypeVar("Element")
RUN = 2**16  # paths that are sorted at a time


class Example(NamedTuple):
    """One image of a source."""

    split: str  # train, val, test, or all where the source has no splits
    label: int  # index into the classes
    id: str  # its path inside the source
    group: str = ""  # what must stand on one side of a split, with all others of that name
    drawn: int = -1  # the label that it had before a table of changes, by which splits are drawn


class Columns(Sequence[Element]):
    """A sequence whose elements are made when they are asked for. It equals any other sequence of
    equal elements."""

    @abstractmethod
    def at(self, place: int) -> Element:
        """The element of a place from 0 on."""

    @overload
    def __getitem__(self, place: SupportsIndex) -> Element: ...
    @overload
    def __getitem__(self, place: slice) -> list[Element]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> Element | list[Element]:
        if isinstance(place, slice):
            return [self.at(one) for one in range(*place.indices(len(self)))]
        return self.at(range(len(self))[place])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr([*self])


class Paths(Columns[str]):
    """Texts, one after the other in memory: so many bytes as they have letters, and 8 each."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("Q")
        for path in paths:
            self.append(path)

    def append(self, path: str) -> None:
        # names of files need not be text: Python puts lone surrogates for the bytes that are none
        self._bytes += path.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def at(self, place: int) -> str:
        start = self._ends[place - 1] if place else 0
        return self._bytes[start : self._ends[place]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        start, content = 0, self._bytes
        for end in self._ends:
            yield content[start:end].decode("utf-8", "surrogatepass")
            start = end

    def order(self) -> NDArray[np.int64]:
        """(N,) the places of the paths in sorted order, equal ones as they come. Memory for some of
        them at a time."""
        runs = [
            array("q", sorted(range(start, min(start + RUN, len(self))), key=self.at))
            for start in range(0, len(self), RUN)
        ]
        return np.fromiter(heapq.merge(*runs, key=self.at), np.int64, len(self))


def place_in(paths: Sequence[str], path: str) -> int:
    """The place of a path among sorted ones; -1 where it is not there."""
    place = bisect.bisect_left(paths, path)
    return place if place < len(paths) and paths[place] == path else -1


class Examples(Columns[Example]):
    """Examples in columns."""

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        self.ids = Paths()
        self._splits, self._labels = bytearray(), array("i")
        # what most sources have not is there from the first that has it on
        self._groups, self._drawn = array("i"), array("i")
        self._names = {"": 0}  # of groups, with their numbers
        self._group_of = [""]
        for one in examples:
            self.append(one)

    def append(self, one: Example) -> None:
        count = len(self)
        self.ids.append(one.id)
        self._splits.append(SPLITS.index(one.split))
        self._labels.append(one.label)
        if one.group or self._groups:
            self._groups.extend([0] * (count - len(self._groups)))
            number = self._names.setdefault(one.group, len(self._names))
            if number == len(self._group_of):
                self._group_of.append(one.group)
            self._groups.append(number)
        if one.drawn >= 0 or self._drawn:
            self._drawn.extend([-1] * (count - len(self._drawn)))
            self._drawn.append(one.drawn)

    def __len__(self) -> int:
        return len(self._splits)

    def at(self, place: int) -> Example:
        return Example(
            SPLITS[self._splits[place]],
            self._labels[place],
            self.ids.at(place),
            self._group_of[self._groups[place]] if self._groups else "",
            self._drawn[place] if self._drawn else -1,
        )

    @property
    def splits(self) -> list[str]:
        """The splits that there are."""
        return [split for number, split in enumerate(SPLITS) if number in self._splits]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,)"""
        return np.array(self._labels, np.int64)

    @property
    def groups(self) -> list[str]:
        """Of each, in order; none where no image is in a group."""
        return [self._group_of[number] for number in self._groups]

    def places_of(self, split: str) -> NDArray[np.int64]:
        """The places of a split."""
        numbers = np.frombuffer(bytes(self._splits), np.uint8)
        return np.flatnonzero(numbers == SPLITS.index(split))

    def take(self, places: Iterable[int]) -> Self:
        """The examples of these places."""
        return type(self)(map(self.at, places))

    def sorted(self, labels: Sequence[int]) -> Self:
        """In the order in which sources list them, by split, label and path, with the label
        `labels[i]` instead of i."""
        order, new = self.ids.order(), np.asarray(labels)[self.labels]
        splits = np.frombuffer(bytes(self._splits), np.uint8)
        order = order[np.lexsort((new[order], splits[order]))]
        return type(self)(
            self.at(place)._replace(label=int(new[place])) for place in map(int, order)
        )

    def repeated(self) -> list[tuple[int, int]]:
        """Places of examples whose path was there before, in order, each with the first one's."""
        found, first = [], -1
        for before, place in pairwise(self.ids.order().tolist()):
            if self.ids[before] == self.ids[place]:
                first = before if first < 0 else first
                found.append((place, first))
            else:
                first = -1
        return sorted(found)
