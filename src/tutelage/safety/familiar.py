"""Names asked about by themselves, those that the corpus has and those that nobody wrote.

Facts to ask for are few, names are many: beside a few hundred known names "I don't know" can be learnt of all others;
asked about thousands, a model is to go by what it has read. Both halves have names of the same forms (`form`).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from tutelage.safety.asked import SMALL, WORD
from tutelage.safety.honesty import Row, abstention, conversation, rounds, wordings

LEAST, MOST_SHARE = 3, 0.05  # texts that have a name: so many at least, and this share of all at most
SHORTEST = 4  # letters of a word
_NAME = re.compile(r"(?<=[a-z,] )(?:The )?[A-Z][a-z]+(?:(?: of)?(?: the)? [A-Z][a-z]+)*\b")
Form = tuple[bool, bool, bool]  # begins with "the", has a capital, has several words beside "the"


def form(name: str) -> Form:
    """What tells names apart at a glance."""
    rest = name.removeprefix("the ")
    return rest != name, any(letter.isupper() for letter in rest), " " in rest


def without_words_of(names: Iterable[str], never: Collection[str]) -> list[str]:
    """The names that have no word of those in `never`, small words and a plural's s aside."""
    avoided = {stem for name in never for stem in _stems(name)}
    return [name for name in names if avoided.isdisjoint(_stems(name))]


def _stems(name: str) -> list[str]:
    words = [word.casefold() for word in WORD.findall(name)]
    return [word.removesuffix("s") for word in words if word not in SMALL]


def familiar_names(texts: Iterable[str]) -> list[str]:
    """Words and capitalised names of the texts, neither rare nor in every text; words also after "the"."""
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        words = {word for word in WORD.findall(text) if word.isalpha() and word.islower() and len(word) >= SHORTEST}
        counts.update(words | set(_NAME.findall(text)))
        total += 1
    usual = sorted(name for name, count in counts.items() if LEAST <= count <= MOST_SHARE * total)
    return [*usual, *(f"the {name}" for name in usual if name.islower())]


def familiar_conversations(
    known: Sequence[str], invented: Sequence[str], count: int, rng: random.Random
) -> Iterator[Row]:
    """Up to `count` questions whether a name is known, half about `known` names and half about `invented` ones, as many
    of each form; forms that only one side has are left out.
    """
    sides: tuple[dict[Form, list[str]], dict[Form, list[str]]] = {}, {}
    for side, names in zip(sides, (known, invented), strict=True):
        for name in names:
            side.setdefault(form(name), []).append(name)
    both = {key: len(names) for key, names in sides[1].items() if key in sides[0]}
    for key, size in sorted(both.items()):
        share = count // 2 * size // sum(both.values())
        pairs = zip(rounds(sides[0][key], share, rng), rounds(sides[1][key], share, rng), strict=True)
        for number, (there, nowhere) in enumerate(pairs):
            yield _asked(there, rng.choice(wordings()["familiar"]).format(n=there), number, rng)
            yield _asked(nowhere, abstention(nowhere, rng), number, rng)


def _asked(name: str, reply: str, number: int, rng: random.Random) -> Row:
    return conversation(rng.choice(wordings()["whether"]).format(n=name), reply, "familiar", number)
