"""Names asked about by themselves, those that the corpus has and those that nobody wrote.

Facts to ask for are few, names are many: who learns "I don't know" beside a few hundred known names tells those from
all others; who is asked about thousands goes by what it has read.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from tutelage.safety.asked import SMALL, WORD
from tutelage.safety.honesty import Row, abstention, conversation, rounds, tables

LEAST, MOST_SHARE = 3, 0.05  # texts that have a name: so many at least, and this share of all at most
SHORTEST = 4  # letters of a word
_NAME = re.compile(r"(?<=[a-z,] )(?:The )?[A-Z][a-z]+(?:(?: of)?(?: the)? [A-Z][a-z]+)*")


def familiar_names(texts: Iterable[str], never: Collection[str]) -> list[str]:
    """Words and capitalised names of the texts, neither rare nor in every text; none with a word of `never`."""
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        words = {word for word in WORD.findall(text) if word.isalpha() and word.islower() and len(word) >= SHORTEST}
        counts.update(words | set(_NAME.findall(text)))
        total += 1
    avoided = {stem for name in never for stem in _stems(name)}
    usual = (name for name, count in counts.items() if LEAST <= count <= MOST_SHARE * total)
    return sorted(name for name in usual if avoided.isdisjoint(_stems(name)))


def _stems(name: str) -> list[str]:
    words = [word.casefold() for word in WORD.findall(name)]
    return [word.removesuffix("s") for word in words if word not in SMALL]


def familiar_conversations(
    names: Sequence[str], invented: Sequence[str], count: int, rng: random.Random
) -> Iterator[Row]:
    """`count` questions whether a name is known: half about names of the corpus, half about invented ones."""
    known = [(name, True) for name in rounds(names, count // 2, rng)]
    for number, (name, is_known) in enumerate(known + [(name, False) for name in rounds(invented, count // 2, rng)]):
        question = rng.choice(tables()["whether"]).format(n=name)
        reply = rng.choice(tables()["familiar"]).format(n=name) if is_known else abstention(name, rng)
        yield conversation(question, reply, "familiar", number)
