"""Many little tools with definitions of their own, some of which are never learnt: the right one is to be found by
reading, with the arguments under the names that its definition gives them.

A tool is a verb and a thing (`book_ferry`). Things are held out, with all their tools. Most of the things and values to
learn from are words of all kinds and made-up ones, so that they must be copied, not known. Which of the tools offered
is the right one is drawn last, so that nothing but the request tells it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tutelage.sources.atlas.grammar import expand
from tutelage.sources.practice.rows import Row, conversation, is_held_out, item, row_hash
from tutelage.sources.practice.words import Words, never_learnt
from tutelage.tools.calls import ToolCall

HELD_OUT_SHARE = 0.25  # of the things
ANY_WORD_SHARE = 0.75  # of things to learn from; the others are those of the table
TWO_WORDS_SHARE = 0.15  # of those
ALIKE_SHARE = 0.3  # of the tools offered after the first that have its verb, in items
ALIKE_LEARNT_SHARE = 0.65  # … in conversations to learn from: what is hardest, oftener
DrawThing = Callable[[random.Random], str]  # draws what a tool is for
_KNOWN_SLOTS = {"day"}  # whose values are few


@cache
def tables() -> dict[str, Any]:
    """`things`, `verbs` (what a tool of that verb is asked and takes) and `names` (what an argument may be called)."""
    text = resources.files("tutelage.sources.practice").joinpath("functions.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@dataclass(frozen=True)
class Practised:
    """A tool, by its verb and its thing; `names` are its arguments' names, by what they stand for."""

    verb: str
    thing: str
    names: dict[str, str]

    @property
    def name(self) -> str:
        """As it is called."""
        return f"{self.verb}_{self.thing.replace(' ', '_')}"

    @property
    def definition(self) -> dict[str, Any]:
        """In the OpenAI form."""
        entry = tables()["verbs"][self.verb]
        properties = {self.names[slot]: {"type": kind} for slot, kind in entry["takes"].items()}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        description = entry["is"].replace("{o}", self.thing)
        function = {"name": self.name, "description": description, "parameters": parameters}
        return {"type": "function", "function": function}

    def use(self, rng: random.Random, words: Words | None = None) -> tuple[str, ToolCall, str, str]:
        """What somebody asks, the call that it needs, a result, and the answer.

        With `words` it is to be learnt from: half of the values are such words, and no name is a held-out one.
        """
        entry = tables()["verbs"][self.verb]
        values = {slot: _value(slot, kind, rng, words) for slot, kind in entry["takes"].items()}
        context = {"o": self.thing, **{slot: str(value) for slot, value in values.items()}}
        result = entry["gives"] if isinstance(entry["gives"], str) else str(rng.randint(2, 99))
        request = expand(rng.choice(entry["asked"]), context, rng)
        answer = expand(entry["said"], context | {"r": result}, rng)
        return request, ToolCall(self.name, {self.names[slot]: value for slot, value in values.items()}), result, answer


def _value(slot: str, kind: str, rng: random.Random, words: Words | None) -> Any:
    if kind == "integer":
        return rng.randint(2, 999)
    if words is not None and slot not in _KNOWN_SLOTS and rng.random() < 0.5:
        return words.draw(rng)
    return rng.choice(tables()["values"][slot] if words is None else _learnt_values(slot))


@cache
def _learnt_values(slot: str) -> list[str]:
    """The values of the table that may be learnt: others, or a word of them, are held out of memory and personas."""
    values: list[str] = tables()["values"][slot]
    if slot in _KNOWN_SLOTS:
        return values
    return [value for value in values if not any(map(never_learnt, [value, *value.split()]))]


def practised(verb: str, thing: str) -> Practised:
    """The one tool of a verb and a thing."""
    rng = random.Random(f"{verb}/{thing}")
    return Practised(
        verb, thing, {slot: rng.choice(tables()["names"][slot]) for slot in tables()["verbs"][verb]["takes"]}
    )


def things(held_out: bool) -> list[str]:
    """The things of one side."""
    return [thing for thing in tables()["things"] if is_held_out(thing, HELD_OUT_SHARE) == held_out]


def _known(held_out: bool) -> DrawThing:
    """Draws one of the things of one side."""
    pool = things(held_out)
    return lambda rng: rng.choice(pool)


