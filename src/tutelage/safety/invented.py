"""Names that look like real ones and are in no text: words by a chain over letters (Shannon, 1948), and real words put
together anew.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tutelage.safety.asked import SMALL, WORD

ORDER = 2  # letters that the next one depends on


@dataclass(frozen=True)
class Invented:
    """A name that nothing has, and how it was made: `made_up` or `recombined`."""

    name: str
    kind: str


class Inventor:
    """Invents names after the pattern of real ones: none twice, and none that is real."""

    def __init__(self, real: Sequence[str], recombined_share: float, rng: random.Random) -> None:
        self.real, self.share, self.rng = sorted(set(real)), recombined_share, rng
        self.words = sorted({word for name in self.real for word in _content(name)})
        self._next: dict[str, list[str]] = {}
        for word in self.words:
            text = "^" * ORDER + word.casefold() + "$"
            for place in range(ORDER, len(text)):
                self._next.setdefault(text[place - ORDER : place], []).append(text[place])
        lengths = [len(word) for word in self.words]
        self._shortest, self._longest = max(3, min(lengths, default=3)), max(lengths, default=8)
        self._known = {word.casefold() for word in self.words}

    def names(self, count: int) -> list[Invented]:
        """Up to `count` different names; fewer where the pattern does not give so many."""
        found: dict[str, Invented] = {}
        real = {name.casefold() for name in self.real}
        for _ in range(20 * count):
            if len(found) == count:
                break
            invented = self._name(self.rng.choice(self.real))
            if invented is not None and invented.name.casefold() not in real:
                found.setdefault(invented.name.casefold(), invented)
        return list(found.values())

    def _name(self, pattern: str) -> Invented | None:
        content = _content(pattern)
        if len(content) > 1 and self.rng.random() < self.share:
            return Invented(self._filled(pattern, [self.rng.choice(self.words) for _ in content]), "recombined")
        made = [word for _ in content if (word := self._word())]
        if not content or len(made) < len(content):
            return None
        if len(content) > 1 and self.rng.random() < 0.5:  # one word of several may be real
            kept = self.rng.randrange(len(content))
            made[kept] = content[kept]
        return Invented(self._filled(pattern, made), "made_up")

    def _filled(self, pattern: str, words: Sequence[str]) -> str:
        """The pattern with other words, as large or small as its own."""
        new = iter(words)

        def put(match: re.Match[str]) -> str:
            if match[0].casefold() in SMALL:
                return match[0]
            word = next(new)
            return word[:1].upper() + word[1:] if match[0][0].isupper() else word.casefold()

        return WORD.sub(put, pattern)

    def _word(self) -> str | None:
        """A word that the real names do not have, of a length that they have."""
        for _ in range(50):
            text = "^" * ORDER
            while not text.endswith("$") and len(text) <= ORDER + self._longest + 1:
                text += self.rng.choice(self._next[text[-ORDER:]])
            word = text[ORDER:-1]
            if text.endswith("$") and len(word) >= self._shortest and word not in self._known:
                return word
        return None


def _content(name: str) -> list[str]:
    return [word for word in WORD.findall(name) if word.casefold() not in SMALL]


def occurring(names: Iterable[str], texts: Iterable[str]) -> set[str]:
    """Those of the names that a text has, word by word, whatever the case, also without a plural's s; one pass."""
    wanted: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        words = tuple(_words(name))
        for form in {words, (*words[:-1], words[-1].removesuffix("s"))}:
            wanted.setdefault(form, set()).add(name)
    lengths = sorted({len(form) for form in wanted})
    found: set[str] = set()
    for text in texts:
        words_of_text = list(_words(text))
        for length in lengths:
            for place in range(len(words_of_text) - length + 1):
                found |= wanted.get(tuple(words_of_text[place : place + length]), set())
    return found


def _words(text: str) -> Iterator[str]:
    """Words in lower case; a hyphen parts them."""
    return (match[0].casefold() for match in re.finditer(r"\w+", text))
