"""Exact and near duplicates: normalised hash; MinHash-LSH candidates verified by their true Jaccard similarity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tutelage.curation.words import Hashes, Words, combine, ngrams

SHINGLE = 5  # words
BANDS, ROWS = 14, 8  # FineWeb's; see catch_curve
ALGORITHM = f"rensa.RMinHash, {BANDS}x{ROWS}, words-1 {SHINGLE}-grams"
_SEED = 1

Pair = tuple[int, int, float]  # two documents (lower index first) and their Jaccard similarity


def catch_curve(bands: int = BANDS, rows: int = ROWS) -> dict[str, float]:
    """Probability that a pair becomes a candidate, by Jaccard similarity s: 1 − (1 − s^rows)^bands."""
    return {f"{s / 100:.2f}": round(1 - (1 - (s / 100) ** rows) ** bands, 4) for s in range(50, 100, 5)}


def shingles(words: Words) -> list[Hashes]:
    """The sorted distinct 5-gram hashes of every document; a document shorter than that is one shingle."""
    grams = ngrams(words, SHINGLE)
    bounds = np.searchsorted(grams.documents, np.arange(words.documents + 1))
    sets = []
    for document in range(words.documents):
        own = grams.hashes[bounds[document] : bounds[document + 1]]
        whole = words.of(document)
        sets.append(np.unique(own) if len(own) else combine(whole, max(len(whole), 1)))
    return sets


def jaccard(left: Hashes, right: Hashes) -> float:
    """Size of the intersection over size of the union, of two sorted sets."""
    both = len(np.intersect1d(left, right, assume_unique=True))
    return both / max(len(left) + len(right) - both, 1)


def exact_groups(words: Words) -> list[list[int]]:
    """Documents with the same normal words in the same order, in groups of two and more; empty ones are left alone."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for document in range(words.documents):
        if len(words.of(document)):
            groups[words.of(document).tobytes()].append(document)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(words: Words, threshold: float) -> list[Pair]:
    """Verified pairs with Jaccard ≥ threshold, exact duplicates among them (similarity 1), sorted."""
    groups = exact_groups(words)
    repeated = {document for group in groups for document in group[1:]}
    pairs = [(group[0], other, 1.0) for group in groups for other in group[1:]]
    single = [d for d in range(words.documents) if d not in repeated and len(words.of(d))]
    sets = shingles(words)
    for left, right in _candidates(single, [sets[d] for d in single]):
        small, large = sorted((len(sets[left]), len(sets[right])))
        if small < threshold * large:  # their similarity cannot reach it
            continue
        similarity = jaccard(sets[left], sets[right])
        if similarity >= threshold:
            pairs.append((left, right, round(similarity, 6)))
    return sorted(pairs)


def _candidates(documents: Sequence[int], sets: Sequence[Hashes]) -> list[tuple[int, int]]:
    if len(documents) < 2:
        return []
    from rensa import RMinHash

    flat = np.ascontiguousarray(np.concatenate(sets))
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in sets])]).astype(np.uint64)
    digests = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, BANDS * ROWS, _SEED)
    matrix: NDArray[np.uint32] = np.array(digests.to_rows(), dtype=np.uint32)
    found: set[tuple[int, int]] = set()
    places = np.array(documents, dtype=np.int64)
    for band in range(BANDS):
        columns = np.ascontiguousarray(matrix[:, band * ROWS : (band + 1) * ROWS])
        keys = columns.view(np.dtype((np.void, columns.itemsize * ROWS))).ravel()
        _, bucket, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        shared = np.flatnonzero(sizes[bucket] > 1)
        shared = shared[np.argsort(bucket[shared], kind="stable")]
        for group in np.split(shared, np.flatnonzero(np.diff(bucket[shared])) + 1):
            found.update(combinations(places[group].tolist(), 2))
    return sorted(found)


@dataclass(frozen=True)
class Age:
    """What the keep policies look at: length in characters, ISO date or nothing, content id, place in the input."""

    characters: int
    date: str | None
    id: str
    place: int


def clusters(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Connected components of two and more documents."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = [(left, right) for left, right, _ in pairs]
    if not edges:
        return []
    rows, columns = np.array(edges).T
    graph = coo_matrix((np.ones(len(edges), dtype=np.int8), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    members: dict[int, list[int]] = defaultdict(list)
    for document in sorted(set(rows.tolist()) | set(columns.tolist())):
        members[int(component[document])].append(document)
    return list(members.values())


def choose(members: Sequence[int], ages: Sequence[Age], policy: str) -> int:
    """The member to keep; ties go to the smaller content id, then to the earlier document."""
    tie = {d: (ages[d].id, ages[d].place) for d in members}
    if policy == "longest":
        return min(members, key=lambda d: (-ages[d].characters, *tie[d]))
    if policy == "oldest":
        return min(members, key=lambda d: (ages[d].date is None, ages[d].date or "", *tie[d]))
    if policy == "newest":
        newest = max((ages[d].date or "" for d in members), default="")
        return min(members, key=lambda d: ((ages[d].date or "") != newest, *tie[d]))
    assert policy == "first", policy
    return min(members)


def duplicates_of(
    kept: Sequence[bool], pairs: Sequence[Pair], ages: Sequence[Age], policy: str
) -> Mapping[int, tuple[int, float]]:
    """Document → (the one kept in its place, their similarity or the best of its chain), among those `kept` so far.

    Documents that another rule removes neither stand for others nor link them.
    """
    alive = _among(kept, pairs)
    best: dict[int, float] = defaultdict(float)
    direct = {}
    for left, right, similarity in alive:
        direct[left, right] = similarity
        best[left], best[right] = max(best[left], similarity), max(best[right], similarity)
    removed = {}
    for members in clusters(len(kept), alive):
        keeper = choose(members, ages, policy)
        for member in members:
            if member != keeper:
                edge = (min(member, keeper), max(member, keeper))
                removed[member] = (keeper, direct.get(edge, best[member]))
    return removed


def _among(kept: Sequence[bool], pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of kept documents; a kept one takes the place of an equal document that is removed."""
    same = clusters(len(kept), [pair for pair in pairs if pair[2] == 1.0])
    alive: set[Pair] = set()
    stand_in: dict[int, int] = {}
    for group in same:
        living = [document for document in group if kept[document]]
        alive.update((living[0], other, 1.0) for other in living[1:])
        stand_in.update((document, living[0]) for document in group if living)
    for left, right, similarity in pairs:
        one, two = sorted((stand_in.get(left, left), stand_in.get(right, right)))
        if one != two and kept[one] and kept[two]:
            alive.add((one, two, similarity))
    return sorted(alive)
