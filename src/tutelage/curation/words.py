"""The word splitter, part of every rule: a different splitter gives different decisions at the same thresholds.

`plain` words are whitespace-separated (Gopher's counts); `normal` words are runs of letters and digits of the
lower-cased text (repetition, duplicates and decontamination). All word work on n-grams is done on 64-bit hashes
of the normal words of many documents at once, so that no Python loop runs over tokens.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

WORD = re.compile(r"\w+")
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd and irrational-looking: multiplication by it is a bijection of 64-bit words


def normal_words(text: str) -> list[str]:
    """The runs of letters, digits and underscores of `text`, lower-cased."""
    return WORD.findall(text.lower())


def text_digest(text: str) -> str:
    """Sixteen hexadecimal digits of SHA-256: the id of a document with this text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass
class WordHasher:
    """Words to stable 64-bit hashes; each distinct word is hashed once."""

    known: dict[str, int] = field(default_factory=dict)

    def hashes(self, words: Sequence[str]) -> Hashes:
        """One hash a word; the same on every machine."""
        known = self.known
        for word in set(words).difference(known):
            digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            known[word] = int.from_bytes(digest, "little")
        return np.fromiter(map(known.__getitem__, words), dtype=np.uint64, count=len(words))


@dataclass(frozen=True)
class Words:
    """Normal words of D documents, flat: document d owns the positions `offsets[d]:offsets[d + 1]`."""

    hashes: Hashes  # [N]
    lengths: Indices  # [N] characters
    offsets: Indices  # [D + 1]

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self.offsets) - 1

    def of(self, document: int) -> Hashes:
        """The word hashes of one document."""
        return self.hashes[self.offsets[document] : self.offsets[document + 1]]


def split_words(texts: Sequence[str], hasher: WordHasher) -> Words:
    """Split and hash many documents."""
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    hashes: list[Hashes] = [np.empty(0, dtype=np.uint64)]
    lengths: list[Indices] = [np.empty(0, dtype=np.int64)]
    for index, text in enumerate(texts):
        words = normal_words(text)
        hashes.append(hasher.hashes(words))
        lengths.append(np.fromiter(map(len, words), dtype=np.int64, count=len(words)))
        offsets[index + 1] = offsets[index] + len(words)
    return Words(np.concatenate(hashes), np.concatenate(lengths), offsets)


@dataclass(frozen=True)
class Ngrams:
    """Every n-gram of every document, in order of place; none crosses a document's end."""

    n: int
    hashes: Hashes  # [M]
    starts: Indices  # [M] position of the first word in the flat array
    documents: Indices  # [M]


def combine(hashes: Hashes, n: int) -> Hashes:
    """Rolling polynomial hash (mod 2^64) of every window of n words, [N - n + 1]."""
    if len(hashes) < n:
        return np.empty(0, dtype=np.uint64)
    windows = len(hashes) - n + 1
    total = np.zeros(windows, dtype=np.uint64)
    multiplier = np.uint64(_MULTIPLIER)
    for place in range(n):
        total = total * multiplier + hashes[place : place + windows]
    return total ^ (total >> np.uint64(29))


def ngrams(words: Words, n: int) -> Ngrams:
    """The n-grams of every document of `words`."""
    hashes = combine(words.hashes, n)
    starts = np.arange(len(hashes), dtype=np.int64)
    documents = np.searchsorted(words.offsets, starts, side="right") - 1
    inside = starts + n <= words.offsets[documents + 1]
    return Ngrams(n, hashes[inside], starts[inside], documents[inside])
