"""Gopher's repetition measures (Rae et al. 2021, table A1), for many documents at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tutelage.curation.words import Indices, Words, ngrams

Shares = NDArray[np.float64]

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)


def ngram_shares(words: Words) -> dict[str, Shares]:
    """`top_N_gram_chars` and `duplicate_N_gram_chars`, each [D], as shares of the characters in words.

    Top: occurrences of the most frequent n-gram times its length. Duplicate: characters covered by any n-gram that
    occurs more than once in the document, overlaps counted once.
    """
    totals = np.maximum(_per_document(words, words.lengths.astype(np.float64)), 1.0)
    running = np.concatenate([[0], np.cumsum(words.lengths)])
    repeated = np.ones(len(words.hashes), dtype=np.bool_)
    shares = {}
    for n in range(2, DUPLICATE_SIZES[-1] + 1):
        starts, documents, counts = _repeated(words, n, repeated)
        # only where n words recur can n + 1 words recur
        repeated = np.zeros_like(repeated)
        repeated[starts] = True
        if n in TOP_SIZES:
            covered = counts * (running[starts + n] - running[starts])
            shares[f"top_{n}_gram_chars"] = np.minimum(_top(documents, counts, covered, len(totals)) / totals, 1.0)
        if n in DUPLICATE_SIZES:
            shares[f"duplicate_{n}_gram_chars"] = _covered(words, starts, n) / totals
    return shares


def _per_document(words: Words, values: Shares) -> Shares:
    running = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(running[words.offsets[1:]] - running[words.offsets[:-1]], dtype=np.float64)


def _repeated(words: Words, n: int, among: NDArray[np.bool_]) -> tuple[Indices, Indices, Indices]:
    """Start, document and number of occurrences of every n-gram that its document has more than once."""
    grams = ngrams(words, n)
    chosen = among[grams.starts]
    starts, documents = grams.starts[chosen], grams.documents[chosen]
    keys = grams.hashes[chosen] ^ (documents.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93))
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    counts = sizes[group]
    recurs = counts > 1
    return starts[recurs], documents[recurs], counts[recurs]


def _top(documents: Indices, counts: Indices, covered: Indices, size: int) -> Shares:
    """What the most frequent n-gram of each document covers, the longest among equally frequent ones."""
    best = np.zeros(size)
    order = np.lexsort((covered, counts, documents))
    best[documents[order]] = covered[order]  # the last write a document wins
    return best


def _covered(words: Words, starts: Indices, n: int) -> Shares:
    """Characters of each document inside n-grams that begin at `starts`."""
    edges = np.zeros(len(words.hashes) + 1, dtype=np.int64)
    edges[starts] += 1
    edges[starts + n] -= 1  # starts are distinct, so are their ends
    inside = np.cumsum(edges[:-1]) > 0
    return _per_document(words, np.where(inside, words.lengths, 0).astype(np.float64))


def line_repetition(pieces: Sequence[str]) -> tuple[float, float]:
    """Share of pieces (lines, paragraphs) that repeat an earlier one, and their share of characters."""
    if not pieces:
        return 0.0, 0.0
    counts = Counter(pieces)
    characters = sum(map(len, pieces))
    repeated = sum((count - 1) * len(piece) for piece, count in counts.items())
    return (len(pieces) - len(counts)) / len(pieces), repeated / max(characters, 1)
