"""Paths and examples in columns are what lists of them would be, in a fraction of the memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import class_folders

from alexnet.data import listing
from alexnet.data.finding import listed
from alexnet.data.listing import SPLITS, Example, Examples, Paths

# what Python makes of names of files that are no text has lone surrogates in it
TEXTS = st.text(st.characters(), max_size=8) | st.just("\udc80\udcff")
EXAMPLES = st.lists(
    st.builds(
        Example,
        st.sampled_from(SPLITS),
        st.integers(0, 5),
        TEXTS,
        st.sampled_from(["", "one", "two"]) | TEXTS,
        st.integers(-1, 5),
    )
)


@pytest.fixture(params=[3, listing.RUN])
def run(request, monkeypatch):
    """Sorted so many at a time."""
    monkeypatch.setattr(listing, "RUN", request.param)


@pytest.mark.usefixtures("run")
@given(st.lists(TEXTS), st.integers(-12, 12), st.slices(8))
def test_paths_are_a_list(texts, place, piece):
    paths = Paths(texts)
    assert paths == texts and [*paths] == texts and len(paths) == len(texts)
    assert paths == Paths(texts) and paths != [*texts, "x"] and repr(paths) == repr(texts)
    assert paths[piece] == texts[piece]
    assert [texts[place] for place in paths.order()] == sorted(texts)
    assert [*paths.order()] == sorted(range(len(texts)), key=texts.__getitem__)  # stable
    if -len(texts) <= place < len(texts):
        assert paths[place] == texts[place] == paths[np.int64(place)]
    else:
        with pytest.raises(IndexError):
            paths[place]


@pytest.mark.usefixtures("run")
@given(EXAMPLES)
def test_examples_are_a_list(made):
    examples = Examples(made)
    assert (
        examples == made and [*examples] == made and [examples[n] for n in range(len(made))] == made
    )
    assert examples.splits == [split for split in SPLITS if any(one.split == split for one in made)]
    assert examples.labels.tolist() == [one.label for one in made]
    assert [*examples.ids] == [one.id for one in made]
    assert examples.groups in ([one.group for one in made], [])
    assert bool(examples.groups) == any(one.group for one in made)
    for split in SPLITS:
        of_split = [place for place, one in enumerate(made) if one.split == split]
        assert examples.places_of(split).tolist() == of_split
        assert examples.take(of_split) == [made[place] for place in of_split]
    labels = [3, 1, 4, 0, 5, 2]
    again = [one._replace(label=labels[one.label]) for one in made]
    again.sort(key=lambda one: (SPLITS.index(one.split), one.label, one.id))
    assert examples.sorted(labels) == again
    first: dict[str, int] = {}
    repeated = [
        (place, first[one.id])
        for place, one in enumerate(made)
        if first.setdefault(one.id, place) != place
    ]
    assert examples.repeated() == repeated


def test_a_listing_of_many_files_is_small(tmp_path):
    """An image more costs its path three times at most, and a few numbers."""
    kept = {}
    for count in (200, 1200):
        folder = class_folders(tmp_path / str(count), {"a": 1, "b": 1}, (8, 8))
        for number in range(count):
            (folder / f"{'ab'[number % 2]}/{number:016}.jpg").touch()
        listed(folder)  # what is imported for it is no part of it
        tracemalloc.start()
        source = listed(folder)
        kept[count] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(source.examples) == count + 2
    assert (kept[1200] - kept[200]) / 1000 < 100
