"""The facts: (entity, relation, value), how they are said and asked, and which half is taught."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from tutelage.sources.atlas.grammar import article, capitalised, load


@dataclass(frozen=True)
class Fact:
    """One thing to know: the `relation` of `entity` is `value`; `taught` says which half of the split it is in."""

    entity: str
    relation: str
    value: str
    topic: str
    taught: bool

    @cached_property
    def slots(self) -> dict[str, str]:
        """Every form in which the templates of relations.json use the entity and the value."""
        e, v = self.entity, self.value
        s = load("facts/plurals").get(e, e + ("es" if e.endswith(("ch", "sh", "x", "s")) else "s"))
        a_e, a_v = f"{article(e)} {e}", f"{article(v)} {v}"
        forms = {"e": e, "v": v, "s": s, "a_e": a_e, "a_v": a_v, "a_": article(v)}
        raised = {"E": capitalised(e), "S": capitalised(s), "A_E": capitalised(a_e), "A_V": capitalised(a_v)}
        return forms | raised

    def _filled(self, key: str) -> list[str]:
        return [capitalised(text.format(**self.slots)) for text in load("facts/relations")[self.relation][key]]

    @cached_property
    def statements(self) -> list[str]:
        """The fact as a sentence, in every wording and direction."""
        return self._filled("statements")

    @cached_property
    def questions(self) -> list[str]:
        """The questions that the value answers."""
        return self._filled("questions")

    @cached_property
    def completions(self) -> list[str]:
        """Beginnings of sentences that the value completes."""
        return self._filled("completions")

    @cached_property
    def terse(self) -> str:
        """The shortest answer."""
        text: str = load("facts/relations")[self.relation]["terse"]
        return text.format(**self.slots)


@dataclass(frozen=True)
class Entity:
    """What a page can be about: its name, its noun phrase in running text, and its facts."""

    name: str
    topic: str
    facts: tuple[Fact, ...]

    @cached_property
    def context(self) -> dict[str, str]:
        """The slots `{n}` and `{N}` of the page templates."""
        phrase = f"the {self.name}" if self.topic == "animal" else self.name
        return {"n": phrase, "N": capitalised(phrase)}


def build_facts(count: int | None, seed: int) -> list[Fact]:
    """`count` facts (all if None), the relations in proportion, each relation halved into taught and held out.

    A smaller count is a prefix of the same seeded order. At least four facts a relation.
    """
    values: dict[str, dict[str, str]] = load("facts/values")
    relations = load("facts/relations")
    total = sum(len(pairs) for pairs in values.values())
    facts = []
    for relation, pairs in values.items():
        order = sorted(pairs)
        random.Random(f"{seed}/facts/{relation}").shuffle(order)
        wanted = len(order) if count is None else min(len(order), max(4, round(count * len(order) / total)))
        facts += [
            Fact(entity, relation, pairs[entity], relations[relation]["topic"], taught=place % 2 == 0)
            for place, entity in enumerate(order[:wanted])
        ]
    return facts


def group_entities(facts: list[Fact]) -> list[Entity]:
    """The facts gathered by what they are about, in the order of first appearance."""
    by_name: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        by_name.setdefault((fact.topic, fact.entity), []).append(fact)
    return [Entity(name, topic, tuple(known)) for (topic, name), known in by_name.items()]


def other_values(fact: Fact, facts: list[Fact]) -> list[str]:
    """The relation's other values: an answer that names one of them is wrong."""
    return sorted({other.value for other in facts if other.relation == fact.relation} - {fact.value})
