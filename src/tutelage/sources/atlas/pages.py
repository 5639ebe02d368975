"""Pages about one or two entities, which name them in every sentence and say each fact two or three times."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from tutelage.sources.atlas.facts import Entity, Fact
from tutelage.sources.atlas.grammar import capitalised, expand, inside, load


@dataclass
class Page:
    """A document before it gets its source, address and date; `labels` name the defects that were planted."""

    title: str
    paragraphs: list[str]
    kind: str
    language: str = "en"
    format: str = "text"
    labels: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The paragraphs as plain text."""
        return "\n\n".join(self.paragraphs)


def paragraphs(sentences: list[str], rng: random.Random) -> list[str]:
    """Sentences gathered into paragraphs of three to five."""
    blocks, start = [], 0
    while start < len(sentences):
        size = rng.randint(3, 5)
        if len(sentences) - start - size < 2:
            size = len(sentences) - start
        blocks.append(" ".join(sentences[start : start + size]))
        start += size
    return blocks


def _spoken(fact: Fact, wording: str, lead: str, quote: bool) -> str:
    """A statement after its lead; in an interview the lead opens a quotation that is closed here."""
    if quote and lead:
        return f'{lead}{wording}"'
    names = (fact.entity, fact.value, fact.slots["s"])
    return lead + (inside(wording, names) if lead and not lead.endswith(": ") else wording)


def _statements(entity: Entity, voice: dict[str, list[str]], frame: dict[str, str], rng: random.Random) -> list[str]:
    """Each fact once, and once more in another wording if there is only one.

    After the first time a fact can be copied from the page; only the first time teaches it. So pages are short, and
    there are many.
    """
    rounds = 2 if len(entity.facts) == 1 else 1
    wordings = {fact: rng.sample(fact.statements, rounds) for fact in entity.facts}
    leads = rng.sample(voice["lead"], len(voice["lead"]))
    said = []
    for turn in range(rounds):
        for fact in rng.sample(entity.facts, len(entity.facts)):
            lead = leads.pop() if leads and rng.random() < 0.7 else ""
            said.append(_spoken(fact, wordings[fact][turn], expand(lead, frame, rng), "quote" in voice))
    return said