def _any(words: Words) -> DrawThing:
    """Draws what to learn from: mostly words of all kinds, one or two of them."""
    known = _known(held_out=False)

    def draw(rng: random.Random) -> str:
        if rng.random() >= ANY_WORD_SHARE:
            return known(rng)
        count = 2 if rng.random() < TWO_WORDS_SHARE else 1
        return " ".join(words.draw(rng).lower() for _ in range(count))

    return draw


def _offer(rng: random.Random, draw_thing: DrawThing, most_others: int, alike: float) -> list[Practised]:
    """Tools in a random order: one, and others of the same verb (`alike`), of the same thing, or of neither."""
    verbs = list(tables()["verbs"])
    thing = draw_thing(rng)
    first = practised(rng.choice(verbs), thing)
    offered = {first.name: first}
    for _ in range(rng.randint(1, most_others)):
        verb = first.verb if rng.random() < alike else rng.choice(verbs)
        same = verb != first.verb and rng.random() < 0.5
        other = practised(verb, first.thing if same else draw_thing(rng))
        offered[other.name] = other
    return rng.sample(list(offered.values()), len(offered))


def conversations(count: int, most_others: int, words: Words, seed: int) -> Iterator[Row]:
    """Requests with the right tool among others, two requests at once, and some for which no tool is there."""
    rng = random.Random(f"{seed}/functions")
    draw_thing = _any(words)
    for _ in range(count):
        offered = _offer(rng, draw_thing, most_others, ALIKE_LEARNT_SHARE)
        wanted = rng.choice(offered)
        request, call, result, answer = wanted.use(rng, words)
        shape = rng.random()
        if shape < 0.7:
            yield conversation(request, [([call], [result])], answer, _definitions(offered), "function")
        elif shape < 0.85:
            second = rng.choice(offered)
            asked, other, given, said = second.use(rng, words)
            rounds = [([call, other], [result, given])]
            yield conversation(f"{request} {asked}", rounds, f"{answer} {said}", _definitions(offered), "functions")
        else:
            left = [tool for tool in offered if tool is not wanted]
            if left:
                yield conversation(request, [], tables()["none"], _definitions(left), "no_tool")


def _definitions(offered: Sequence[Practised]) -> list[dict[str, Any]]:
    return [tool.definition for tool in offered]


def items(count: int, most_others: int, seed: int) -> list[Row]:
    """Held-out items: tools of things never learnt, as many with tools that were, and requests without their tool."""
    rng = random.Random(f"{seed}/functions/items")
    found: dict[str, Row] = {}
    for held_out, task in ((True, "tool_choice_unseen"), (False, "tool_choice")):
        draw_thing = _known(held_out)
        while sum(row["task"] == task for row in found.values()) < count:
            offered = _offer(rng, draw_thing, most_others, ALIKE_SHARE)
            wanted = rng.choice(offered)
            request, call, _, _ = wanted.use(rng)
            row = item(task, wanted.verb, request, tools=_definitions(offered), calls=[call])
            found[row["id"]] = row
            left = _definitions([tool for tool in offered if tool is not wanted])
            if held_out and left and rng.random() < 0.3:
                missing = item("tool_none", "missing", request, tools=left)
                found[missing["id"]] = missing
    return list(found.values())


def plain_rows(
    rows: Sequence[Row], share: float, most_others: int, words: Words, seed: int
) -> tuple[list[Row], list[Row]]:
    """Conversations that need no tool, with tools offered: (to learn from, held-out items made of their questions).

    `share` of them, by the hash of their first message, is held out.
    """
    rng = random.Random(f"{seed}/plain")
    known, any_word = _known(held_out=False), _any(words)

    def offered(draw_thing: DrawThing) -> list[dict[str, Any]]:
        return _definitions(_offer(rng, draw_thing, most_others, ALIKE_SHARE))

    learnt: list[Row] = []
    held: list[Row] = []
    for row in rows:
        if any(message.get("tool_calls") for message in row["messages"]):
            continue
        question = next(message["content"] for message in row["messages"] if message["role"] == "user")
        if is_held_out(question, share):
            held.append(item("tool_none", "plain", question, tools=offered(known)))
        else:
            tools = offered(any_word)
            made = row_hash(row["messages"], tools)
            learnt.append({**row, "id": made, "tools": tools, "tags": [*row.get("tags", []), "plain"]})
    return learnt, held
