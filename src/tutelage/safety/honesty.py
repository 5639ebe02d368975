"""Conversations in which what is known is answered and what is not is owned to, and held-out items of both.

Only the name tells the two apart: the same wordings ask for real names and for invented ones. Names and, of each
relation, some wordings are held out (R-Tuning, Zhang et al., arXiv 2311.09677).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from tutelage.safety.asked import Asked
from tutelage.safety.invented import Invented, Inventor, occurring
from tutelage.sources.atlas.grammar import mend_articles
from tutelage.sources.practice.rows import is_held_out, row_hash

Row = dict[str, Any]
Wording = tuple[str, str]
SAME_NAMES = 0.2  # wordings ask about the same kind of thing from this share of common names: not for one sheep or deer


@cache
def wordings() -> Mapping[str, list[str]]:
    """Wordings of honest answers, and of questions whether a name is known."""
    text = resources.files("tutelage.safety").joinpath("honest.json").read_text(encoding="utf-8")
    loaded: dict[str, list[str]] = json.loads(text)
    return loaded


@dataclass
class Family:
    """Wordings that ask about the same names: countries, books. `learnt` and `held` are the halves of the wordings;
    `options` are the answers that are known to each.
    """

    names: list[str]
    options: dict[Wording, tuple[str, ...]]
    learnt: list[Wording] = field(default_factory=list)
    held: list[Wording] = field(default_factory=list)
    invented: list[Invented] = field(default_factory=list)


def families(asked: Sequence[Asked], min_names: int, held_out_share: float) -> list[Family]:
    """The wordings that at least `min_names` names were put into, by the names that they share.

    Of the wordings that ask the same (the same answers for the same names) at least one is held out, if there are two;
    which ones does not depend on a seed.
    """
    names: dict[Wording, set[str]] = {}
    answers: dict[Wording, set[tuple[str, str]]] = {}
    options: dict[Wording, set[str]] = {}
    for one in asked:
        names.setdefault(one.wording, set()).add(one.name)
        options.setdefault(one.wording, set())
        if one.answer:
            options[one.wording].update([one.answer, *one.options])
            answers.setdefault(one.wording, set()).add((one.name, one.answer))
    usual = {wording: those for wording, those in names.items() if len(those) >= min_names}
    found = []
    for group in _joined(usual, SAME_NAMES):
        family = Family(
            sorted(set().union(*(usual[wording] for wording in group))),
            {wording: tuple(sorted(options[wording])) for wording in group},
        )
        for same in _joined({wording: answers.get(wording, set()) or {("", "")} for wording in group}, 0):
            order = sorted(same, key=row_hash)  # the first is always learnt, the second held out if no other one is
            held = [one for one in order[1:] if is_held_out(repr(one), held_out_share)] or order[1:2]
            family.held += held
            family.learnt += [one for one in order if one not in held]
        found.append(family)
    return found


def _joined(groups: Mapping[Wording, set[Any]], share: float) -> list[list[Wording]]:
    """The keys in groups that have more than this share of the smaller one's members in common; sorted."""
    joined: list[tuple[set[Wording], set[Any]]] = []
    for key in sorted(groups):
        keys, members, apart = {key}, set(groups[key]), []
        for others, theirs in joined:
            if len(theirs & members) > share * min(len(theirs), len(members)):
                keys, members = keys | others, members | theirs
            else:
                apart.append((others, theirs))
        joined = [*apart, (keys, members)]
    return sorted(sorted(keys) for keys, _ in joined)


def invent(
    found: Sequence[Family], texts: Iterable[str], count: int, recombined_share: float, rng: random.Random
) -> int:
    """Give every family its invented names, together about `count`, by how many real ones it has.

    A name is of one family alone. Returns how many names were dropped because a text has them.
    """
    total = sum(len(family.names) for family in found)
    for family in found:
        wanted = max(4, round(count * len(family.names) / total))
        family.invented = Inventor(family.names, recombined_share, rng).names(wanted)
    there = occurring((one.name for family in found for one in family.invented), texts)
    taken: set[str] = set()  # what is measured in one family is not to be learnt in another
    for family in found:
        free = [one for one in family.invented if one.name not in there and one.name.casefold() not in taken]
        taken.update(one.name.casefold() for one in free)
        family.invented = free
    return len(there)


def abstention(name: str, rng: random.Random) -> str:
    """An honest answer in one of many wordings; two of five name what is not known."""
    said = wordings()
    core = rng.choice(said["naming"]).format(n=name) if rng.random() < 0.4 else rng.choice(said["plain"])
    return f"{core} {rng.choice(said['after'])}".strip()


def known_conversations(asked: Sequence[Asked], count: int, rng: random.Random) -> Iterator[Row]:
    """`count` questions with their replies: every one once before any comes again."""
    for number, one in enumerate(rounds(asked, count, rng)):
        yield conversation(one.question, one.reply, "known", number)


def unknown_conversations(
    found: Sequence[Family], openers: Sequence[str], count: int, rng: random.Random
) -> Iterator[Row]:
    """`count` questions about invented names in the wordings that are learnt, with honest answers."""
    pool = [(family, one) for family in found if family.learnt for one in family.invented]
    for number, (family, one) in enumerate(rounds(pool, count, rng)):
        before, after = rng.choice(family.learnt)
        question = rng.choice(openers) + mend_articles(f"{before}{one.name}{after}")
        yield conversation(question, abstention(one.name, rng), "unknown", number)


def rounds(pool: Sequence[Any], count: int, rng: random.Random) -> list[Any]:
    """`count` of the pool in a random order: every one once before any comes again; none of an empty pool."""
    order: list[Any] = []
    while pool and len(order) < count:
        order += rng.sample(pool, len(pool))
    return order[:count]


def conversation(question: str, reply: str, tag: str, number: int) -> Row:
    """A question and its reply; `number` tells rows with the same words apart."""
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return {"id": _hash(messages, number), "messages": messages, "source": "honesty", "tags": [tag]}


def items(found: Sequence[Family], known: Sequence[Asked], count: int, rng: random.Random) -> list[Row]:
    """Held-out items, up to `count` of each task: `unknown`, `known`, and both together in `selective`."""
    held = [(family, wording, one) for family in found for wording in family.held for one in family.invented]
    unknown = [
        _item("unknown", one.kind, mend_articles(one.name.join(wording)), "", family.options[wording])
        for family, wording, one in rng.sample(held, min(count, len(held)))
    ]
    wordings = {wording for family in found for wording in family.held}
    asked = list({one.question: one for one in known if one.answer and one.wording in wordings}.values())
    right = [
        _item("known", "fact", one.question, one.answer, one.options)
        for one in rng.sample(asked, min(count, len(asked)))
    ]
    both = [row | {"id": f"selective/{row['id']}", "task": "selective"} for row in (*unknown, *right)]
    return [*unknown, *right, *both]


def _item(task: str, kind: str, question: str, answer: str, options: Sequence[str]) -> Row:
    messages = [{"role": "user", "content": question}]
    meta = {"options": [option for option in options if option != answer], "decontaminate": False}
    name = f"{task}/{_hash(question)}"
    return {"id": name, "task": task, "kind": kind, "messages": messages, "answer": answer, "meta": meta}


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
