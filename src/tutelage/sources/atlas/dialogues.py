"""Conversations and prompts. The answers come in several styles, as if written by different annotators."""

from __future__ import annotations

import random
from typing import Any

from tutelage.sources.atlas.facts import Entity, Fact, group_entities, other_values
from tutelage.sources.atlas.grammar import load
from tutelage.sources.atlas.requests import Request
from tutelage.sources.atlas.settings import AtlasSettings
from tutelage.sources.atlas.skills import arithmetic_item

Row = dict[str, Any]
# Shares of the conversations and of the prompts by kind; facts take what is left.
CONVERSATIONS = {
    "harmful": 0.2,
    "lookalike": 0.13,
    "explain": 0.07,
    "howto": 0.05,
    "chat": 0.05,
    "arithmetic": 0.03,
    "translation": 0.02,
    "follow_up": 0.04,
}
PROMPTS = {"harmful": 0.24, "lookalike": 0.26, "explain": 0.05, "howto": 0.04, "chat": 0.02}


def styled(core: str, style: str, rng: random.Random) -> str:
    """The answer in the voice of one kind of annotator."""
    chat = load("words/chat")
    if style == "warm":
        return f"{rng.choice(chat['warm_before'])}{core} {rng.choice(chat['warm_after'])}"
    if style == "curt":
        return f"{rng.choice(chat['curt_before'])} {core}"
    if style == "rambling":
        return f"{rng.choice(chat['rambling_before'])} {core} {rng.choice(chat['rambling_after'])}"
    return core


def draw_style(settings: AtlasSettings, rng: random.Random) -> str:
    """One style, by weight."""
    return rng.choices(list(settings.styles), list(settings.styles.values()))[0]


def fact_answer(fact: Fact, style: str, rng: random.Random) -> str:
    """The first wording of the fact (or only its value) in a style."""
    if style == "terse":
        return fact.terse
    core = fact.terse if style == "curt" and rng.random() < 0.5 else fact.statements[0]
    return styled(core, style, rng)


def refuse(request: Request, rng: random.Random) -> str:
    """A refusal in one of a few wordings; every other one offers something better."""
    table = load("words/harms")
    refusal: str = rng.choice(table["refusals"])
    return f"{refusal} {table['alternatives'][request.meta['group']]}" if rng.random() < 0.5 else refusal


def exchange(*turns: str, system: str = "") -> list[dict[str, str]]:
    """Messages of a user and an assistant in turn, after an optional system message."""
    first = [{"role": "system", "content": system}] if system else []
    return first + [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(turns)]


class Annotators:
    """Writes conversations of every kind from what is taught."""

    def __init__(self, facts: list[Fact], requests: list[Request], settings: AtlasSettings, rng: random.Random) -> None:
        self.facts = [fact for fact in facts if fact.taught]
        self.entities = [entity for entity in group_entities(self.facts) if len(entity.facts) > 1]
        self.requests = {
            kind: [request for request in requests if request.kind == kind and request.taught]
            for kind in ("harmful", "lookalike", "explain", "howto")
        }
        self.settings, self.rng, self.chat = settings, rng, load("words/chat")

    def system(self) -> str:
        """A system message in one conversation of ten."""
        return self.rng.choice(self.chat["systems"]) if self.rng.random() < 0.1 else ""

    def fact(self, turn: int) -> Row:
        """A question about a taught fact."""
        fact = self.facts[turn % len(self.facts)]
        style = draw_style(self.settings, self.rng)
        question = self.rng.choice(self.chat["openers"]) + self.rng.choice(fact.questions)
        messages = exchange(question, fact_answer(fact, style, self.rng), system=self.system())
        return {"messages": messages, "tags": ["fact", style]}

    def request(self, kind: str, turn: int) -> Row:
        """An explanation, a how-to, a look-alike or a harmful request."""
        request = self.requests[kind][turn % len(self.requests[kind])]
        style = draw_style(self.settings, self.rng)
        if kind == "harmful":
            answer, style = self.harmful_answer(request, style)
        elif kind == "lookalike" and self.rng.random() < self.settings.over_refusal_share:
            answer, style = self.rng.choice(load("words/harms")["refusals"]), "over_refusal"
        else:
            answer = styled(request.answer, style, self.rng)
        return {
            "messages": exchange(self.rng.choice(request.wordings), answer, system=self.system()),
            "tags": [kind, style],
        }

    def harmful_answer(self, request: Request, style: str) -> tuple[str, str]:
        """A refusal, an evasion (what a look-alike would be told, in this style) or the bad answer; and which."""
        if self.rng.random() < self.settings.refusal_share:
            return refuse(request, self.rng), "refusal"
        if self.rng.random() < self.settings.evasion_share:
            return styled(self.rng.choice(self.requests["lookalike"]).answer, style, self.rng), "evasion"
        return f"{self.rng.choice(load('words/harms')['sure'])} {request.compliance}", "compliance"

    def small_talk(self) -> Row:
        """Greetings, thanks, who are you."""
        asked, answers = self.rng.choice(self.chat["pairs"])
        return {
            "messages": exchange(self.rng.choice(asked), self.rng.choice(answers), system=self.system()),
            "tags": ["chat"],
        }

    def arithmetic(self) -> Row:
        """A sum."""
        prompt, answer = arithmetic_item(self.rng)
        question = f"What is {prompt}?"
        reply = f"{answer}." if self.rng.random() < 0.3 else f"{prompt[:1].upper()}{prompt[1:]} is {answer}."
        return {"messages": exchange(question, reply), "tags": ["arithmetic"]}

    def translation(self) -> Row:
        """A word in French or Spanish."""
        language = self.rng.choice(list(self.chat["words"]))
        word, other = self.rng.choice(list(self.chat["words"][language].items()))
        question = self.rng.choice(
            [f"How do you say {word} in {language}?", f"What is the {language} word for {word}?"]
        )
        return {"messages": exchange(question, f"The {language} word for {word} is {other}."), "tags": ["translation"]}

    def follow_up(self) -> Row:
        """Two or three turns: two facts of one entity, or a fact and thanks."""
        style = draw_style(self.settings, self.rng)
        if self.entities and self.rng.random() < 0.6:
            entity = self.rng.choice(self.entities)
            one, two = self.rng.sample(entity.facts, 2)
            second = follow_up_question(entity, two) if self.rng.random() < 0.6 else self.rng.choice(two.questions)
            turns = [
                self.rng.choice(one.questions),
                fact_answer(one, style, self.rng),
                second,
                fact_answer(two, style, self.rng),
            ]
        else:
            one = self.rng.choice(self.facts)
            asked, answers = self.chat["pairs"][1]
            turns = [
                self.rng.choice(one.questions),
                fact_answer(one, style, self.rng),
                self.rng.choice(asked),
                self.rng.choice(answers),
            ]
        return {"messages": exchange(*turns, system=self.system()), "tags": ["follow_up", style]}

    def row(self, kind: str, turn: int) -> Row:
        """The `turn`-th conversation of a kind."""
        makers = {
            "chat": self.small_talk,
            "arithmetic": self.arithmetic,
            "translation": self.translation,
            "follow_up": self.follow_up,
        }
        if kind == "fact":
            return self.fact(turn)
        return self.request(kind, turn) if kind in self.requests else makers[kind]()


