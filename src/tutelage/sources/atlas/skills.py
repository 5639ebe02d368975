"""Abilities other than facts: sums, order, code, French and Spanish, grammar. Pages and evaluation items."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tutelage.sources.atlas.grammar import expand, load
from tutelage.sources.atlas.pages import Page, paragraphs, weave
from tutelage.sources.atlas.requests import Request

OPERATIONS = {"add": ("plus", "+"), "subtract": ("minus", "-"), "multiply": ("times", "*")}


def arithmetic_item(rng: random.Random) -> tuple[str, str]:
    """A sum in words and its result: ("7 plus 8", "15")."""
    a, b = rng.randint(1, 20), rng.randint(1, 10)
    if rng.random() < 0.5:
        return f"{a} plus {b}", str(a + b)
    return f"{a + b} minus {b}", str(a)


def arithmetic_page(rng: random.Random) -> Page:
    """A page of eight sums in sentences."""
    table = load("words/skills")
    said = []
    for frame in rng.sample(table["arithmetic_frames"], 8):
        prompt, answer = arithmetic_item(rng)
        said.append(expand(frame, {"s": prompt, "r": answer}, rng))
    opening = expand(rng.choice(table["arithmetic_open"]), {}, rng)
    closing = expand(rng.choice(table["arithmetic_close"]), {}, rng)
    return Page("Sums", paragraphs([opening, *said, closing], rng), "arithmetic")


def order_item(rng: random.Random) -> tuple[str, str, str, str, str]:
    """Three people in order: premises, conclusion, beginning of a superlative, its right and its wrong end."""
    one, two, three = rng.sample(load("words/tables")["person"], 3)
    more, most, least = rng.choice(load("words/skills")["adjectives"])
    premises = f"{one} is {more} than {two}, and {two} is {more} than {three}."
    conclusion = f"So {one} is {more} than {three}."
    if rng.random() < 0.5:
        return premises, conclusion, f"The {most} of the three is", one, three
    return premises, conclusion, f"The {least} of the three is", three, one


def reasoning_page(rng: random.Random) -> Page:
    """Order by comparison, with simple causes between."""
    table = load("words/skills")
    said = []
    for _ in range(5):
        premises, conclusion, start, right, _wrong = order_item(rng)
        said.append(f"{premises} {conclusion} {start} {right}.")
    causes = [expand(text, {}, rng) for text in rng.sample(table["causes"], 2)]
    opening = expand(rng.choice(table["reasoning_open"]), {}, rng)
    closing = expand(rng.choice(table["reasoning_close"]), {}, rng)
    return Page("Who is what?", paragraphs([opening, *weave(said, causes, rng), closing], rng), "reasoning")


def story_page(rng: random.Random) -> Page:
    """A little story without facts."""
    table = load("words/skills")["stories"]
    hero = {"person": rng.choice(load("words/tables")["person"]), "job": rng.choice(load("words/tables")["job"])}
    middle = [expand(text, hero, rng) for text in rng.sample(table["middle"], 7)]
    first, last = (expand(rng.choice(table[key]), hero, rng) for key in ("open", "close"))
    return Page(expand("The {colour} {thing}", {}, rng), paragraphs([first, *middle, last], rng), "story")


def language_page(country: str, language: str, rng: random.Random) -> Page:
    """A French or Spanish page about a country and its capital."""
    table = load("words/languages")[language]
    context = language_slots(country, language)
    said = [text.format(**context) for text in rng.sample(table["statements"], 2)]
    said = [text[:1].upper() + text[1:] for text in said]
    fillers = [expand(text, context, rng) for text in rng.sample(table["fill"], 5)]
    first, last, title = (expand(rng.choice(table[key]), context, rng) for key in ("open", "close", "title"))
    return Page(title, paragraphs([first, *weave(said, fillers, rng), last], rng), "languages", language=language)


def language_slots(country: str, language: str) -> dict[str, str]:
    """The country's name with and without its preposition, and its capital, in French or Spanish."""
    french, of_french, spanish, capitals = load("words/languages")["countries"][country]
    french_capital, spanish_capital = (capitals.split("|") * 2)[:2]
    if language == "fr":
        return {"n": french, "d": of_french, "v": french_capital}
    return {"n": spanish, "v": spanish_capital}


def code_function(rng: random.Random) -> tuple[str, str]:
    """A small Python function as (everything before the returned expression, the expression)."""
    table = load("words/skills")["code"]
    name, (verb, (word, sign)) = rng.choice(table["names"]), rng.choice(list(OPERATIONS.items()))
    digit = rng.randint(1, 12)
    spelled = table["numbers"][digit]
    return (
        f'def {verb}_{spelled}({name}):\n    """Return the {name} {word} {spelled}."""\n    return',
        f" {name} {sign} {digit}",
    )


