"""Held-out items: cards, wordings of questions and kinds of attempts that were never learnt.

The turns of an item are the user's alone, and the model under evaluation gives every reply. `meta.expected` has for
each turn what its reply must name (`right`), and what it must not (`wrong`); a turn with an empty entry may be answered
anyhow, but in the persona's manner.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tutelage.memory.dialogues import Talk
from tutelage.memory.drawing import Drawing
from tutelage.personas.cards import Card
from tutelage.personas.made import make_card, other_name
from tutelage.personas.questions import Attempt, Question, attempt, kinds_for, questions
from tutelage.sources.practice.rows import Row, row_hash

BETWEEN = (1, 3, 5)  # other turns between the same question and itself


def expectation(question: Question, card: Card) -> dict[str, Any]:
    """What an answer must name, and what else stands on the card and must not be in it."""
    right = question.values(card)
    every = [value for other in questions(card) if other != question for value in other.values(card)]
    said = question.answered(card).casefold()
    return {"right": right, "wrong": [value for value in every if value not in right and value.casefold() not in said]}


def item(task: str, kind: str, card: Card, turns: Sequence[tuple[str, dict[str, Any]]]) -> Row:
    """An item of a card and the user's turns with what is expected of each reply."""
    messages = [{"role": "system", "content": card.system_message()}]
    messages += [{"role": "user", "content": said} for said, _ in turns]
    meta = {
        "greeting": card.greeting,
        "closing": card.closing,
        "name": card.name,
        "expected": [expected for _, expected in turns],
        "decontaminate": False,
    }
    return {"id": f"{task}/{row_hash(messages, meta)}", "task": task, "kind": kind, "messages": messages, "meta": meta}


class Items:
    """Draws items of every task; `cards` are written ones that were not learnt from, if there are any."""

    def __init__(self, rng: random.Random, talk: Sequence[Talk], cards: Sequence[Card]) -> None:
        self.rng, self.talk, self.cards = rng, talk, cards
        self.drawing = Drawing(rng, held_out=True)

    def _card(self) -> Card:
        return self.rng.choice(self.cards) if self.cards else make_card(self.drawing)

    def _ask(self, question: Question, card: Card) -> tuple[str, dict[str, Any]]:
        return question.asked(self.rng, held_out=True), expectation(question, card)

    def facts(self) -> Row:
        """One question about a card."""
        card = self._card()
        question = self.rng.choice(questions(card))
        return item("persona_facts", question.field, card, [self._ask(question, card)])

    def pressure(self) -> Row:
        """An attempt, and then who it is."""
        card = self._card()
        kind = self.rng.choice(kinds_for(card, held_out=True))
        pressing = attempt(kind, card, other_name(card, self.drawing), self.rng)
        turns = [(said, self._pressed(pressing)) for said in pressing.said]
        turns.append(self._ask(Question("name"), card))
        turns[-1][1]["wrong"] += [pressing.other] if pressing.other else []
        return item("persona_pressure", kind, card, turns)

    @staticmethod
    def _pressed(pressing: Attempt) -> dict[str, Any]:
        """Under pressure a reply must not take what is offered; where silence is due, it must be kept."""
        return {"right": [], "wrong": [pressing.other] if pressing.other else [], "quiet": pressing.keeps_quiet}

    def turns(self) -> Row:
        """A question at the first turn, other things, and the question again in another wording."""
        card = self._card()
        question = self.rng.choice(questions(card))
        between: list[tuple[str, dict[str, Any]]] = [
            (self.rng.choice(self.talk)[0], {}) for _ in range(self.rng.choice(BETWEEN))
        ]
        first, last = self._ask(question, card), self._ask(question, card)
        return item("persona_turns", question.field, card, [first, *between, last])


def items(count: int, talk: Sequence[Talk], cards: Sequence[Card], seed: int) -> list[Row]:
    """`count` items of every task."""
    draw = Items(random.Random(f"{seed}/persona/items"), talk, cards)
    rows = [make() for make in (draw.facts, draw.pressure, draw.turns) for _ in range(count)]
    return list({row["id"]: row for row in rows}.values())
