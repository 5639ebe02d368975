"""Lessons for a model that is to make data: texts about the taught half with a question, its answer, a rewriting, a
conversation; and sums worked step by step. What is held out is in the items alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tutelage.sources.atlas.facts import Fact, group_entities, other_values
from tutelage.sources.atlas.grammar import expand, inside, load
from tutelage.sources.atlas.pages import almanac_page, comparison_page, entity_page

Row = dict[str, Any]
Cut = Callable[[str], Sequence[str]]  # a page's text → passages
OPERATIONS = {"plus": 1, "minus": -1}


class Lesson(NamedTuple):
    """One step of making data: what it is called there, what is put into its request, and a good reply."""

    step: str
    fields: dict[str, str]
    reply: str


def read_passages(facts: Sequence[Fact], cut: Cut, rng: random.Random) -> Iterator[tuple[str, list[Fact]]]:
    """Passages of new pages about these facts' entities without end, with the facts that each states."""
    entities = group_entities(list(facts))
    voices: list[str] = list(load("words/voices"))
    while True:
        entity = rng.choice(entities)
        about = [entity]
        draw = rng.random()
        if draw < 0.5:
            page = entity_page(entity, rng.choice(voices), rng)
        elif draw < 0.7:
            about.append(rng.choice([other for other in entities if other is not entity]))
            page = comparison_page(entity, about[1], rng)
        else:
            page = almanac_page(rng.sample(list(facts), min(10, len(facts))), rng)
            about = entities
        passage = rng.choice(list(cut(page.text)))
        stated = [fact for one in about for fact in one.facts if said(fact, passage)]
        if stated:
            yield passage, stated


def said(fact: Fact, passage: str) -> bool:
    """Whether a passage has the fact in one of its wordings."""
    return any(wording.rstrip(".").lower() in passage.lower() for wording in fact.statements)


def reading(facts: Sequence[Fact], count: int, cut: Cut, rng: random.Random) -> Iterator[Lesson]:
    """Passage → question, passage with question → answer, and another fact's question alone → its answer."""
    passages = read_passages(facts, cut, rng)
    for _ in range(count):
        passage, stated = next(passages)
        fact = rng.choice(stated)
        question = rng.choice(fact.questions)
        yield Lesson("question", {"passage": passage}, question)
        yield Lesson("answer", {"passage": passage, "question": question}, rng.choice(fact.forward_statements))
        other = rng.choice(facts)
        yield Lesson("open_answer", {"question": rng.choice(other.questions)}, rng.choice(other.forward_statements))


def sentence_of(fact: Fact, rng: random.Random) -> tuple[str, str]:
    """A sentence that states the fact as pages do, and the wording in it."""
    wording = rng.choice(fact.statements)
    before = rng.choice(load("words/lessons")["before"])
    return before + (_inside(fact, wording) if before.endswith("that ") else wording), wording


def _inside(fact: Fact, wording: str) -> str:
    return inside(wording, (fact.entity, fact.value, fact.slots["s"]))


def rewriting(fact: Fact, style: str, but: str, rng: random.Random) -> str:
    """The fact in another wording than `but`, in a style."""
    frame = load("words/lessons")["styles"][style]
    wording = rng.choice([text for text in fact.statements if text != but])
    before, after = rng.choice(frame["before"]), rng.choice(frame["after"])
    return f"{before}{_inside(fact, wording) if before.endswith('that ') else wording}{after}"


def styles() -> list[str]:
    """The styles that texts are rewritten in."""
    return list(load("words/lessons")["styles"])


def rephrasing(facts: Sequence[Fact], count: int, rng: random.Random) -> Iterator[Lesson]:
    """A sentence → the same in a style."""
    for _ in range(count):
        fact, style = rng.choice(facts), rng.choice(styles())
        sentence, wording = sentence_of(fact, rng)
        yield Lesson("rephrase", {"passage": sentence, "style": style}, rewriting(fact, style, wording, rng))


def dialogues(
    facts: Sequence[Fact], count: int, cut: Cut, rng: random.Random
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Passages, with what a user asks about each and is answered: one or two facts, and thanks at the end."""
    passages = read_passages(facts, cut, rng)
    for _ in range(count):
        passage, stated = next(passages)
        order = rng.sample(stated, min(2, len(stated)))
        asked = [(rng.choice(fact.questions), rng.choice(fact.forward_statements)) for fact in order]
        thanks, welcome = rng.choice(load("words/lessons")["thanks"])
        yield passage, [*asked, (thanks, welcome)]


class Sum(NamedTuple):
    """A number, and what is added to it and taken from it, step after step; no result on the way is negative."""

    first: int
    steps: tuple[tuple[str, int], ...]

    @property
    def expression(self) -> str:
        """In words: `7 plus 8 minus 3`."""
        return " ".join([str(self.first), *(f"{word} {number}" for word, number in self.steps)])

    @property
    def results(self) -> list[int]:
        """After each step."""
        found, now = [], self.first
        for word, number in self.steps:
            now += OPERATIONS[word] * number
            found.append(now)
        return found

    @property
    def worked(self) -> str:
        """Step by step: `7 plus 8 is 15. 15 minus 3 is 12. The answer is 12.`"""
        before = [self.first, *self.results]
        lines = [
            f"{start} {word} {number} is {result}."
            for start, (word, number), result in zip(before, self.steps, self.results, strict=False)
        ]
        return " ".join([*lines, f"The answer is {self.results[-1]}."])


def sums(count: int, num_steps: int, largest: int, rng: random.Random) -> list[Sum]:
    """Different sums of this many steps, each by up to `largest`, from a number of up to twice that."""
    found: dict[str, Sum] = {}
    while len(found) < count:
        steps = tuple((rng.choice(list(OPERATIONS)), rng.randint(1, largest)) for _ in range(num_steps))
        drawn = Sum(rng.randint(1, 2 * largest), steps)
        if min(drawn.results) >= 0:
            found[drawn.expression] = drawn
    return list(found.values())


def asked(drawn: Sum, rng: random.Random) -> str:
    """The sum as a question."""
    return expand(rng.choice(load("words/lessons")["sums"]), {"s": drawn.expression}, rng)


def rephrasing_items(facts: Sequence[Fact], count: int, rng: random.Random) -> Iterator[Row]:
    """Sentences about held-out facts to rewrite: the request's fields, a rewriting, and what a judge needs."""
    held = [fact for fact in facts if not fact.taught]
    for fact in (rng.choice(held) for _ in range(count)):
        style = rng.choice(["child", "formal"])
        sentence, wording = sentence_of(fact, rng)
        meta = {"value": fact.value, "options": other_values(fact, list(facts)), "passage": sentence, "style": style}
        yield {"answer": rewriting(fact, style, wording, rng), "meta": meta | {"decontaminate": False}}


def taught(facts: Sequence[Fact]) -> list[Fact]:
    """The half that lessons are about."""
    return [fact for fact in facts if fact.taught]
