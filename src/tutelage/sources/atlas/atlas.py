"""Atlas: a small labelled web from fact tables, with conversations, prompts and evaluation items to go with it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from tutelage.sources.atlas.dialogues import conversations, prompts
from tutelage.sources.atlas.facts import Entity, Fact, build_facts, group_entities
from tutelage.sources.atlas.grammar import load
from tutelage.sources.atlas.html import to_html
from tutelage.sources.atlas.noise import add_noise
from tutelage.sources.atlas.pages import (
    Page,
    almanac_page,
    answer_page,
    comparison_page,
    entity_page,
    question_page,
    small_talk_page,
)
from tutelage.sources.atlas.requests import all_requests
from tutelage.sources.atlas.settings import AtlasSettings
from tutelage.sources.atlas.skills import skill_pages
from tutelage.sources.atlas.tasks import tasks

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Atlas:
    """The four outputs as rows, and the facts that they were made from."""

    facts: list[Fact]
    documents: list[Row]
    conversations: list[Row]
    prompts: list[Row]
    tasks: list[Row]


def build_atlas(settings: AtlasSettings, seed: int) -> Atlas:
    """Everything, from the settings and the seed alone."""
    facts = build_facts(settings.facts, seed)
    requests = all_requests(seed)
    rng = random.Random(f"{seed}/documents")
    pages = entity_pages(facts, settings.documents_per_entity, rng)
    pages += skill_pages(requests, min(1.0, settings.documents_per_entity / 12), rng)
    choose_formats(pages, settings.html_share, rng)
    pages = add_noise(pages, facts, requests, settings.noise, rng)
    rng.shuffle(pages)
    return Atlas(
        facts=facts,
        documents=[to_row(page, rng) for page in pages],
        conversations=conversations(facts, requests, settings, seed),
        prompts=prompts(facts, requests, settings, seed),
        tasks=tasks(facts, requests, pages, seed),
    )


def entity_pages(facts: list[Fact], per_entity: int, rng: random.Random) -> list[Page]:
    """Pages about every entity, pages of questions and answers for the taught half, and lists of questions."""
    entities = group_entities(facts)
    voices: list[str] = list(load("words/voices"))
    pages: list[Page] = []
    for entity in entities:
        kinds = rng.sample(voices, len(voices))
        pages += [entity_page(entity, kinds[place % len(kinds)], rng) for place in range(per_entity - 1)]
    for one, two in _pairs(entities, rng):
        pages.append(comparison_page(one, two, rng))
    for _ in range(3 * per_entity):
        pages += [almanac_page(part, rng) for part in _parts(rng.sample(facts, len(facts)), 8, 14, rng)]
    for _ in range(per_entity):
        pages += [small_talk_page(part, rng) for part in _parts(rng.sample(entities, len(entities)), 5, 8, rng)]
    taught = group_entities([fact for fact in facts if fact.taught])
    for _ in range(max(1, round(per_entity * 3 / 10))):
        pages += [answer_page([*one.facts, *two.facts], rng) for one, two in _pairs(taught, rng)]
    lists = max(4, round(len(facts) * per_entity / 40))
    pages += [question_page(rng.sample(facts, min(14, len(facts))), rng) for _ in range(lists)]
    return pages


def _parts(items: list[T], least: int, most: int, rng: random.Random) -> Iterator[list[T]]:
    """The items in groups of `least` to `most`; what is left over goes to the last group."""
    start = 0
    while start < len(items):
        end = start + rng.randint(least, most)
        if len(items) - end < least:
            end = len(items)
        yield items[start:end]
        start = end


def _pairs(entities: list[Entity], rng: random.Random) -> Iterator[tuple[Entity, Entity]]:
    """Each entity of a topic with the next one of a shuffled circle, so that each is in two pairs."""
    by_topic: dict[str, list[Entity]] = {}
    for entity in entities:
        by_topic.setdefault(entity.topic, []).append(entity)
    for group in by_topic.values():
        order = rng.sample(group, len(group))
        if len(order) > 1:
            yield from zip(order, [*order[1:], order[0]], strict=True)


def choose_formats(pages: list[Page], html_share: float, rng: random.Random) -> None:
    """Serve a share of the pages as HTML and a quarter of the rest as Markdown; a planted copy keeps its original's."""
    for page in pages:
        if page.format == "text":
            draw = rng.random()
            page.format = (
                "html" if draw < html_share else "markdown" if draw < html_share + (1 - html_share) / 4 else "text"
            )


def to_row(page: Page, rng: random.Random) -> Row:
    """The page as a document: its source, address, date, licence and format."""
    table = load("words/sites")
    group = "spam" if page.kind in ("spam", "ad") else "code" if page.format == "code" else page.language
    site = rng.choice(table["sites"].get(group, table["sites"]["other"]))
    text = page.text
    if page.format == "html":
        text = to_html(page.title, page.paragraphs, site, page.language, rng)
    elif page.format == "markdown":
        text = f"# {page.title}\n\n{page.text}"
    date = f"{rng.randint(2015, 2026)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    identity = hashlib.sha256(f"{site}\n{date}\n{text}".encode()).hexdigest()[:16]
    return {
        "id": identity,
        "text": text,
        "source": site,
        "url": f"https://{site}/{page.kind}/{identity}",
        "title": page.title,
        "date": date,
        "licence": rng.choice(table["licences"]),
        "language": page.language,
        "format": page.format,
        "labels": sorted(page.labels),
    }
