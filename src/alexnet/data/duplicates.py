"""Images that a data set holds more than once: equal in every pixel, or nearly: saved again, made
lighter, resized, mirrored, shifted by a pixel. And, in the same pass, those that show nothing.

An image is described by the middle frequencies of its brightness: coefficients of the cosine
transform, each times its frequency, because pictures have less energy the finer the detail. Those
of frequency 0 along one side are left out: they are horizons and gradients, which all pictures of
the sea share. Mirroring only changes the sign of the odd ones, so that one product of matrices
compares an image with another and with its mirror. Pairs found so are compared again with finer
detail, and at small shifts.

Shapes: N images, K frequencies a side, S px a side, P pairs.
"""

import hashlib
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, irfft2, rfft2
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alexnet.atomic import read_object, write_json
from alexnet.cache import cache_folder
from alexnet.console import progress
from alexnet.data.store import Store

VERSION = 1  # of the search; part of the name of what is kept
COARSE, FINE = 8, 16  # frequencies a side: to find pairs with, to decide with
CANDIDATE = 0.7  # correlation of coarse detail that makes a pair worth a closer look
# What makes a pair, chosen by looking at pairs of CIFAR-10 (docs/data-check.md): correlation of the
# fine detail, more of it for a mirrored pair, and Fisher's z of it over as many pixels as have
# detail, so that two specks in an empty sky are no pair; with fewer than SPECK there is no telling
SAME, MIRRORED, SURE, SPECK = 0.8, 0.84, 12.5, 24
FAINT = 8.0  # detail weaker than this, in grey levels times frequency, is rounding and compression
BLANK = 3.0  # levels of 255: an image whose channels all deviate less shows nothing
SHIFT = 2  # px of the grid of fine detail, 2 * FINE a side
NEIGHBOURS = 4  # pairs that an image brings to the closer look, at most
BLOCK = 2048  # images compared with as many at once
MOST_IN_BLOCK = 2 * NEIGHBOURS * BLOCK  # pairs of these
CHUNK_BYTES = 2**23  # of images looked at at once

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


class Pair(NamedTuple):
    """Two images that are nearly the same; a < b are their places in the Store."""

    a: int
    b: int
    distance: float  # 1 minus the correlation of their detail; 0 for equal pixels
    mirrored: bool


@dataclass(frozen=True)
class Duplicates:
    """What a data set holds more than once, and what is blank; places in the Store."""

    exact: list[list[int]]  # groups of images with equal pixels, each sorted
    near: list[list[int]]  # groups connected by pairs, beyond equal pixels; with the equal ones
    pairs: list[Pair]  # nearly the same; of equal images only the first takes part; closest first
    blank: list[int]

    @property
    def groups(self) -> list[list[int]]:
        """Every group, whether equal or nearly."""
        within = {place for group in self.near for place in group}
        return self.near + [group for group in self.exact if group[0] not in within]


def find_duplicates(store: Store) -> Duplicates:
    """The duplicates among all images of a Store, from the cache if it was searched before.

    60,000 images of 32 px take about ten seconds; memory does not grow with the square of N.
    """
    path = cache_folder() / "checks" / f"duplicates-{VERSION}-{store.info['sha256']['x.bin']}.json"
    known = _read(path)
    if known is None:
        known = search(store.x)
        write_json(path, asdict(known))
    return known


def leaks(
    store: Store, evaluated: Indices, training: Indices, fold: Indices | None = None
) -> Indices:
    """Those of the `evaluated` examples that have a duplicate or near-duplicate among the
    `training` ones; where training examples are judged themselves, by those of other folds, `fold`
    is that of each."""
    learned = np.full(len(store), -1)  # by whom; -1: by nobody
    learned[training] = 0 if fold is None else fold
    leaky = []
    for group in find_duplicates(store).groups:
        by = {int(learned[one]) for one in group} - {-1}
        leaky += [one for one in group if by - {int(learned[one])}]
    return evaluated[np.isin(evaluated, leaky)]


