"""What the rows that are kept are like, measured apart from the filters that chose them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from tutelage.curation.words import normal_words
from tutelage.stages.synthesis.drafts import Draft
from tutelage.stages.synthesis.meaning import agreement
from tutelage.stages.synthesis.questions import AGREES
from tutelage.stages.synthesis.studio import Studio
from tutelage.stages.synthesis.text import content_words

MOST = 1000  # rows that are compared each with each
ANOTHER = 0.8  # Jaccard similarity of content words from which two texts ask the same


def diversity(texts: Sequence[str], ordered: bool = False) -> dict[str, float]:
    """Distinct-1 and distinct-2 (Li et al., arXiv 1510.03055), the mean similarity of each text to its nearest, and
    the share that is like no text before it. Similarity: Jaccard of content words, or if `ordered` of word triples.
    """
    words = [normal_words(text) for text in texts]
    measured = {}
    for n in (1, 2):
        grams = list(chain.from_iterable(zip(*(one[start:] for start in range(n)), strict=False) for one in words))
        measured[f"diversity/distinct_{n}"] = len(set(grams)) / max(len(grams), 1)
    sets: list[set[Any]] = [
        set(zip(one, one[1:], one[2:], strict=False)) if ordered else set(content_words(text))
        for one, text in zip(words[:MOST], texts, strict=False)
    ]
    nearest = [0.0] * len(sets)
    before = [0.0] * len(sets)
    for right, one in enumerate(sets):
        for left in range(right):
            both = len(one & sets[left])
            similarity = both / max(len(one) + len(sets[left]) - both, 1)
            before[right] = max(before[right], similarity)
            nearest[left] = max(nearest[left], similarity)
            nearest[right] = max(nearest[right], similarity)
    measured["diversity/nearest"] = sum(nearest) / max(len(nearest), 1)
    measured["distinct/share"] = sum(value < ANOTHER for value in before) / max(len(before), 1)
    return measured


def answerable(drafts: Sequence[Draft], studio: Studio) -> dict[str, float]:
    """The share of questions to which the answerer, shown the sentence of evidence alone, says what the row says."""
    checked = [Draft(draft.id, draft.parent, draft.seed, key=draft.key) for draft in drafts]
    jobs = [
        (copy, {"passage": draft.evidence, "question": draft.key}) for copy, draft in zip(checked, drafts, strict=True)
    ]
    answers = studio.ask("answer", jobs, "reader")
    hits = [
        copy.sound and agreement(draft.key, draft.messages[-1]["content"], answer) >= AGREES
        for copy, draft, answer in zip(checked, drafts, answers, strict=True)
    ]
    return {"answerable/share": sum(hits) / max(len(hits), 1), "answerable/n": len(hits)}
