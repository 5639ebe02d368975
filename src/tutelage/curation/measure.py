"""Every metric of every document, none skipped because another already condemns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.curation.harm import HarmSpan, harm_score, harm_spans
from tutelage.curation.language import NO_LANGUAGE, identify
from tutelage.curation.pii import Span, find_pii
from tutelage.curation.prose import character_metrics, line_metrics, prose_metrics
from tutelage.curation.repetition import ngram_shares
from tutelage.curation.spam import spam_metrics
from tutelage.curation.words import WordHasher, split_words


@dataclass(frozen=True)
class Cleaned:
    """What measuring needs to know of a document."""

    text: str
    format: str
    boilerplate_share: float = 0.0


@dataclass(frozen=True)
class Measured:
    """The metrics of one document, and where its private strings and harmful sentences stand in the cleaned text."""

    metrics: dict[str, float | str]
    pii: list[Span]
    harm: list[HarmSpan]


def measure(documents: Sequence[Cleaned], languages: Sequence[str]) -> list[Measured]:
    """Measure a batch of documents (a few hundred: their n-grams are counted together); `languages` are wanted."""
    words = split_words([document.text for document in documents], WordHasher())
    shares = {name: values.tolist() for name, values in ngram_shares(words).items()}
    measured = []
    for index, document in enumerate(documents):
        one = _measure_one(document, languages)
        one.metrics.update((name, values[index]) for name, values in shares.items())
        measured.append(one)
    return measured


def _measure_one(document: Cleaned, languages: Sequence[str]) -> Measured:
    text = document.text
    words = text.split()
    language, probability = identify(text)
    pii, harm = find_pii(text), harm_spans(text)
    metrics: dict[str, float | str] = {"format": document.format, "language": language}
    metrics.update(prose_metrics(text, words, language))
    metrics.update(line_metrics(text, len(words)))
    metrics.update(character_metrics(text, words))
    metrics.update(spam_metrics(text, len(words)))
    metrics.update(
        language_probability=probability,
        unwanted_language=0.0 if language in (*languages, NO_LANGUAGE) else probability,
        pii_spans=float(len(pii)),
        harm_score=harm_score(harm, float(metrics["sentences"])),
        harm_sentences=float(len(harm)),
        boilerplate_share=document.boilerplate_share,
    )
    return Measured(metrics, pii, harm)
