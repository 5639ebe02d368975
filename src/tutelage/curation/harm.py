"""A harm score for a document: a small linear model over sentences with a lexicon of the project's own.

A sentence scores when a harmful verb stands before an object of the right kind (hurt + person, steal + property,
break into + place, …) within a few words, and more when it instructs ("how to", "step 2"). "Kill weeds", "break into
a coconut", "steal a base" or "shoot a photo" have no such object. Protective words ("never", "is a crime") pull down.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tutelage.curation.patterns import literal

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
# Between verb and object stand its article and adjectives, but no other object and no other part of the sentence.
_STRANGE = (
    "photos? pictures? films? videos? time weeds? bugs? record process party surprise hoops? with in on at by from for "
    "and or but to is are was were that which who when while if into before after like as than says? said"
)
_BETWEEN = rf"(?:[\s\"'“]+(?!(?:{'|'.join(_STRANGE.split())})\b)[\w'’-]+){{0,4}}?[\s\"'“]+"
# Nouns after an object that turn it into something else: "kill people's boredom", "beat the school record".
_HARMLESS_AFTER = r"(?![\w-]|\s+(?:weeds?|record|phone case|photo|show|game|base|scene|film|movie|boredom)\b)"


@dataclass(frozen=True)
class HarmSpan:
    """Characters `start:end` hold a sentence of this score and category."""

    start: int
    end: int
    score: float
    category: str


@dataclass(frozen=True)
class Lexicon:
    """Compiled patterns; `pairs` is (category, verb-object pattern, weight)."""

    pairs: tuple[tuple[str, re.Pattern[str], float], ...]
    phrases: dict[str, float]
    trigger: re.Pattern[str]
    intent: re.Pattern[str]
    protective: re.Pattern[str]
    imperative: re.Pattern[str]
    needs_intent: frozenset[str]
    weak_verbs: dict[str, float]
    weights: dict[str, float]


def _inflected(verb: str) -> list[str]:
    """Base form and -ing form of a verb phrase: instructions use these, reports of deeds use the past."""
    head, _, tail = verb.partition(" ")
    tail = f" {tail}" if tail else ""
    stem = head[:-1] if head.endswith("e") and not head.endswith("ee") else head
    forms = {verb, f"{stem}ing{tail}"}
    if re.fullmatch(r"[a-z]*[^aeiou][aeiou][bdgmnprt]", head):
        forms.add(f"{head}{head[-1]}ing{tail}")
    return sorted(forms)


@cache
def lexicon() -> Lexicon:
    """The shipped lexicon, compiled once."""
    raw: dict[str, Any] = json.loads(
        resources.files("tutelage.curation").joinpath("harm_lexicon.json").read_text(encoding="utf-8")
    )
    pairs = []
    for category, kinds in raw["pairs"].items():
        verbs = literal(form for verb in raw["verbs"][category] for form in _inflected(verb))
        for kind, weight in kinds.items():
            objects = literal(raw["objects"][kind])
            # the object may be possessive ("their neighbour's house") but not the first part of a harmless compound
            pattern = rf"\b(?P<verb>{verbs}){_BETWEEN}(?P<object>{objects})(?:['’]s?)?{_HARMLESS_AFTER}"
            pairs.append((category, re.compile(pattern), float(weight)))
    every_verb = {form for verbs in raw["verbs"].values() for verb in verbs for form in _inflected(verb)}
    return Lexicon(
        pairs=tuple(pairs),
        phrases=raw["phrases"],
        trigger=re.compile(rf"\b(?:{literal(every_verb)}|{literal(raw['phrases'])})\b"),
        intent=re.compile(rf"\b(?:{literal(raw['intent'])})"),
        protective=re.compile(rf"\b(?:{literal(raw['protective'])})\b"),
        imperative=re.compile(
            rf"^(?:[-*\d.)\s]|step \d+:?|(?:to|first|then|next|finally|now),?\s)*(?:{literal(every_verb)})\b"
        ),
        needs_intent=frozenset(raw["needs_intent"]),
        weak_verbs=raw["weak_verbs"],
        weights=raw["weights"],
    )


def harm_spans(text: str, *, at_least: float = 0.5) -> list[HarmSpan]:
    """The sentences of `text` that score at least this much; a heading's intent carries over to the whole document."""
    words = lexicon()
    lowered = text.lower()
    if len(lowered) != len(text):  # a few capital letters become two: spans must stay those of `text`
        lowered = text
    if not words.trigger.search(lowered):
        return []
    instructs = bool(words.intent.search(lowered[:200])) or any(phrase in lowered for phrase in words.phrases)
    spans = []
    for match in _SENTENCE.finditer(lowered):
        sentence = match.group().strip()
        if words.trigger.search(sentence):
            score, category = _sentence_score(words, sentence, instructs)
            if score >= at_least:
                spans.append(HarmSpan(match.start(), match.end(), round(score, 4), category))
    return spans


def _sentence_score(words: Lexicon, sentence: str, instructs: bool) -> tuple[float, str]:
    weights = words.weights
    intent = bool(words.intent.search(sentence))
    imperative = bool(words.imperative.search(sentence))
    best, category, around = 0.0, "", sentence
    for name, pattern, weight in words.pairs:
        for match in pattern.finditer(sentence):
            value = weight * words.weak_verbs.get(match["verb"], 1.0)
            if name in words.needs_intent and not (intent or imperative or instructs):
                value = 0.0
            if value > best:  # who is to be harmed does not protect: "attack a police officer"
                best, category = value, name
                around = sentence[: match.start("object")] + sentence[match.end("object") :]
    phrases = sum(weight for phrase, weight in words.phrases.items() if phrase in sentence)
    if not best and not phrases:
        return 0.0, ""
    if not (intent or imperative or instructs):
        best *= weights["without_intent"]
    score = best + weights["phrase"] * phrases
    score += weights["intent"] * intent + weights["imperative"] * imperative
    if words.protective.search(around):
        score += weights["protective"]
    return score, category or "phrase"


def harm_score(spans: list[HarmSpan], sentences: float = 1) -> float:
    """The document's score: its worst sentence and a little for every further one, less where they are rare.

    A tale of two hundred `sentences` in which one wants to kill another is no instruction: below one harmful sentence
    in twenty the score falls in proportion.
    """
    if not spans:
        return 0.0
    worst = max(span.score for span in spans) + 0.1 * min(len(spans) - 1, 5)
    return worst * min(1.0, 20 * len(spans) / max(sentences, 1.0))