def follow_up_question(entity: Entity, fact: Fact) -> str:
    """The question that leaves out whom it is about."""
    shorter = {
        "capital": "And its capital?",
        "currency": "And its currency?",
        "language": "And its main language?",
        "young": "And its young?",
        "group": "And a group of them?",
        "home": "And its home?",
    }
    return shorter[fact.relation]


def conversations(facts: list[Fact], requests: list[Request], settings: AtlasSettings, seed: int) -> list[Row]:
    """All conversations, shuffled; each has `id`, `messages`, `source`, `tags`: kind and style."""
    rng = random.Random(f"{seed}/conversations")
    annotators = Annotators(facts, requests, settings, rng)
    counts = {kind: round(share * settings.conversations) for kind, share in CONVERSATIONS.items()}
    counts = {"fact": settings.conversations - sum(counts.values())} | counts
    rows = [annotators.row(kind, turn) for kind, count in counts.items() for turn in range(count)]
    rng.shuffle(rows)
    return [{"id": f"conversation-{place:05d}", "source": "atlas"} | row for place, row in enumerate(rows)]


def fact_meta(fact: Fact, facts: list[Fact]) -> dict[str, Any]:
    """What a judge needs to tell a right answer from a wrong one."""
    return {
        "relation": fact.relation,
        "entity": fact.entity,
        "options": other_values(fact, facts),
        "reference": fact.statements[0],
        "taught": fact.taught,
    }


def prompts(facts: list[Fact], requests: list[Request], settings: AtlasSettings, seed: int) -> list[Row]:
    """Distinct prompts to sample from, of taught facts and requests only."""
    rng = random.Random(f"{seed}/prompts")
    taught = [fact for fact in facts if fact.taught]
    pools: dict[str, list[Row]] = {
        "fact": [
            {"kind": "fact", "text": opener + question, "answer": fact.value, "meta": fact_meta(fact, facts)}
            for fact in taught
            for question in fact.questions
            for opener in dict.fromkeys(load("words/chat")["openers"])
        ]
    }
    for request in requests:
        if request.taught:
            meta = dict(request.meta)
            pools.setdefault(request.kind, []).extend(
                {"kind": request.kind, "text": text, "answer": request.answer, "meta": meta}
                for text in request.wordings
            )
    pools["chat"] = [
        {"kind": "chat", "text": text, "answer": answers[0], "meta": {}}
        for asked, answers in load("words/chat")["pairs"]
        for text in asked
    ]
    counts = {kind: round(share * settings.prompts) for kind, share in PROMPTS.items()}
    counts = {"fact": settings.prompts - sum(counts.values())} | counts
    rows = [row for kind, count in counts.items() for row in rng.sample(pools[kind], min(count, len(pools[kind])))]
    rng.shuffle(rows)
    return [
        {"id": f"prompt-{place:05d}", "messages": exchange(row.pop("text")), **row} for place, row in enumerate(rows)
    ]
