"""Conversations that keep to a card, and pairs of replies of which one keeps to it and the other gives in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from tutelage.memory.dialogues import Talk
from tutelage.memory.drawing import Drawing
from tutelage.memory.facts import Fact, draw_facts
from tutelage.personas.cards import Card
from tutelage.personas.made import make_card, other_name
from tutelage.personas.questions import Attempt, Question, attempt, kinds_for, questions
from tutelage.sources.practice.rows import Row, preference, row_hash
from tutelage.sources.practice.words import Words

Cards = Callable[[random.Random], Card]
_EVENTS = {"ask": 0.34, "press": 0.3, "talk": 0.22, "never": 0.07, "recall": 0.07}


def drawn_from(written: Sequence[Card], written_share: float, words: Words) -> Cards:
    """Cards to learn from: made ones, and in a share of the conversations one that somebody has written."""

    def draw(rng: random.Random) -> Card:
        if written and rng.random() < written_share:
            return rng.choice(written)
        return make_card(Drawing(rng, held_out=False, words=words))

    return draw


class Acting:
    """A conversation with a persona that is being written."""

    def __init__(self, card: Card, rng: random.Random, talk: Sequence[Talk], words: Words) -> None:
        self.card, self.rng, self.talk = card, rng, talk
        self.drawing = Drawing(rng, held_out=False, words=words)
        self.told: list[Fact] = []
        self.messages: list[Row] = [{"role": "system", "content": card.system_message()}]

    def say(self, said: str, reply: str) -> None:
        """One exchange in the persona's manner."""
        self.messages.append({"role": "user", "content": said})
        self.messages.append({"role": "assistant", "content": self.card.in_manner(reply)})

    def add(self, event: str) -> None:
        """What belongs to one event: one exchange, or the few of an attempt."""
        if event == "ask":
            question = self.rng.choice(questions(self.card))
            self.say(question.asked(self.rng, held_out=False), question.answered(self.card))
        elif event == "never" and self.card.never:
            question = Question("never", self.rng.choice(self.card.never))
            self.say(question.asked(self.rng, held_out=False), question.answered(self.card))
        elif event == "press":
            pressing = self.attempt()
            for text in pressing.said:
                self.say(text, pressing.kept)
        elif event == "recall":
            self._recall()
        else:
            self.say(*self.rng.choice(self.talk))

    def attempt(self) -> Attempt:
        """An attempt of a kind that is learnt."""
        kind = self.rng.choice(kinds_for(self.card, held_out=False))
        return attempt(kind, self.card, other_name(self.card, self.drawing), self.rng)

    def _recall(self) -> None:
        """The user tells a thing, or asks for one that he told."""
        if self.told and self.rng.random() < 0.7:
            fact = self.rng.choice(self.told)
            self.say(fact.said("asked", self.rng), fact.said("answer", self.rng))
            return
        fact = draw_facts(1, self.drawing)[0]
        self.told = [*(old for old in self.told if old.kind != fact.kind), fact]
        self.say(fact.told(self.rng), fact.said("noted", self.rng))


def conversations(
    count: int, cards: Cards, talk: Sequence[Talk], words: Words, max_turns: int, seed: int
) -> Iterator[Row]:
    """`count` conversations of up to `max_turns` turns."""
    rng = random.Random(f"{seed}/persona")
    for _ in range(count):
        acting = Acting(cards(rng), rng, talk, words)
        for _ in range(rng.randint(1, max_turns)):
            acting.add(rng.choices(list(_EVENTS), list(_EVENTS.values()))[0])
        name = row_hash(acting.messages)
        yield {"id": name, "messages": acting.messages, "source": "persona", "tags": ["persona"]}


def preferences(
    count: int, cards: Cards, talk: Sequence[Talk], words: Words, validation_share: float, seed: int
) -> Iterator[Row]:
    """`count` pairs: under an attempt of a kind that is learnt, a reply that keeps to the card, and one that does not.

    Giving in is to claim what the attempt wants, to say what is never spoken of, or to drop the manner.
    """
    rng = random.Random(f"{seed}/persona/preferences")
    for _ in range(count):
        acting = Acting(cards(rng), rng, talk, words)
        for _ in range(rng.randint(0, 2)):
            acting.add("ask")
        pressing = acting.attempt()
        for text in pressing.said[:-1]:
            acting.say(text, pressing.kept)
        prompt = [*acting.messages, {"role": "user", "content": pressing.said[-1]}]
        rejected = _giving_in(acting.card, pressing, rng)
        held_out = rng.random() < validation_share
        chosen, reason = acting.card.in_manner(pressing.kept), "the chosen reply keeps to the card"
        yield preference(
            prompt, chosen, rejected, kind=pressing.kind, annotator="card", reason=reason, validation=held_out
        )


def _giving_in(card: Card, pressing: Attempt, rng: random.Random) -> str:
    without_manner = pressing.kind in ("manner", "machine") or rng.random() < 0.3
    return pressing.gives_in if without_manner else card.in_manner(pressing.gives_in)
