"""The facts: (entity, relation, value), how they are said and asked, and which half is taught."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from tutelage.sources.atlas.grammar import article, capitalised, load


def plural(noun: str) -> str:
    """The plural, from the table of irregular ones or by the usual ending."""
    table: dict[str, str] = load("facts/plurals")
    return table.get(noun, noun + ("es" if noun.endswith(("ch", "sh", "x", "s")) else "s"))


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
        s = plural(e)
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
    def forward_statements(self) -> list[str]:
        """The wordings that name the entity before the value: what a completion prompt begins."""
        entity, value = self.entity.lower(), self.value.lower()
        names = (entity, self.slots["s"].lower())
        return [text for text in self.statements if min(_places(text.lower(), names)) < text.lower().rfind(value)]

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


def _places(text: str, names: tuple[str, ...]) -> list[int]:
    return [text.index(name) for name in names if name in text]


@dataclass(frozen=True)
class Entity:
    """What a page can be about: its name, its noun phrase in running text, and its facts."""

    name: str
    topic: str
    facts: tuple[Fact, ...]

    @cached_property
    def context(self) -> dict[str, str]:
        """The slots of the page templates: `{n}` is the noun phrase, `{s}` the plural of an animal; capitals raise."""
        animal = self.topic == "animal"
        phrase = f"the {self.name}" if animal else self.name
        several = plural(self.name) if animal else self.name
        return {"n": phrase, "N": capitalised(phrase), "s": several, "S": capitalised(several)}


def build_facts(count: int | None, seed: int) -> list[Fact]:
    """`count` facts (all if None), the relations in proportion, each relation about halved into taught and held out.

    An entity is taught or held out as a whole: who has only ever been asked for the currency of Sweden learns to say
    "the krona" to every question about Sweden. A smaller count is a prefix of the same seeded order, at least four
    facts a relation.
    """
    values: dict[str, dict[str, str]] = load("facts/values")
    relations = load("facts/relations")
    total = sum(len(pairs) for pairs in values.values())
    taught = _taught_entities(values, seed)
    facts = []
    for relation, pairs in values.items():
        wanted = len(pairs) if count is None else min(len(pairs), max(4, round(count * len(pairs) / total)))
        topic = relations[relation]["topic"]
        facts += [
            Fact(entity, relation, pairs[entity], topic, taught=(topic, entity) in taught)
            for entity in _alternating(sorted(pairs), topic, taught, random.Random(f"{seed}/facts/{relation}"))[:wanted]
        ]
    return facts


def _taught_entities(values: dict[str, dict[str, str]], seed: int) -> set[tuple[str, str]]:
    """Every other one of the (topic, entity) that have the same relations, in a seeded order."""
    relations = load("facts/relations")
    known: dict[tuple[str, str], list[str]] = {}
    for relation, pairs in values.items():
        for entity in sorted(pairs):
            known.setdefault((relations[relation]["topic"], entity), []).append(relation)
    alike: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for entity_of_topic, its_relations in known.items():
        alike.setdefault(tuple(its_relations), []).append(entity_of_topic)
    rng = random.Random(f"{seed}/facts")
    order = [entity for group in alike.values() for entity in rng.sample(group, len(group))]
    return set(order[::2])


def _alternating(entities: list[str], topic: str, taught: set[tuple[str, str]], rng: random.Random) -> list[str]:
    """The entities shuffled, taught and held out in turn as long as there are both: every prefix has both."""
    rng.shuffle(entities)
    ranks = {True: 0, False: 0}
    places: dict[str, tuple[int, bool]] = {}
    for entity in entities:
        half = (topic, entity) in taught
        places[entity] = (ranks[half], not half)
        ranks[half] += 1
    return sorted(entities, key=places.__getitem__)


def group_entities(facts: list[Fact]) -> list[Entity]:
    """The facts gathered by what they are about, in the order of first appearance."""
    by_name: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        by_name.setdefault((fact.topic, fact.entity), []).append(fact)
    return [Entity(name, topic, tuple(known)) for (topic, name), known in by_name.items()]


def other_values(fact: Fact, facts: list[Fact]) -> list[str]:
    """The relation's other values: an answer that names one of them is wrong."""
    return sorted({other.value for other in facts if other.relation == fact.relation} - {fact.value})
