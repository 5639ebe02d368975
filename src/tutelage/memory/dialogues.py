"""Conversations in which a user tells things, talks of others, asks, corrects himself, and wants things forgotten."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tutelage.memory.drawing import Drawing
from tutelage.memory.facts import Fact, draw_value, kinds, tables
from tutelage.memory.notes import REQUEST, as_reply, opening
from tutelage.sources.practice.rows import Row, is_held_out, row_hash
from tutelage.sources.practice.words import Words

Talk = tuple[str, str]  # what is said, and the reply
MAX_WORDS = 24  # of small talk, both sides
HELD_OUT_TALK = 0.1
NOTED_BEFORE, NOTED_AFTER = 0.25, 0.4  # shares of the chats that begin with notes, or end by writing some
SESSIONS = 0.2  # share of the conversations in which things are told to be written down; the others are chats
CORRECTED = 0.3  # share of a session's exchanges beside what is told
ASKED_AT_LAST = 0.5  # not always, or "nothing yet" would be told from notes by what was said last, not by what is known
_UNFIT = {"harmful", "curt", "rambling"}  # tags of conversations that are no small talk
_EVENTS = {"tell": 0.24, "talk": 0.24, "ask": 0.24, "unknown": 0.11, "correct": 0.09, "forget": 0.08}


def small_talk(plain: Iterable[Mapping[str, Any]], held_out: bool) -> list[Talk]:
    """Short exchanges of the conversations given, and a few of our own; those of one side of the hold-out."""
    pairs: list[Talk] = [(said, reply) for said, reply in tables()["small_talk"]]
    for row in plain:
        messages = row["messages"]
        if [message["role"] for message in messages] == ["user", "assistant"] and not _UNFIT & set(row.get("tags", ())):
            pairs.append((messages[0]["content"], messages[1]["content"]))
    short = [pair for pair in pairs if sum(len(text.split()) for text in pair) <= MAX_WORDS]
    return [pair for pair in short if is_held_out(pair[0], HELD_OUT_TALK) == held_out]


class Telling:
    """A conversation that is being written, and what is true of the user so far."""

    def __init__(self, rng: random.Random, talk: Sequence[Talk], words: Words) -> None:
        self.rng, self.talk = rng, talk
        self.drawing = Drawing(rng, held_out=False, words=words)
        self.known: dict[str, Fact] = {}
        self.forgotten: list[str] = []  # kinds, of which some may be told again
        self.messages: list[Row] = []

    def begin(self, count: int) -> None:
        """Notes of an earlier session."""
        for _ in range(count):
            self._new()
        self.messages = opening(None, self.notes())

    def notes(self) -> list[str]:
        """What is to be written down."""
        return [fact.said("note", self.rng) for fact in self.known.values()]

    def session(self, most: int) -> None:
        """Two things or more told, with talk or corrections between them, and notes of what is true by then."""
        for _ in range(self.rng.randint(2, most)):
            self.add("tell")
            for _ in range(self.rng.randint(0, 1)):
                self.add("correct" if self.rng.random() < CORRECTED else "talk")
        self._end(noted=1.0)

    def chat(self, max_turns: int, max_facts: int) -> None:
        """All kinds of exchanges as they come."""
        if self.rng.random() < NOTED_BEFORE:
            self.begin(self.rng.randint(1, max_facts))
        for _ in range(self.rng.randint(2, max_turns - 2)):
            events = self.possible(max_facts)
            self.add(self.rng.choices(events, [_EVENTS[event] for event in events])[0])
        self._end(noted=NOTED_AFTER)

    def _end(self, noted: float) -> None:
        if self.known and self.rng.random() < ASKED_AT_LAST:
            self.add("ask")
        if self.rng.random() < noted:
            self.add("summary")

    def add(self, event: str) -> None:
        """One exchange."""
        said, reply = getattr(self, f"_{event}")()
        self.messages += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]

    def possible(self, most: int) -> list[str]:
        """The events that can come next."""
        left = len(kinds()) > len(self.known) < most
        return [event for event in _EVENTS if {"tell": left, "talk": True, "unknown": True}.get(event, self.known)]

    def _new(self) -> Fact:
        kind = self.rng.choice([kind for kind in kinds() if kind not in self.known])
        return self._learn(kind)

    def _learn(self, kind: str) -> Fact:
        """A new value, unlike all others; the latest stands last."""
        self.known.pop(kind, None)
        value = draw_value(kind, self.drawing)
        while any(value == fact.value for fact in self.known.values()):
            value = draw_value(kind, self.drawing)
        self.known[kind] = Fact(kind, value)
        return self.known[kind]

    def _tell(self) -> Talk:
        fact = self._new()
        return fact.told(self.rng), fact.said("noted", self.rng)

    def _talk(self) -> Talk:
        return self.rng.choice(self.talk)

    def _ask(self) -> Talk:
        fact = self.rng.choice(list(self.known.values()))
        return fact.said("asked", self.rng), fact.said("answer", self.rng)

    def _unknown(self) -> Talk:
        unknown = [kind for kind in kinds() if kind not in self.known]
        asked = [kind for kind in self.forgotten if kind in unknown]
        fact = Fact(self.rng.choice(asked if asked and self.rng.random() < 0.6 else unknown), "")
        return fact.said("asked", self.rng), fact.said("unknown", self.rng)

    def _correct(self) -> Talk:
        fact = self._learn(self.rng.choice(list(self.known)))
        return fact.told(self.rng, correcting=True), fact.said("noted", self.rng)

    def _forget(self) -> Talk:
        fact = self.known.pop(self.rng.choice(list(self.known)))
        self.forgotten.append(fact.kind)
        return fact.said("forget", self.rng), fact.said("forgotten", self.rng)

    def _summary(self) -> Talk:
        return REQUEST, as_reply(self.notes())


def conversations(
    count: int, talk: Sequence[Talk], words: Words, max_turns: int, max_facts: int, seed: int
) -> Iterator[Row]:
    """`count` conversations of up to `max_turns` turns, in which up to `max_facts` facts are known at once."""
    rng = random.Random(f"{seed}/memory")
    most = min(max_facts, max_turns // 2 - 1)  # that a whole session has room for
    for _ in range(count):
        telling = Telling(rng, talk, words)
        if most > 1 and rng.random() < SESSIONS:
            telling.session(most)
        else:
            telling.chat(max_turns, max_facts)
        name = row_hash(telling.messages)
        yield {"id": name, "messages": telling.messages, "source": "memory", "tags": ["memory"]}
