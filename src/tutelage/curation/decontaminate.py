"""Documents that hold an evaluation item: by shared 13-grams, or for short items the question with its answer after it.

Items are looked up by the hash of their words, so the cost is that of a few passes over the documents, whatever the
number of items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.curation.words import Hashes, Indices, Ngrams, WordHasher, Words, combine, ngrams, normal_words

LONG = 13  # words; Brown et al. 2020, appendix C
ANSWER_WITHIN = 12  # words after a short question


@dataclass(frozen=True)
class Item:
    """An evaluation item that no training document may contain."""

    id: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Contamination:
    """Document → its first contaminating item; item → how many documents hold it; items too short to look for."""

    documents: dict[int, str]
    items: dict[str, int]
    unsearchable: tuple[str, ...]


def items_from_tasks(rows: Sequence[Mapping[str, object]]) -> list[Item]:
    """The rows of a tasks.jsonl with `meta.decontaminate` true; of `messages`, what the user says is the question."""
    items = []
    for row in rows:
        meta = row.get("meta")
        if not isinstance(meta, Mapping) or meta.get("decontaminate") is not True:
            continue
        prompt = row.get("prompt")
        messages = row.get("messages")
        if not isinstance(prompt, str):
            turns = messages if isinstance(messages, list) else []
            prompt = "\n".join(str(turn["content"]) for turn in turns if turn.get("role") == "user")
        items.append(Item(str(row["id"]), prompt, str(row.get("answer") or "")))
    return items


def find_contamination(words: Words, items: Sequence[Item], hasher: WordHasher) -> Contamination:
    """Look for every item in every document."""
    hits: dict[int, set[str]] = defaultdict(set)
    long: dict[int, list[str]] = defaultdict(list)
    short: dict[int, dict[int, list[tuple[str, Hashes]]]] = defaultdict(lambda: defaultdict(list))
    unsearchable = []
    for item in items:
        question, answer = normal_words(item.prompt), normal_words(item.answer)
        if len(question) + len(answer) >= LONG:
            for gram in np.unique(combine(hasher.hashes(question + answer), LONG)).tolist():
                long[gram].append(item.id)
        elif question and answer:
            key = int(combine(hasher.hashes(question), len(question))[0])
            short[len(question)][key].append((item.id, hasher.hashes(answer)))
        else:
            unsearchable.append(item.id)
    if long:
        grams = ngrams(words, LONG)
        for place in _places(grams, long):
            hits[int(grams.documents[place])].update(long[int(grams.hashes[place])])
    for length, questions in sorted(short.items()):
        grams = ngrams(words, length)
        for place in _places(grams, questions):
            document = int(grams.documents[place])
            begin = int(grams.starts[place]) + length
            after = words.hashes[begin : min(begin + ANSWER_WITHIN, int(words.offsets[document + 1]))]
            found = [name for name, answer in questions[int(grams.hashes[place])] if _contains(after, answer)]
            hits[document].update(found)
    counts = dict.fromkeys((item.id for item in items), 0)
    for names in hits.values():
        for name in names:
            counts[name] += 1
    return Contamination({d: min(hits[d]) for d in sorted(hits) if hits[d]}, counts, tuple(unsearchable))


def _places(grams: Ngrams, wanted: Mapping[int, object]) -> list[int]:
    keys = np.fromiter(wanted, dtype=np.uint64, count=len(wanted))
    places: Indices = np.flatnonzero(np.isin(grams.hashes, keys))
    return [int(place) for place in places]


def _contains(words: Hashes, answer: Hashes) -> bool:
    """Whether `answer` occurs in `words` as consecutive words."""
    size = len(answer)
    return any(np.array_equal(words[i : i + size], answer) for i in range(len(words) - size + 1))
