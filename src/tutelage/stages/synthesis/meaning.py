"""What is seen of meaning without a model: whether a passage has an answer, whether a rewriting says the same.

Both look at words: names, numbers and content words. A relation turned around ("the dog bit the man"), a negation, a
synonym or a pronoun they do not see.
"""

from __future__ import annotations

from typing import NamedTuple

from tutelage.stages.synthesis.text import content_words, names, numbers, sentences, share_in


class Support(NamedTuple):
    """How far an answer stands in a passage, and the sentence that says so best.

    `words`: share of its content words that passage or question have; `new`: how many of the evidence's words it adds
    to the question; `strange`: its names and numbers that are in neither.
    """

    words: float
    new: int
    strange: tuple[str, ...]
    evidence: str


def support(passage: str, question: str, answer: str) -> Support:
    """Look for the answer in the passage."""
    known = set(content_words(passage)) | set(content_words(question))
    said = content_words(answer)
    strange = sorted((names(answer) - known) | (numbers(answer) - numbers(passage) - numbers(question)))
    asked = set(content_words(question))
    every = sentences(passage) or [passage]
    place = max(range(len(every)), key=lambda one: _overlap(every[one], question, answer))
    new = (set(said) - asked) & set(content_words(every[place]))
    # a short answer beside its question ("Who wrote it? Anna.") needs the sentence before it
    first = place if set(content_words(every[place])) & asked or not place else place - 1
    return Support(share_in(said, known), len(new), tuple(strange), " ".join(every[first : place + 1]))


def _overlap(sentence: str, question: str, answer: str) -> tuple[int, int]:
    """What the sentence has of the answer that is not in the question, then what it has of the question."""
    own, asked, said = set(content_words(sentence)), set(content_words(question)), set(content_words(answer))
    return len(own & (said - asked)), len(own & asked)


def about(passage: str, question: str) -> tuple[str, ...]:
    """Names and numbers of a question that its passage does not have."""
    return tuple(sorted((names(question) - set(content_words(passage))) | (numbers(question) - numbers(passage))))


def agreement(question: str, first: str, second: str) -> float:
    """F1 of the content words that two answers add to the question; of all their words if they add none."""
    asked = set(content_words(question))
    one, two = set(content_words(first)), set(content_words(second))
    one, two = one - asked or one, two - asked or two
    return 2 * len(one & two) / max(len(one) + len(two), 1)


class Sameness(NamedTuple):
    """How far a rewriting says what the text says.

    `lost`, `added`: names and numbers that only one of them has; `kept`: share of the text's content words that the
    rewriting has; `own`: share of the rewriting's that are the text's.
    """

    lost: tuple[str, ...]
    added: tuple[str, ...]
    kept: float
    own: float


def sameness(text: str, rewriting: str) -> Sameness:
    """Compare a text with its rewriting, both ways."""
    before, after = content_words(text), content_words(rewriting)
    lost = (names(text) - set(after)) | (numbers(text) - numbers(rewriting))
    added = (names(rewriting) - set(before)) | (numbers(rewriting) - numbers(text))
    return Sameness(tuple(sorted(lost)), tuple(sorted(added)), share_in(before, after), share_in(after, before))
