"""From a Store to its splits: those that the data has, or drawn, the same share of every class and
no group on two sides."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.data.finding import require_classes
from alexnet.data.store import Indices, Store, keyed_seed
from alexnet.errors import DataError

Order = Callable[[Indices], Indices]  # some examples -> in the order in which they are drawn


@dataclass(frozen=True)
class Splits:
    """Indices into a Store. `note` says how they came about where that is not obvious."""

    train: Indices
    val: Indices  # empty where training images are cross-validated
    test: Indices  # empty where the data has a validation split of its own and no test split
    note: str = ""
    draw: str = "content"  # the rule by which images were drawn: content or position


def make_splits(
    store: Store,
    *,
    val_size: float,
    test_size: float,
    fraction: float,
    seed: int,
    draw: str = "content",
    folds: int = 0,
) -> Splits:
    """The splits of a Store: its own where it has them, else drawn from `seed`, the same share of
    every class.

    Images of a class are ordered by their content and the seed; the test split is taken from the
    front, validation from the end. So where an image falls does not depend on the others' names or
    number: one more moves one other of its class at most into the test split or out of it, and one
    into validation or out of it. Release 0.1.0 drew by position (`draw`), which runs and Stores of
    it keep. Images of one group stand on one side. An image whose label a table of changes has
    changed falls where it fell before (`Store.drawn`). Where training images are cross-validated in
    `folds` no validation split is drawn, nor may the data have one.

    Raises:
        DataError: there is one class only, a class has too few images or groups, a group stands
            in two splits of the data, or there is nothing to train on.
    """
    require_classes(store.info["source"], store.classes)
    require_apart(store)
    if store.content is None:
        draw = "position"
    part = stratified if store.groups is None else draw_groups

    def order(salt: int) -> Order:
        return by_content(store, seed) if draw == "content" else by_position(seed, salt)

    train, val, test = store.split("train"), store.split("val"), store.split("test")
    notes = []
    if len(store.split("all")):
        train, test = part(store, store.split("all"), test_size, order(1), "test")
        notes.append(f"{test_size:.0%} of the images are set aside as the test split")
    if not len(train):
        raise DataError(
            f"{store.info['source']} has only the splits {', '.join(store.info['splits'])}; there "
            "is nothing to train on.",
            "Give data with train/CLASS/ or CLASS/ folders, or evaluate a run on it: alexnet eval "
            "RUN DATA",
        )
    last = draw == "content"
    if fraction < 1:
        _, train = stratified(store, train, fraction, order(2), "training fraction", last=last)
    if folds and len(val):
        raise DataError(
            f"folds is {folds}, but {store.info['source']} has a validation split of its own.",
            "Leave out --folds: its images then choose.",
        )
    if folds:
        notes.append(f"training images are cross-validated in {folds} folds")
    elif not len(val):
        train, val = part(store, train, val_size, order(3), "validation", last=last)
        notes.append(f"{val_size:.0%} of the training images for validation")
    if store.groups is not None and notes:
        notes.append(f"whole groups, of which there are {len(np.unique(store.groups)):,}")
    if not len(test):
        of = "cross-validation" if folds else "the validation split, which also chose the epoch"
        notes.append(f"no test split: the final figures are of {of}")
    return Splits(train, val, test, "; ".join(notes), draw)


def by_position(seed: int, salt: int) -> Order:
    """One permutation after the other, as release 0.1.0 drew."""
    generator = np.random.default_rng(keyed_seed(seed, salt))
    return lambda members: generator.permutation(members)


def by_content(store: Store, seed: int) -> Order:
    """By the checksum of an image's file, mixed with the seed (the finaliser of SplitMix64); equal
    files stand beside each other."""
    content = np.zeros((0, 8), np.uint8) if store.content is None else store.content
    key = np.ascontiguousarray(content).view("<u8")[:, 0] ^ np.uint64(keyed_seed(seed))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return lambda members: members[np.lexsort((members, key[members]))]


def stratified(
    store: Store, indices: Indices, share: float, order: Order, what: str, last: bool = False
) -> tuple[Indices, Indices]:
    """Splits `indices` into (rest, drawn): of each class `share`, rounded, at least one image, and
    at least one left; the first in the `order`, or the last.

    scikit-learn's stratified splitters round over all classes together and may leave a small class
    out of a split.
    """
    labels = store.drawn[indices]
    drawn = np.zeros(len(indices), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise DataError(
                f"the class {store.classes[label]!r} has 1 image left for the {what} split; each "
                "split needs at least one.",
                "Add images of this class, or remove it. A class needs 3 images for train, val and "
                "test, more where --val-size or --test-size is large.",
            )
        count = min(max(1, round(share * len(members))), len(members) - 1)
        ordered = order(indices[members])
        drawn |= np.isin(indices, ordered[-count:] if last else ordered[:count])
    return indices[~drawn], indices[drawn]


def folds_of(store: Store, rows: Indices, folds: int, seed: int) -> Indices:
    """(n,) the fold of each of `rows`, as `dealt` deals them, in the order in which splits are
    drawn."""
    order = by_position(seed, 4) if store.content is None else by_content(store, seed)
    rank = np.empty(len(rows), np.int64)
    rank[np.searchsorted(rows, order(rows))] = np.arange(len(rows))
    return dealt(store.drawn[rows], kept_together(store, rows), rank, folds)


def kept_together(store: Store, rows: Indices) -> Indices:
    """(n,) numbers that are equal for images that must not be parted: those of one group, or where
    there are no groups, those of equal files."""
    if store.groups is not None:
        return store.groups[rows]
    if store.content is None:
        return np.arange(len(rows))
    found: Indices = np.unique(store.content[rows], axis=0, return_inverse=True)[1].ravel()
    return found


def dealt(labels: Indices, groups: Indices, rank: Indices, folds: int) -> Indices:
    """(n,) the fold of each image, 0 to `folds` - 1: groups whole, and of every class about as many
    images in each. The largest groups come first, then as they rank; each goes to the fold that has
    the least of its classes."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(first), len(classes)))
    np.add.at(counts, (group, label), 1)
    whole = counts.sum(0)
    inside, fold_of = np.zeros((folds, len(classes))), np.empty(len(first), np.int64)
    for one in np.lexsort((rank[first], -counts.sum(1))):
        alike = (inside * counts[one] / whole).sum(1)
        fold = fold_of[one] = np.lexsort((inside.sum(1), alike))[0]
        inside[fold] += counts[one]
    return fold_of[group]


