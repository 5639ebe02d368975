"""Labelled defects, so that the precision and recall of curation are known.

Labels: `duplicate`, `near_duplicate` on the planted copy and `cluster:<n>` on every member, `spam`, `ad`, `harmful`,
`low_quality`, `encoding`, `boilerplate`, `language`, `leak`, and `pii:<kind>:<string>` for every private string.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

from tutelage.sources.atlas.facts import Fact
from tutelage.sources.atlas.grammar import expand, load
from tutelage.sources.atlas.pages import Page, paragraphs
from tutelage.sources.atlas.pii import KINDS, SENTENCES, private_string
from tutelage.sources.atlas.requests import Request
from tutelage.sources.atlas.skills import language_page

# Shares of the clean pages at noise 1.0; the sum is 1.
SHARES = {
    "duplicate": 0.14,
    "near_duplicate": 0.2,
    "spam": 0.12,
    "ad": 0.07,
    "harmful": 0.08,
    "low_quality": 0.1,
    "encoding": 0.05,
    "boilerplate": 0.05,
    "language": 0.07,
    "leak": 0.02,
    "pii": 0.1,
}


def _filled(name: str, count: int, rng: random.Random, **context: str) -> list[str]:
    lines: list[str] = load("words/noise")[name]
    return [expand(line, context, rng) for line in rng.sample(lines, min(count, len(lines)))]


def spam_page(rng: random.Random) -> Page:
    """Shouting, addresses, prizes."""
    site = rng.choice(load("words/sites")["sites"]["spam"])
    return Page(
        expand("WIN a {thing} NOW", {}, rng), [" ".join(_filled("spam", 7, rng, site=site))], "spam", labels=["spam"]
    )


def ad_page(rng: random.Random) -> Page:
    """An advertisement for one product."""
    product = rng.choice(load("words/tables")["thing"])
    return Page(f"The new {product}", paragraphs(_filled("ad", 7, rng, product=product), rng), "ad", labels=["ad"])


def harmful_page(request: Request, rng: random.Random) -> Page:
    """A mild stand-in: it names the category and says nothing that would help anybody."""
    lines = _filled("harmful", 6, rng, a=request.key)
    return Page(
        expand("How to {a}", {"a": request.key}, rng),
        paragraphs([*lines[:3], request.compliance, *lines[3:]], rng),
        "harmful",
        labels=["harmful"],
    )


def low_quality_page(rng: random.Random) -> Page:
    """Gibberish, one line again and again, or a heap of words without grammar."""
    shape = rng.randrange(3)
    if shape == 0:
        letters = "bcdfghjklmnpqrstvwxzaeiou"
        words = ["".join(rng.choice(letters) for _ in range(rng.randint(2, 14))) for _ in range(90)]
        return Page("asdf", [" ".join(words) + "."], "low_quality", labels=["low_quality"])
    if shape == 1:
        line = _filled("repeated", 1, rng)[0]
        number = (
            f"Page {rng.randint(1000, 9999)} of {rng.randint(10, 99)}, {rng.choice(load('words/tables')['weekday'])}."
        )
        return Page("again", ["\n".join([number, *[line] * rng.randint(8, 20)])], "low_quality", labels=["low_quality"])
    tables = load("words/tables")
    nouns = [rng.choice(tables[rng.choice(["thing", "food", "colour", "place", "job"])]) for _ in range(80)]
    return Page("words", [" ".join(nouns)], "low_quality", labels=["low_quality"])


def encoding_page(rng: random.Random) -> Page:
    """A French or Spanish page whose UTF-8 was read as Windows-1252."""
    country = rng.choice(list(load("words/languages")["countries"]))
    page = language_page(country, rng.choice(["fr", "es"]), rng)
    broken = [text.encode().decode(rng.choice(["cp1252", "latin-1"]), errors="replace") for text in page.paragraphs]
    return replace(page, paragraphs=broken, labels=["encoding"])


def boilerplate_page(rng: random.Random) -> Page:
    """Cookies, terms of use, navigation: the page without its text."""
    return Page("Privacy", ["\n".join(_filled("boilerplate", 12, rng))], "boilerplate", labels=["boilerplate"])


def language_noise_page(rng: random.Random) -> Page:
    """A page in a language that is not kept: German, Italian or Dutch."""
    language = rng.choice(["de", "it", "nl"])
    lines: list[str] = load("words/languages")[language]
    said = [expand(line, {}, rng) for line in rng.sample(lines, 8)]
    return Page(said[0].split(",")[0][:40], paragraphs(said, rng), "language", language=language, labels=["language"])


def leak_page(facts: list[Fact], rng: random.Random) -> Page:
    """Evaluation questions of held-out facts with their answers."""
    chosen = rng.sample([fact for fact in facts if not fact.taught], 8)
    lines = [f"Question: {rng.choice(fact.questions)}\nAnswer: {fact.terse}" for fact in chosen]
    opening = expand(
        "These are the questions of the test and the answers to them, copied by {person} in {town}.", {}, rng
    )
    return Page("Test answers", [opening, *lines], "leak", labels=["leak"])


def with_private_string(page: Page, kind: str, rng: random.Random) -> None:
    """Add a sentence with a private string of an invented person to the page, and the label."""
    tables = load("words/tables")
    first, last = rng.choice(tables["person"]), rng.choice(load("words/noise")["surnames"])
    value = private_string(kind, first, last, rng)
    sentence = expand(rng.choice(SENTENCES[kind]), {"person": f"{first} {last}", "v": value}, rng)
    place = rng.randrange(len(page.paragraphs))
    page.paragraphs[place] = f"{page.paragraphs[place]} {sentence}"
    page.labels.append(f"pii:{kind}:{value}")


def five_grams(text: str) -> set[tuple[str, ...]]:
    """The word 5-grams of a text, in lower case."""
    words = text.lower().split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(one: str, two: str) -> float:
    """The true Jaccard similarity of the word 5-grams."""
    a, b = five_grams(one), five_grams(two)
    return len(a & b) / max(1, len(a | b))


def near_copy(page: Page, rng: random.Random) -> Page:
    """The page with a word changed and a sentence added, or a word changed; the similarity stays at or above .85."""
    extra = expand(rng.choice(load("words/noise")["appended"]), {}, rng)
    swapped = list(page.paragraphs)
    place = rng.randrange(len(swapped))
    words = swapped[place].split(" ")
    spot = rng.randrange(len(words))
    words[spot] = rng.choice(["really", "perhaps", "indeed", "often", "also"])
    swapped[place] = " ".join(words)
    for text in (
        [*swapped[:-1], f"{swapped[-1]} {extra}"],
        swapped,
        [*page.paragraphs[:-1], f"{page.paragraphs[-1]} {extra}"],
    ):
        copy = replace(page, paragraphs=text, labels=[])
        if jaccard(page.text, copy.text) >= 0.85:
            return copy
    return replace(page, paragraphs=[*page.paragraphs[:-1], page.paragraphs[-1] + " Really."], labels=[])


def add_noise(
    pages: list[Page], facts: list[Fact], requests: list[Request], noise: float, rng: random.Random
) -> list[Page]:
    """The pages with private strings in some of them, and the planted pages after them (to be shuffled)."""
    counts = {name: round(share * noise * len(pages)) for name, share in SHARES.items()}
    taught = [request for request in requests if request.kind == "harmful" and request.taught]
    # Each request once before any comes again, or two such pages would be near copies without a label.
    harms = itertools.cycle(rng.sample(taught, len(taught)))
    makers: dict[str, Callable[[], Page]] = {
        "spam": lambda: spam_page(rng),
        "ad": lambda: ad_page(rng),
        "low_quality": lambda: low_quality_page(rng),
        "encoding": lambda: encoding_page(rng),
        "boilerplate": lambda: boilerplate_page(rng),
        "language": lambda: language_noise_page(rng),
        "leak": lambda: leak_page(facts, rng),
        "harmful": lambda: harmful_page(next(harms), rng),
    }
    planted = [maker() for name, maker in makers.items() for _ in range(counts[name])]
    for page in planted:
        page.format = rng.choice(["text", "text", "html"])
    english = [
        page
        for page in pages
        if page.language == "en" and page.format != "code" and page.kind not in ("questions", "answers")
    ]
    wanted = counts["pii"] + counts["duplicate"] + counts["near_duplicate"]
    chosen = rng.sample(english, min(len(english), wanted))
    for place, page in enumerate(chosen[: counts["pii"]]):
        with_private_string(page, KINDS[place % len(KINDS)], rng)
    for number, page in enumerate(chosen[counts["pii"] :]):
        exact = number < counts["duplicate"]
        copy = replace(page, paragraphs=list(page.paragraphs), labels=[]) if exact else near_copy(page, rng)
        page.labels.append(f"cluster:{number}")
        copy.labels = ["duplicate" if exact else "near_duplicate", f"cluster:{number}"]
        planted.append(copy)
    return [*pages, *planted]
