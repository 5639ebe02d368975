"""Sentences, and the words, names and numbers that carry their meaning: what checks without a model can see."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tutelage.curation.words import normal_words

_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*(?:[.!?]+[\"'”’)]*|\n|$)")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:[.,]\d+)*(?!\w)")
_NAME = re.compile(r"(?<!^)(?<![.!?:]\s)(?<![.!?:][\"'”]\s)(?<![\"“\n])\b[A-ZÀ-Þ][\w'’-]*")
_CONTRACTED = re.compile(r"(?<=\w)['’](?:s|t|re|ll|ve|d|m)\b", re.IGNORECASE)
# Words that many texts share whatever they are about; whatever is left carries the meaning.
_FUNCTION_WORDS = (
    "a about after all also an and any are as at be because been before but by can could did do does for from get give "
    "had has have he her here him his how i if in into is it its just like made make many may me more most much my no "
    "not of on one or our out over said say says she so some tell than that the their them then there these they "
    "this those to too up us very was we were what when where which who whom whose why will with would you your"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def sentences(text: str) -> list[str]:
    """The sentences of a text, line breaks ending them too."""
    return [found for match in _SENTENCE.finditer(text) if (found := match.group().strip())]


def content_words(text: str) -> list[str]:
    """Normal words without function words, a plural's ending taken off, in order."""
    return [_stem(word) for word in normal_words(_CONTRACTED.sub("", text)) if word not in FUNCTION_WORDS]


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def names(text: str) -> set[str]:
    """Capitalised words that no sentence begins with, in normal form: people, places, titles."""
    found = _NAME.findall(_CONTRACTED.sub("", text))
    return {_stem(word) for name in found for word in normal_words(name)} - FUNCTION_WORDS


def numbers(text: str) -> set[str]:
    """The numbers of a text, `1,200` as `1200`."""
    return {re.sub(r",(?=\d{3}\b)", "", found) for found in _NUMBER.findall(text)}


def share_in(words: Sequence[str] | set[str], others: Sequence[str] | set[str]) -> float:
    """How many of the different words are among the others; 1 for none."""
    found, wanted = set(others), set(words)
    return len(wanted & found) / len(wanted) if wanted else 1.0


def rouge_l(left: Sequence[str], right: Sequence[str]) -> float:
    """ROUGE-L: the F1 of the longest common subsequence of words (Lin 2004)."""
    if not left or not right:
        return 0.0
    row = [0] * (len(right) + 1)
    for word in left:
        before = 0
        for place, other in enumerate(right, start=1):
            before, row[place] = row[place], before + 1 if word == other else max(row[place], row[place - 1])
    return 2 * row[-1] / (len(left) + len(right))


def windows(text: str, max_words: int) -> Iterator[str]:
    """Whole sentences gathered up to `max_words`; a longer sentence stands alone."""
    held: list[str] = []
    size = 0
    for sentence in sentences(text):
        words = len(sentence.split())
        if held and size + words > max_words:
            yield " ".join(held)
            held, size = [], 0
        held.append(sentence)
        size += words
    if held:
        yield " ".join(held)