def require_apart(store: Store) -> None:
    """DataError where a group stands in two of the splits that data has of itself."""
    groups = store.groups
    if groups is None:
        return
    seen: dict[int, str] = {}
    for split in store.info["splits"]:
        for row in store.split(split):
            first = seen.setdefault(int(groups[row]), split)
            if first != split:
                other = next(one for one in store.split(first) if groups[one] == groups[row])
                raise DataError(
                    f"{store.info['source']}: {store.ids[row]} in {split} is of the same group as "
                    f"{store.ids[other]} in {first}.",
                    "Leave out --group to keep these splits, or give the images without them.",
                )


def draw_groups(
    store: Store, indices: Indices, share: float, order: Order, what: str, last: bool = False
) -> tuple[Indices, Indices]:
    """Splits `indices` into (rest, drawn) so that no group is in both: of each class about
    `share`, at least one image, and at least one left. Groups are looked at in the order of their
    first image, or the last; one is taken if it brings the shares nearer.

    Raises:
        DataError: a class has one group only, or no such draw was found.
    """
    assert store.groups is not None  # noqa: S101  whoever calls it has looked
    groups, place = np.unique(store.groups[indices], return_inverse=True)
    labels, label = np.unique(store.drawn[indices], return_inverse=True)
    counts = np.zeros((len(groups), len(labels)))
    np.add.at(counts, (place, label), 1)
    whole = counts.sum(0)
    single = np.flatnonzero((counts > 0).sum(0) < 2)
    if len(single):
        name, count = store.classes[labels[single[0]]], whole[single[0]]
        raise DataError(
            f"the {count:.0f} images of the class {name!r} that are left for the {what} split all "
            "are of one group, which must not stand on two sides.",
            "Add images of this class from another group (animal, patient, film), leave the class "
            "out, or give finer groups. A class needs 3 groups for train, val and test.",
        )
    first = place[np.searchsorted(indices, order(indices))]
    ranked = list(dict.fromkeys((first[::-1] if last else first).tolist()))
    chosen = _choose_groups(counts, np.maximum(1, np.round(share * whole)), ranked)
    if not chosen:
        raise DataError(
            f"no way was found to have images of every class on both sides of the {what} split "
            f"with {len(groups)} groups whole.",
            "Give finer groups, or say the splits in a column: --split-column NAME",
        )
    inside = np.isin(place, chosen)
    return indices[~inside], indices[inside]


def _choose_groups(
    counts: NDArray[np.float64], wanted: NDArray[np.float64], ranked: list[int]
) -> list[int]:
    """Of groups with `counts` (G, K) images of each class, some that have about as many together as
    are `wanted` (K,), and not all of any class; the first ranked before others. None where no way
    is found."""
    whole, drawn = counts.sum(0), np.zeros(len(wanted))
    chosen: list[int] = []

    def far(found: NDArray[np.float64]) -> float:
        return float((((found - wanted) / whole) ** 2).sum())

    for group in ranked:
        after = drawn + counts[group]
        if (after < whole).all() and far(after) < far(drawn):
            drawn = after
            chosen.append(group)
    for label in range(len(wanted)):
        if not drawn[label]:
            fitting = [
                group
                for group in ranked
                if counts[group, label]
                and group not in chosen
                and (drawn + counts[group] < whole).all()
            ]
            if not fitting:
                return []
            best = min(fitting, key=lambda group: far(drawn + counts[group]))
            drawn = drawn + counts[best]
            chosen.append(best)
    return chosen
