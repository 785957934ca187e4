"""The data of a run: the Store it was trained on, its splits, and whether it is still the same."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexnet.data.datasets import open_data, packed
from alexnet.data.finding import is_there
from alexnet.data.sources import Changes, Data
from alexnet.data.splits import Splits, folds_of, make_splits
from alexnet.data.store import Store
from alexnet.errors import DataError
from alexnet.network.description import Preprocessing
from alexnet.recipes import Recipe, Resolved
from alexnet.runs.directory import RunDirectory, Settings
from alexnet.scoring.metrics import Labels


def open_store(
    data: Data,
    recipe: Recipe,
    how: Preprocessing,
    bad_images: str = "",
    accept: Callable[[list[str]], object] | None = None,
) -> Store:
    """Images as a run with this recipe and preprocessing has them; `bad_images` instead of its
    own; `accept` as for `open_data`."""
    return open_data(
        data,
        image_size=how.image_size,
        greyscale=recipe.greyscale,
        bad_images=bad_images or recipe.bad_images,
        white=how.range,
        accept=accept,
    )


def splits_of(store: Store, recipe: Recipe) -> Splits:
    """The splits of a Store that a run with this recipe has."""
    return make_splits(
        store,
        val_size=recipe.val_size,
        test_size=recipe.test_size,
        fraction=recipe.fraction,
        seed=recipe.splits_from,
        draw=recipe.draw if isinstance(recipe, Resolved) else "position",
        folds=recipe.folds,
    )


def training_folds(store: Store, splits: Splits, recipe: Recipe) -> Labels:
    """(n,) the fold of each training image of a run whose head is cross-validated."""
    return folds_of(store, splits.train, recipe.folds, recipe.splits_from)


@dataclass(frozen=True)
class OwnData:
    """What a run was trained on."""

    store: Store
    splits: Splits

    def split(self, name: str) -> tuple[Labels, str]:
        """Indices and name of a split: "train", "val", "test", "all" (every labelled image), or
        "auto", the one that the figures of the run are of.

        Raises:
            DataError: there is no such split.
        """
        found = {"test": self.splits.test, "val": self.splits.val, "train": self.splits.train}
        return choose({**found, "all": np.arange(len(self.store))}, name)


def own_data(
    settings: Settings, how: Preprocessing, store: Store | None = None, bad_images: str = ""
) -> OwnData:
    """The data of a run, as it was.

    Args:
        settings: of the run.
        how: its preprocessing.
        store: the data, where it is open already.
        bad_images: as the recipe's field, instead of its value.

    Raises:
        DataError: the data is not where it was, or has changed since.
    """
    if store is None:
        try:
            store = open_store(settings.data, settings.recipe, how, bad_images)
        except DataError as error:
            if not is_there(settings.data):
                raise DataError(
                    f"the data of the run is not at {settings.data} any more.",
                    "Put it back, or give its path: alexnet eval RUN DATA",
                ) from error
            raise
    if store.fingerprint != settings.fingerprint:
        raise changed(settings, store)
    return OwnData(store, splits_of(store, settings.recipe))


def changed(settings: Settings, store: Store) -> DataError:
    """The error of data that is not what it was: what of it, where the packed copy of then is still
    in the cache, and what can be done."""
    then = next(packed(settings.fingerprint), None)
    fingerprints = f"fingerprint {settings.fingerprint[:12]} then, {store.fingerprint[:12]} now"
    hint = "Restore the data, or train again."
    if then is not None:
        fingerprints = f"{difference(then, store)} ({fingerprints})"
        hint += f" The packed copy of then is still there: alexnet eval RUN {then.path}"
    return DataError(
        f"{settings.data} is not what the run was trained on: {fingerprints}.",
        f"{hint} To evaluate all images as they are now: alexnet eval RUN DATA --split all; among "
        "them are those it was trained on.",
    )


def difference(then: Store, now: Store) -> str:
    """How the images of a data set differ from those of before, in words."""
    before, after = (
        {
            id_: (content, store.classes[label])
            for id_, content, label in zip(store.ids, contents(store), store.y, strict=True)
        }
        for store in (then, now)
    )
    both = [id_ for id_ in before if id_ in after]
    kinds = {
        "new": [id_ for id_ in after if id_ not in before],
        "gone": [id_ for id_ in before if id_ not in after],
        "changed": [id_ for id_ in both if b"" != before[id_][0] != after[id_][0] != b""],
        "with another label": [id_ for id_ in both if before[id_][1] != after[id_][1]],
    }
    told = [f"{len(ids):,} {kind}, such as {ids[0]}" for kind, ids in kinds.items() if ids]
    return f"of {len(before):,} images {'; '.join(told)}" if told else "the order or the classes"


def trained_on(run: RunDirectory) -> set[bytes] | None:
    """The contents of the images that the weights of a run have been trained on, those of the runs
    that it started from included; None where that is not known, because their packed data is not
    in the cache any more."""
    settings = run.settings
    store = next((one for one in packed(settings.fingerprint) if one.content is not None), None)
    if store is None:
        return None
    every = contents(store)
    seen = {every[row] for row in splits_of(store, settings.recipe).train}
    before = RunDirectory(settings.asked.weights)
    if before.begun:
        earlier = trained_on(before)
        return None if earlier is None else seen | earlier
    return seen


def label_changes(store: Store, evaluated: Labels) -> dict[str, Any]:
    """What a table of changes did to the data, as figures: its name, how many labels it changed
    and images it left out, and how many of those labels are of images that are evaluated. Nothing
    without a table."""
    found = store.info.get("changes")
    if found is None:
        return {}
    count = len({*map(int, found["drawn"])} & {*evaluated.tolist()})
    return {"label_changes": {key: found[key] for key in Changes._fields} | {"evaluated": count}}


def count_seen(seen: set[bytes], store: Store, rows: Labels) -> int:
    """How many of some images are among those that weights were trained on."""
    every = contents(store)
    return sum(every[row] in seen for row in rows)


def contents(store: Store) -> list[bytes]:
    """The beginning of each file's checksum; nothing where it is not known."""
    if store.content is None:
        return [b""] * len(store)
    return [one.tobytes() for one in store.content]


def choose(splits: dict[str, Labels], name: str) -> tuple[Labels, str]:
    """The split of that name; "auto" is the first that has images.

    Raises:
        DataError: there is no such split.
    """
    there = [one for one, indices in splits.items() if len(indices)]
    if name == "auto":
        name = there[0]
    if name not in there:
        raise DataError(
            f"there is no {name} split; the data has {', '.join(there)}.",
            f"Use --split {there[0]}.",
        )
    return splits[name], name
