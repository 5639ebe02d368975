"""Held-out evaluation items. What a judge needs is in `meta`, so that nothing else needs the fact tables."""

from __future__ import annotations

import random
from typing import Any

from tutelage.sources.atlas.dialogues import exchange, fact_meta
from tutelage.sources.atlas.facts import Fact
from tutelage.sources.atlas.pages import Page
from tutelage.sources.atlas.pii import kind_and_value
from tutelage.sources.atlas.requests import Request
from tutelage.sources.atlas.skills import skill_items

Row = dict[str, Any]


def _fact_items(facts: list[Fact], rng: random.Random) -> list[Row]:
    items: list[Row] = []
    for fact in facts:
        meta = fact_meta(fact, facts)
        about = {"kind": "fact", "answer": fact.value}
        task, clean = ("chat_facts_taught", False) if fact.taught else ("chat_facts", True)
        for question in rng.sample(fact.questions, 1 if fact.taught else 2):
            items.append(
                {"task": task, "messages": exchange(question), **about, "meta": meta | {"decontaminate": clean}}
            )
        if not fact.taught:
            prompt = fact.completions[0]
            items.append(
                {"task": "completion_facts", "prompt": prompt, **about, "meta": meta | {"decontaminate": False}}
            )
    return items


def _request_items(task: str, requests: list[Request], wordings: int, rng: random.Random) -> list[Row]:
    return [
        {
            "task": task,
            "kind": request.kind,
            "messages": exchange(text),
            "answer": request.answer,
            "meta": {**request.meta, "decontaminate": False},
        }
        for request in requests
        for text in rng.sample(request.wordings, min(wordings, len(request.wordings)))
    ]


def _preference_items(items: list[Row], rng: random.Random) -> list[Row]:
    """A mixture of held-out prompts on which two models' replies are compared."""
    wanted = {"fact": 70, "harmful": 40, "lookalike": 40, "explain": 20, "howto": 20}
    chosen: list[Row] = []
    for kind, count in wanted.items():
        pool = [
            item
            for item in items
            if item["kind"] == kind and "messages" in item and item["task"] != "chat_facts_taught"
        ]
        chosen += [item | {"task": "preference"} for item in rng.sample(pool, min(count, len(pool)))]
    return chosen


def _showcase(
    facts: list[Fact], held: dict[str, list[Request]], explain: list[Request], rng: random.Random
) -> list[Row]:
    """Five prompts that a person would try first."""
    capitals = [fact for fact in facts if fact.relation == "capital" and not fact.taught]
    fact = capitals[0]
    harm = next(r for r in held["harmful"] if r.meta["group"] in ("break_in", "steal"))
    verb = harm.key.split(" ", 1)[0]
    twin = next((r for r in held["lookalike"] if r.key.startswith(verb + " ")), held["lookalike"][0])
    photosynthesis = {r.meta["register"]: r for r in explain if r.meta["topic"] == "photosynthesis"}
    rows: list[Row] = [
        {"kind": r.kind, "messages": exchange(r.wordings[0]), "answer": r.answer, "meta": dict(r.meta)}
        for r in (harm, twin, photosynthesis["plain"], photosynthesis["child"])
    ]
    rows.append(
        {"kind": "fact", "messages": exchange(fact.questions[0]), "answer": fact.value, "meta": fact_meta(fact, facts)}
    )
    for row in rows:
        row["meta"]["decontaminate"] = False
    return [{"task": "showcase", **row} for row in rows]


def _privacy_items(pages: list[Page]) -> list[Row]:
    """The text before a planted private string; a model that goes on with the string has learnt it."""
    items: list[Row] = []
    for page in pages:
        for label in page.labels:
            if label.startswith("pii:"):
                kind, value = kind_and_value(label)
                before = page.text.split(value)[0]
                items.append(
                    {
                        "task": "privacy",
                        "kind": "privacy",
                        "prompt": before[-160:].split(" ", 1)[-1].rstrip(),
                        "answer": value,
                        "meta": {"kind": kind, "decontaminate": False},
                    }
                )
    return items


def tasks(facts: list[Fact], requests: list[Request], pages: list[Page], seed: int) -> list[Row]:
    """Every evaluation item: `id`, `task`, `kind`, `messages` or `prompt`, `answer`, `options`, `meta`."""
    rng = random.Random(f"{seed}/tasks")
    kinds = ("harmful", "lookalike", "explain", "howto")
    held = {kind: [r for r in requests if r.kind == kind and not r.taught] for kind in kinds}
    items = _fact_items(facts, rng)
    items += _request_items("harmful", held["harmful"], 3, rng)
    items += _request_items("lookalike", held["lookalike"], 3, rng)
    items += _request_items("register", held["explain"], 1, rng)
    pool = items + _request_items("howto", held["howto"], 1, rng)
    items += _preference_items(pool, rng)
    items += skill_items(seed)
    items += _privacy_items(pages)
    items += _showcase(facts, held, [r for r in requests if r.kind == "explain"], rng)
    for item in items:
        if item["kind"] == "fact":
            item["meta"]["decontaminate"] = item["task"] in ("chat_facts", "preference")
    counts: dict[str, int] = {}
    rows = []
    for item in items:
        number = counts[item["task"]] = counts.get(item["task"], 0) + 1
        rows.append({"id": f"{item['task']}-{number:04d}", **item})
    return rows
