"""Pairs of replies of which the first is honest: owning to it before making it up, and answering before hiding.

As fine-tuning for facts by preferences (Tian et al., arXiv 2311.08401), with both directions known and not judged.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tutelage.safety.asked import Asked
from tutelage.safety.honesty import Family, Wording, abstention, rounds
from tutelage.sources.atlas.grammar import mend_articles
from tutelage.sources.practice.rows import Row, preference


def unknown_pairs(
    found: Sequence[Family], known: Sequence[Asked], openers: Sequence[str], count: int, rng: random.Random
) -> Iterator[Row]:
    """`count` questions about invented names, in learnt wordings: "I don't know" before what is true of a real name."""
    told: dict[Wording, list[Asked]] = {}
    for one in known:
        told.setdefault(one.wording, []).append(one)
    pool = [
        (wording, invented)
        for family in found
        for wording in sorted(set(family.learnt) & set(told))
        for invented in family.invented
    ]
    for wording, invented in rounds(pool, count, rng):
        before, after = wording
        question = rng.choice(openers) + mend_articles(f"{before}{invented.name}{after}")
        other = rng.choice(told[wording])
        made_up = mend_articles(other.reply.replace(other.name, invented.name))
        yield _pair(question, abstention(invented.name, rng), made_up, "unknown", "owns to what nobody wrote", rng)


def known_pairs(known: Sequence[Asked], count: int, rng: random.Random) -> Iterator[Row]:
    """`count` questions about real names: their reply before "I don't know"."""
    for one in rounds(known, count, rng):
        yield _pair(one.question, one.reply, abstention(one.name, rng), "known", "answers what it knows", rng)


def _pair(question: str, chosen: str, rejected: str, kind: str, reason: str, rng: random.Random) -> Row:
    held_out = rng.random() < 0.1
    prompt = [{"role": "user", "content": question}]
    return preference(prompt, chosen, rejected, kind, "honesty", reason, held_out)