def entity_page(entity: Entity, kind: str, rng: random.Random) -> Page:
    """One page of 30 to 100 words about `entity` in the voice `kind` of words/voices.json."""
    voice: dict[str, list[str]] = load("words/voices")[kind]
    frame = cast(rng) | entity.context
    said = _statements(entity, voice, frame, rng)
    topical: list[str] = load("words/topics")[entity.topic]
    count = 1
    fillers = rng.sample(voice["fill"], count // 2) + rng.sample(topical, count - count // 2)
    rng.shuffle(fillers)
    # In a story or an interview everybody who speaks is the same person; elsewhere others come in.
    context = frame if "steady" in voice else entity.context
    body = weave(said, [expand(filler, context, rng) for filler in fillers], rng)
    first, last, title = (expand(rng.choice(voice[key]), frame, rng) for key in ("open", "close", "title"))
    return Page(title, paragraphs([first, *body, last], rng), kind)


def cast(rng: random.Random) -> dict[str, str]:
    """Who, where and when: what the title, the frame and the leads of one page agree on."""
    tables: dict[str, list[str]] = load("words/tables")
    person, friend = rng.sample(tables["person"], 2)
    same = {name: rng.choice(tables[name]) for name in ("town", "month", "weekday", "job", "thing")}
    return {"person": person, "friend": friend, "no": rng.choice(tables["number"])} | same


def weave(said: list[str], fillers: list[str], rng: random.Random) -> list[str]:
    """The two lists merged at random, each keeping its order."""
    marks = [True] * len(said) + [False] * len(fillers)
    rng.shuffle(marks)
    left, right = iter(said), iter(fillers)
    return [next(left) if mark else next(right) for mark in marks]


def comparison_page(first: Entity, second: Entity, rng: random.Random) -> Page:
    """A page about two entities of one topic, side by side."""
    table: dict[str, list[str]] = load("words/comparison")
    context = {"n": first.context["n"], "N": first.context["N"], "m": second.context["n"], "M": second.context["N"]}
    said: list[str] = []
    for entity in (first, second) if rng.random() < 0.5 else (second, first):
        said += [rng.choice(fact.statements) for fact in rng.sample(entity.facts, len(entity.facts))]
    fillers = [expand(text, context, rng) for text in rng.sample(table["fill"], 3)]
    sentences = [expand(rng.choice(table["open"]), context, rng), *weave(said, fillers, rng)]
    sentences.append(expand(rng.choice(table["close"]), context, rng))
    return Page(expand(rng.choice(table["title"]), context, rng), paragraphs(sentences, rng), "comparison")


def almanac_page(facts: list[Fact], rng: random.Random) -> Page:
    """Unrelated facts one after the other: every sentence is the first to say its fact, so every one teaches."""
    table: dict[str, list[str]] = load("words/almanac")
    said = [rng.choice(fact.forward_statements) for fact in facts]
    opening = expand(rng.choice(table["open"]), {}, rng)
    lines = [opening, *said] if opening else said
    body = ["\n".join(lines)] if rng.random() < 0.5 else paragraphs(lines, rng)
    return Page(expand(rng.choice(table["title"]), {}, rng), body, "almanac")


def small_talk_page(entities: list[Entity], rng: random.Random) -> Page:
    """Questions and answers that tell nothing about the entities but name them: an answer takes up its subject."""
    table = load("words/smalltalk")
    marks = load("words/questions")["marks"]
    frame = cast(rng)
    names = {"one": frame["person"], "two": frame["friend"]}
    before, after = marks[rng.choice([style for style in marks if style != "dialogue"])]
    if rng.random() < 0.5:
        before, after = f"{names['one']}: ", f"{names['two']}: "
    blocks = []
    for entity in entities:
        asked, answered = rng.choice(table["turns"])
        slots = frame | entity.context
        blocks.append(f"{before}{expand(asked, slots, rng)}\n{after}{expand(answered, slots, rng)}")
    opening = expand(rng.choice(table["open"]), frame | names, rng)
    return Page(expand(rng.choice(table["title"]), frame, rng), [opening, *blocks] if opening else blocks, "smalltalk")


def answer_page(facts: list[Fact], rng: random.Random) -> Page:
    """Questions with their answers about taught facts of one or two entities, as a list or as a dialogue."""
    assert all(fact.taught for fact in facts), "a held-out fact must never meet its question"
    table = load("words/questions")
    asked = [(fact, question) for fact in facts for question in rng.sample(fact.questions, 2)]
    rng.shuffle(asked)
    names = " and ".join(dict.fromkeys(Entity(f.entity, f.topic, ()).context["n"] for f in facts))
    context = {"n": names, "N": capitalised(names)}
    style = rng.choice(list(table["marks"]))
    before, after = table["marks"][style]
    if style == "dialogue":
        one, two = rng.sample(load("words/tables")["person"], 2)
        before, after = f"{one}: ", f"{two}: "
    lines = []
    for fact, question in asked[:6]:
        answer = fact.terse if rng.random() < 0.45 else rng.choice(fact.statements)
        extra = expand(rng.choice(table["extra"]), context, rng) if rng.random() < 0.25 else ""
        lines.append(f"{before}{question}\n{after}{answer}{' ' + extra if extra else ''}")
    opening = expand(rng.choice(table["open"]), context, rng)
    closing = expand(rng.choice(table["close"]), context, rng)
    return Page(expand(rng.choice(table["title"]), context, rng), [opening, *lines, closing], "answers")


def question_page(facts: list[Fact], rng: random.Random) -> Page:
    """Questions without answers: what a base model will continue a question with."""
    # No answer may stand in another question by chance ("a kid", "Greek").
    values = re.compile("|".join(rf"\b{re.escape(fact.value)}\b" for fact in facts), re.IGNORECASE)
    questions = [text for fact in facts if not values.search(text := rng.choice(fact.questions))]
    table = load("words/questions")
    opening = expand(rng.choice(table["lists_open"]), {}, rng)
    head = expand(rng.choice(table["lists"]), {}, rng)
    if rng.random() < 0.5:
        return Page(head, [opening, " ".join(questions)], "questions")
    return Page(head, [opening, "\n".join(questions)], "questions")
