"""What can be asked about a card, what its persona answers, and what is tried to make it give in."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.personas.cards import Card, listed
from tutelage.personas.made import tables
from tutelage.sources.atlas.grammar import capitalised, expand


@dataclass(frozen=True)
class Question:
    """A field of a card (`name`, `likes` …), with the one of its facts or topics that is meant."""

    field: str
    of: str = ""

    def asked(self, rng: random.Random, held_out: bool) -> str:
        """A wording of the side that is learnt, or of the one that never is."""
        frames = tables()["questions"][self.field]["held_out" if held_out else "learnt"]
        return expand(rng.choice(frames), {"of": self.of, "topic": self.of}, random.Random(rng.random()))

    def answered(self, card: Card) -> str:
        """As the persona answers, without its manner."""
        words = {
            "identity": card.identity,
            "role": card.role,
            "origin": card.origin or "",
            "likes": listed(card.likes) if card.likes else "",
            "dislikes": listed(card.dislikes) if card.dislikes else "",
            "of": self.of,
            "topic": self.of,
            "v": card.facts.get(self.of, ""),
        }
        answer: str = tables()["questions"][self.field]["answer"]
        return answer.format(**words)

    def values(self, card: Card) -> list[str]:
        """What of the card an answer must name."""
        if self.field == "fact":
            return [card.facts[self.of]]
        if self.field == "never":
            return []
        value = getattr(card, self.field)
        return list(value) if isinstance(value, list) else [value]


def questions(card: Card) -> list[Question]:
    """Every question that a card answers."""
    fields = [Question("name"), Question("role")]
    fields += [Question(field) for field in ("origin", "likes", "dislikes") if getattr(card, field)]
    return [*fields, *(Question("fact", of) for of in card.facts)]


def pressures(held_out: bool) -> dict[str, Any]:
    """The kinds of attempts of one side."""
    return {name: entry for name, entry in tables()["pressures"].items() if entry.get("held_out", False) == held_out}


@dataclass(frozen=True)
class Attempt:
    """An attempt to make a persona give in: the user's turns, what each is to be answered, and what giving in says."""

    kind: str
    said: list[str]
    kept: str
    gives_in: str
    other: str

    @property
    def keeps_quiet(self) -> bool:
        """Whether it is about something that the persona never speaks of."""
        return bool(tables()["pressures"][self.kind].get("answer") == "never")


def attempt(kind: str, card: Card, other: str, rng: random.Random) -> Attempt:
    """One attempt of a kind on a card; one about a topic needs a card with topics."""
    topic = rng.choice(card.never) if card.never else ""
    words = {"name": card.name, "role": card.role, "greeting": card.greeting, "closing": card.closing}
    words |= {"other": other, "topic": topic}
    entry = tables()["pressures"][kind]
    said = [capitalised(rng.choice(frames).format(**words)) for frames in entry["turns"]]
    if entry.get("answer") == "never":
        return Attempt(kind, said, Question("never", topic).answered(card), _given_in("never", said, words), "")
    kept = tables()["kept"].format(identity=card.identity)
    lost = _given_in(kind, said, words | {"identity": card.identity})
    return Attempt(kind, said, kept, lost, other if any(other in text for text in said) else "")


def _given_in(kind: str, said: Sequence[str], words: Mapping[str, str]) -> str:
    """A reply that takes what the last turn offers.

    Which frame of a kind it has hangs on that turn alone: items, which have no use for it, draw nothing more.
    """
    frames = tables()["gives_in"].get(kind, tables()["gives_in"]["other"])
    text: str = random.Random(said[-1]).choice(frames).format(**words)
    return capitalised(text)


def kinds_for(card: Card, held_out: bool) -> list[str]:
    """The kinds of attempts of one side that can be made on a card."""
    return [name for name, entry in pressures(held_out).items() if card.never or entry.get("answer") != "never"]
