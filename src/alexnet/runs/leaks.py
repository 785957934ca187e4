"""Evaluated images that were learned from, or of which a copy was: how many there are, and what the
figure is without them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.console import warn
from alexnet.data.datasets import packed
from alexnet.data.store import Store
from alexnet.runs.directory import RunDirectory
from alexnet.runs.own_data import count_seen, splits_of, trained_on
from alexnet.scoring.metrics import Labels, leak_free

# images among which copies are looked for where nobody did before, in some seconds; and the bytes
# of those that are brought together for that
SEARCHED, TOGETHER = 20_000, 2**29


def learned_before(
    run: RunDirectory,
    store: Store,
    indices: Labels,
    split: str,
    hits: NDArray[np.bool_],
    other: bool,
) -> dict[str, Any]:
    """How many of the evaluated images, or copies of them, were learned from, as figures; says so.
    `other` says whether data was given that may not be the run's own."""
    own = store.fingerprint == run.settings.fingerprint
    leaked = leaked_of(run, store, indices, split) if own else copied_from(run, store, indices)
    figures = leak_figures(hits, leaked) if leaked.any() else {}
    seen = trained_on(run) if other and split != "train" else None
    count = count_seen(seen, store, indices) if seen else 0
    if count:
        figures["seen_in_training"] = count
        warn(f"{count:,} of these {len(indices):,} images are images that the run was trained on")
    if leaked.sum() > count:
        drawn = own and "all" in store.info["splits"]
        warn(told_leaks({"n": len(indices), **figures}, drawn))
    return figures


def leaked_of(run: RunDirectory, store: Store, indices: Labels, split: str) -> NDArray[np.bool_]:
    """(N,) which images of a split of a run's own have a copy, equal or nearly, among those that it
    learned from: as its report says, or where images are few, as is looked for now."""
    settings, known = run.settings, run.data_state().get("leaks")
    if isinstance(known, list) and split == run.metrics()["split"]:  # read with distrust
        return np.isin([store.ids[place] for place in indices], list(map(str, known)))
    if split not in ("val", "test") or len(store) > SEARCHED:
        return np.zeros(len(indices), bool)
    from alexnet.data.duplicates import leaks  # SciPy

    return np.isin(indices, leaks(store, indices, splits_of(store, settings.recipe).train))


def copied_from(run: RunDirectory, store: Store, indices: Labels) -> NDArray[np.bool_]:
    """(N,) the same of images of other data, where both are few, and what was learned from is in
    the cache yet."""
    settings = run.settings
    own = next(packed(settings.fingerprint), None)
    learned = splits_of(own, settings.recipe).train if own else indices
    count, pixels = len(learned) + len(indices), store.x.shape[1:]
    if not own or own.x.shape[1:] != pixels or count > min(SEARCHED, TOGETHER // math.prod(pixels)):
        return np.zeros(len(indices), bool)
    from alexnet.data.duplicates import search  # SciPy

    both = np.concatenate([own.x[learned], store.x[indices]])
    groups = [np.array(one) - len(learned) for one in search(both).groups]
    found = [one[one >= 0] for one in groups if (one < 0).any()]
    return np.isin(np.arange(len(indices)), np.concatenate([np.empty(0, np.int64), *found]))


def leak_figures(hits: NDArray[np.bool_], leaked: NDArray[np.bool_]) -> dict[str, Any]:
    """Figures of images (N,) of which some have a copy among those that were learned from."""
    found = leak_free(hits, leaked)
    return {"leaks": int(leaked.sum())} | ({"without_leaks": found} if found else {})


def told_leaks(figures: Mapping[str, Any], drawn: bool) -> str:
    """What is to be said of evaluated images that were learned from, nearly; `drawn` says whether
    the split was drawn."""
    told = (
        f"{figures['leaks']:,} of these {figures['n']:,} images have a duplicate or near-duplicate "
        "among those that it learned from: "
    )
    hint = " --group copies keeps such images on one side." if drawn else ""
    if found := figures.get("without_leaks"):
        low, high = found["top1_interval"]
        told += (
            f"of the other {found['n']:,} it finds {found['top1']:.2%} ({low:.2%} to {high:.2%})."
        )
    else:
        told += "the figure says nothing of new ones."
    return told + hint