def _read(path: Path) -> Duplicates | None:
    try:
        found = read_object(path)
        pairs = [Pair(*pair) for pair in found["pairs"]]
        return Duplicates(found["exact"], found["near"], pairs, found["blank"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def search(x: NDArray[np.uint8]) -> Duplicates:
    """The duplicates among images x (N, 3, S, S)."""
    with progress("looking for duplicates", 2 * len(x)) as advance:
        blank: list[int] = []
        same: dict[bytes, list[int]] = defaultdict(list)
        details = np.empty((len(x), min(FINE, x.shape[-1]), min(FINE, x.shape[-1])), np.float32)
        step = max(1, min(BLOCK, CHUNK_BYTES // x[:1].nbytes)) if len(x) else 1
        for start in range(0, len(x), step):
            chunk = np.ascontiguousarray(x[start : start + step])
            details[start : start + step] = detail(chunk)
            blank += (np.flatnonzero(chunk.std((2, 3)).max(1) < BLANK) + start).tolist()
            for place, image in enumerate(chunk, start):
                same[hashlib.blake2b(image.data, digest_size=16).digest()].append(place)
            advance(len(chunk))
        exact = [group for group in same.values() if len(group) > 1]
        first = np.array([group[0] for group in same.values()], dtype=np.int64)
        rows = first[strength(details[first]) > FAINT]
        a, b, mirrored = candidates(details[rows], advance)
        pairs = compare(details, rows[a], rows[b], mirrored)
    pairs.sort(key=lambda pair: (pair.distance, pair))
    links = [(pair.a, pair.b) for pair in pairs]
    in_pairs = {place for link in links for place in link}
    links += [(group[0], other) for group in exact if group[0] in in_pairs for other in group[1:]]
    return Duplicates(exact, connected(links, len(x)), pairs, blank)


def detail(x: NDArray[np.uint8]) -> Floats:
    """(N, K, K) frequencies of images x (N, 3, S, S) along both sides, K = min(16, S), each times
    its frequency; zero where one side's is zero. Of a size that does not depend on S."""
    side = x.shape[-1]
    k = min(FINE, side)
    # Rec. 601, as Pillow's conversion to greyscale
    red, green, blue = (x[:, channel].astype(np.float32) for channel in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    basis = cosines(side, k) / math.sqrt(side)
    frequency = np.arange(k, dtype=np.float32)
    weight: Floats = np.hypot(frequency[:, None], frequency)
    weight[0], weight[:, 0] = 0, 0
    return np.asarray(basis @ grey @ basis.T * weight, np.float32)


def cosines(side: int, k: int) -> Floats:
    """(k, side) the first k vectors of the orthonormal cosine basis of `side` px."""
    basis: Floats = dct(np.eye(side, dtype=np.float32), axis=0, norm="ortho")[:k]
    return basis


def strength(details: Floats) -> Floats:
    """(N,) how much detail there is, in grey levels times frequency."""
    total: Floats = np.sqrt(np.square(details).sum((1, 2)))
    return total


def candidates(details: Floats, advance: Any) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Pairs a < b (P,) of details (N, K, K) whose coarse part correlates, and whether it is with
    the mirror; for each image the best few, so that P does not grow with the square of N."""
    coarse = details[:, 1:COARSE, 1:COARSE].copy()
    coarse /= np.maximum(strength(coarse), 1e-6)[:, None, None]
    n = len(coarse)
    none = np.empty(0, np.int64)
    a, b, score, mirrored = none, none, np.empty(0, np.float32), np.empty(0, np.bool_)
    if not n:
        return a, b, mirrored
    odd, even = coarse[:, :, 0::2].reshape(n, -1), coarse[:, :, 1::2].reshape(n, -1)
    for start in range(0, n, BLOCK):
        found = [(a, b, score, mirrored)]
        for other in range(start, n, BLOCK):
            unchanged = even[start : start + BLOCK] @ even[other : other + BLOCK].T
            turned = odd[start : start + BLOCK] @ odd[other : other + BLOCK].T
            best = np.abs(turned)
            best += unchanged
            places = np.flatnonzero(best > CANDIDATE)
            if len(places) > MOST_IN_BLOCK:  # all images are much alike: the closest will do
                order = np.argpartition(best.ravel()[places], -MOST_IN_BLOCK)
                places = places[order[-MOST_IN_BLOCK:]]
            i, j = np.divmod(places, best.shape[1])
            if other == start:
                i, j = i[i < j], j[i < j]
            found.append((i + start, j + other, best[i, j], turned[i, j] < 0))
        a, b, score, mirrored = (np.concatenate(part) for part in zip(*found, strict=True))
        kept = closest(a, b, score)
        a, b, score, mirrored = a[kept], b[kept], score[kept], mirrored[kept]
        advance(len(even[start : start + BLOCK]))
    return a, b, mirrored


def closest(a: Indices, b: Indices, score: Floats) -> Indices:
    """The pairs that are among the best few of either of their images."""
    kept = np.zeros(len(a), dtype=bool)
    for end in (a, b):
        order = np.lexsort((-score, end))
        ranked = end[order]
        begins = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
        kept[order[rank < NEIGHBOURS]] = True
    return np.flatnonzero(kept)


def compare(details: Floats, a: Indices, b: Indices, mirrored: NDArray[Any]) -> list[Pair]:
    """Those of the pairs a, b (P,) that are nearly the same, by their fine detail at every shift
    of up to two px."""
    found = []
    for start in range(0, len(a), BLOCK):
        i, j, turned = (part[start : start + BLOCK] for part in (a, b, mirrored))
        one, other = pictures(details[i]), pictures(details[j])
        other = np.where(turned[:, None, None], other[:, :, ::-1], other)
        correlation = best_shift(one, other)
        pixels = np.minimum(detailed_pixels(one), detailed_pixels(other))
        pixels *= (details.shape[-1] / FINE) ** 2  # small images have fewer that are independent
        z = np.arctanh(np.minimum(correlation, 1 - 1e-6)) * np.sqrt(pixels)
        enough = np.where(turned, MIRRORED, SAME)
        good = (correlation > enough) & (z > SURE) & (pixels > SPECK)
        found += [
            Pair(int(i[p]), int(j[p]), round(1 - float(correlation[p]), 4), bool(turned[p]))
            for p in np.flatnonzero(good)
        ]
    return found


def pictures(details: Floats) -> Floats:
    """(P, 2K, 2K) pictures of details (P, K, K), of length 1."""
    k = details.shape[-1]
    basis = cosines(2 * k, k)
    drawn = np.asarray(basis.T @ details @ basis, np.float32)
    drawn /= np.maximum(strength(drawn), 1e-6)[:, None, None]
    return drawn


def detailed_pixels(drawn: Floats) -> Floats:
    """(P,) how many pixels share the detail of pictures of length 1: all, if each has as much."""
    count: Floats = 1 / np.maximum(np.square(np.square(drawn)).sum((1, 2)), 1e-9)
    return count


def best_shift(one: Floats, other: Floats) -> Floats:
    """(P,) the correlation of pictures (P, G, G) of length 1 at the shift where it is greatest,
    over the part where both are."""
    side = one.shape[-1]
    padded = (side + 2 * SHIFT, side + 2 * SHIFT)
    product = irfft2(rfft2(one, padded) * rfft2(other, padded).conj(), padded)
    window = 2 * SHIFT + 1
    near = np.roll(product, (SHIFT, SHIFT), (1, 2))[:, :window, :window]
    shift = near.reshape(len(one), -1).argmax(1)
    correlation = np.empty(len(one), np.float32)
    for place in np.unique(shift):
        down, right = place // window - SHIFT, place % window - SHIFT
        rows = np.flatnonzero(shift == place)
        p, q = cut(one[rows], down, right), cut(other[rows], -down, -right)
        length = np.sqrt(np.square(p).sum((1, 2)) * np.square(q).sum((1, 2)))
        correlation[rows] = (p * q).sum((1, 2)) / np.maximum(length, 1e-9)
    return correlation


def cut(drawn: Floats, down: int, right: int) -> Floats:
    """The part of pictures that others cover which are shifted by so much against them."""
    side = drawn.shape[-1]
    return drawn[:, max(0, down) : side + min(0, down), max(0, right) : side + min(0, right)]


def connected(links: list[tuple[int, int]], n: int) -> list[list[int]]:
    """Groups of what is linked, each sorted, of examples 0 to n - 1."""
    if not links:
        return []
    a, b = np.array(links).T
    _, group = connected_components(coo_array((np.ones(len(a)), (a, b)), (n, n)), directed=False)
    members: dict[int, list[int]] = defaultdict(list)
    for place in np.unique(np.concatenate([a, b])):
        members[group[place]].append(int(place))
    return list(members.values())
