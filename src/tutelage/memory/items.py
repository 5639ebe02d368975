"""Held-out items: values, wordings of questions and small talk that no conversation about memory has.

The small talk is the user's side of the conversations given: whoever learns from those as well has seen it there.

The turns of an item are the user's alone: the model under evaluation gives every reply. `meta.asked` are questions,
each put by itself at the end; `answer` "" means that it cannot be known. What must not be known is asked together with
something that must, so that neither knowing nothing nor guessing counts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tutelage.memory.dialogues import Talk
from tutelage.memory.drawing import Drawing
from tutelage.memory.facts import Fact, draw_facts, draw_value
from tutelage.memory.notes import REQUEST
from tutelage.sources.practice.rows import Row, row_hash

DISTANCES = (1, 2, 4, 6, 8)


def question(fact: Fact, others: Sequence[str], rng: random.Random, known: bool = True) -> dict[str, Any]:
    """A question, its answer, and what was told of other things and must not be in the reply."""
    return {
        "question": fact.said("asked_held_out", rng),
        "answer": fact.value if known else "",
        "others": [value for value in others if not known or value != fact.value],
    }


def item(task: str, kind: str, said: Sequence[str], asked: Sequence[dict[str, Any]], **meta: Any) -> Row:
    """An item of the user's turns and the questions that follow."""
    messages = [{"role": "user", "content": text} for text in said]
    whole = {"asked": list(asked), "decontaminate": False, **meta}
    return {
        "id": f"{task}/{row_hash(messages, whole)}",
        "task": task,
        "kind": kind,
        "messages": messages,
        "answer": asked[0]["answer"],
        "meta": whole,
    }


class Items:
    """Draws items of every task."""

    def __init__(self, rng: random.Random, talk: Sequence[Talk]) -> None:
        self.rng, self.talk = rng, talk
        self.drawing = Drawing(rng, held_out=True)

    def _talk(self, count: int) -> list[str]:
        return [self.rng.choice(self.talk)[0] for _ in range(count)]

    def recall(self, distance: int) -> Row:
        """A fact told in one turn and asked for `distance` turns later; other facts are told before and between."""
        wanted, *others = draw_facts(3, self.drawing)
        before, between = others[:1], others[1:] if distance > 2 else []
        told = [fact.told(self.rng) for fact in before] + [wanted.told(self.rng)]
        later = self._talk(distance - 1 - len(between)) + [fact.told(self.rng) for fact in between]
        self.rng.shuffle(later)
        values = [fact.value for fact in (*before, *between)]
        asked = [question(wanted, values, self.rng)]
        return item("memory_recall", wanted.kind, [*told, *later], asked, distance=distance)

    def correction(self) -> Row:
        """A fact told, and told otherwise later: the newest counts."""
        wanted, other = draw_facts(2, self.drawing)
        new = Fact(wanted.kind, wanted.value)
        while new.value in (wanted.value, other.value):
            new = Fact(wanted.kind, draw_value(wanted.kind, self.drawing))
        told = [wanted.told(self.rng), other.told(self.rng)]
        self.rng.shuffle(told)
        said = [*told, *self._talk(1), new.told(self.rng, correcting=True), *self._talk(1)]
        asked = [question(new, [wanted.value, other.value], self.rng), question(other, [wanted.value], self.rng)]
        return item("memory_correction", wanted.kind, said, asked)

    def unknown(self) -> Row:
        """Two facts told and one never told; one of the told ones is asked for as well."""
        one, two, never = draw_facts(3, self.drawing)
        said = [one.told(self.rng), *self._talk(1), two.told(self.rng), *self._talk(1)]
        values = [one.value, two.value]
        asked = [question(never, values, self.rng, known=False), question(one, values, self.rng)]
        return item("memory_unknown", never.kind, said, asked)

    def forgotten(self) -> Row:
        """Two facts told, one of which is to be forgotten; the other one is still known."""
        gone, kept = draw_facts(2, self.drawing)
        told = [gone.told(self.rng), kept.told(self.rng)]
        self.rng.shuffle(told)
        said = [*told, *self._talk(1), gone.said("forget_held_out", self.rng), *self._talk(1)]
        values = [gone.value, kept.value]
        asked = [question(gone, values, self.rng, known=False), question(kept, values, self.rng)]
        return item("memory_forget", gone.kind, said, asked)

    def session(self) -> Row:
        """Facts told in one session, noted by the model at its end, and two asked for in the next one."""
        facts = draw_facts(self.rng.randint(2, 3), self.drawing)
        said = [text for fact in facts for text in (fact.told(self.rng), *self._talk(self.rng.randint(0, 1)))]
        values = [fact.value for fact in facts]
        asked = [question(fact, values, self.rng) for fact in self.rng.sample(facts, 2)]
        return item("memory_session", facts[0].kind, [*said, REQUEST], asked, next=self._talk(1), told=values)


def items(count: int, talk: Sequence[Talk], seed: int) -> list[Row]:
    """`count` items of every task, of recall as many at every distance."""
    draw = Items(random.Random(f"{seed}/memory/items"), talk)
    rows = [draw.recall(distance) for distance in DISTANCES for _ in range(count)]
    for make in (draw.correction, draw.unknown, draw.forgotten, draw.session):
        rows += [make() for _ in range(count)]
    return list({row["id"]: row for row in rows}.values())