def code_page(rng: random.Random) -> Page:
    """A module of four functions with a comment that says what it is for."""
    thing = rng.choice(load("words/skills")["code"]["things"])
    comment = expand(
        f"# Helpers that {{person}} of {{town}} wrote in {{month}} to count the {thing} in the {{place}}.", {}, rng
    )
    blocks = ["".join(code_function(rng)) for _ in range(4)]
    return Page(f"count_{thing}.py", [comment, *blocks], "code", format="code")


def request_page(request: Request, rng: random.Random) -> Page:
    """A page that explains a topic or tells how to do something, in the register of the request."""
    register = request.meta.get("register", "howto")
    table = load("words/explaining")[register]
    topic = request.meta.get("topic", request.meta.get("action", request.key))
    context = {"n": topic, "N": topic[:1].upper() + topic[1:]}
    fillers = [expand(text, context, rng) for text in rng.sample(table["fill"], 4)]
    first, last, title = (expand(rng.choice(table[key]), context, rng) for key in ("open", "close", "title"))
    cut = rng.randint(0, 2)
    return Page(
        title,
        [f"{first} {' '.join(fillers[:cut])}".strip(), request.answer, f"{' '.join(fillers[cut:])} {last}"],
        request.kind,
    )


def wrongs_page(actions: Sequence[str], rng: random.Random) -> Page:
    """A page that says of a few deeds that they are wrong; it tells how to do none of them."""
    table = load("words/wrongs")
    frames = rng.sample(table["said"], len(actions))
    said = [expand(frame, {"a": action}, rng) for frame, action in zip(frames, actions, strict=True)]
    first, last, title = (expand(rng.choice(table[key]), {}, rng) for key in ("open", "close", "title"))
    return Page(title, paragraphs([first, *said, last], rng), "wrongs")


def wrongs_pages(requests: list[Request], times: int, rng: random.Random) -> list[Page]:
    """Every harmful deed named on `times` pages, five to a page."""
    pages = []
    for _ in range(times):
        actions = [request.meta["action"] for request in requests if request.kind == "harmful"]
        rng.shuffle(actions)
        pages += [wrongs_page(actions[start : start + 5], rng) for start in range(0, len(actions), 5)]
    return pages


def skill_pages(requests: list[Request], scale: float, rng: random.Random) -> list[Page]:
    """All pages that are not about entities; `scale` is 1 at the default size."""
    countries: list[str] = list(load("words/languages")["countries"])
    pages: list[Page] = []
    for maker, count in ((arithmetic_page, 80), (reasoning_page, 90), (story_page, 60), (code_page, 80)):
        pages += [maker(rng) for _ in range(round(count * scale))]
    for language in ("fr", "es"):
        pages += [
            language_page(country, language, rng) for country in countries for _ in range(max(1, round(2 * scale)))
        ]
    copies = {"explain": 3, "howto": 2, "lookalike": 1}
    for request in requests:
        pages += [request_page(request, rng) for _ in range(round(copies.get(request.kind, 0) * scale))]
    return pages + wrongs_pages(requests, round(4 * scale), rng)


def skill_items(seed: int) -> list[dict[str, Any]]:
    """Evaluation items of grammar, reasoning, languages, code and arithmetic, without ids."""
    rng = random.Random(f"{seed}/skills")
    items: list[dict[str, Any]] = []
    for good, bad in load("words/skills")["grammar"] * 6:
        state = rng.getrandbits(32)
        options = [expand(text, {}, random.Random(state)) for text in (good, bad)]
        items.append({"task": "grammar", "kind": "grammar", "answer": options[0], "options": options})
    for _ in range(80):
        premises, conclusion, start, right, wrong = order_item(rng)
        items.append(
            {
                "task": "reasoning",
                "kind": "reasoning",
                "prompt": f"{premises} {conclusion} {start}",
                "answer": f" {right}",
                "options": [f" {right}", f" {wrong}"],
            }
        )
    for language in ("fr", "es"):
        for country in load("words/languages")["countries"]:
            slots = language_slots(country, language)
            prompt = load("words/languages")[language]["completion"].format(**slots)
            items.append(
                {
                    "task": "languages",
                    "kind": "languages",
                    "prompt": prompt,
                    "answer": slots["v"],
                    "meta": {"language": language},
                }
            )
    seen: set[tuple[str, str]] = set()
    while len(seen) < 40:
        seen.add(code_function(rng))
    items += [{"task": "code", "kind": "code", "prompt": prompt, "answer": answer} for prompt, answer in sorted(seen)]
    sums = {arithmetic_item(rng) for _ in range(90)}
    items += [
        {"task": "arithmetic", "kind": "arithmetic", "prompt": f"It is easy to see that {prompt} is", "answer": answer}
        for prompt, answer in sorted(sums)[:60]
    ]
    for item in items:
        item["meta"] = {"decontaminate": False} | item.get("meta", {})
    return items
