"""Long alternations that Python's `re` searches quickly."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable


def literal(words: Iterable[str]) -> str:
    """A pattern for any of `words`, longest first."""
    return grouped(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


def grouped(patterns: Iterable[str]) -> str:
    """`a|b|c` arranged by first letter, so that at each place only those that can match are tried."""
    by_letter: dict[str, list[str]] = defaultdict(list)
    for pattern in patterns:
        by_letter[pattern[0] if pattern[0].isalpha() else ""].append(pattern)
    parts = []
    for letter, group in by_letter.items():
        tails = "|".join(pattern[len(letter) :] for pattern in group)
        parts.append(f"{letter}(?:{tails})")
    return "|".join(parts)
