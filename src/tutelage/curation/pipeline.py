"""Curation from raw rows to decisions: extract, strip boilerplate, measure, judge, decontaminate, deduplicate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from tutelage.curation.boilerplate import recurring_lines, remove_lines
from tutelage.curation.decontaminate import Contamination, Item, find_contamination
from tutelage.curation.duplicates import Age, Pair, duplicates_of, near_pairs
from tutelage.curation.extract import Extracted, extract
from tutelage.curation.measure import Cleaned, Measured, measure
from tutelage.curation.pii import replace_pii
from tutelage.curation.rules import Row, Verdict, decide
from tutelage.curation.words import WordHasher, split_words, text_digest

BATCH = 512  # documents; also what one worker is handed at a time

# What is no threshold over the metrics table; they decide after RULES, in this order.
FAILED, CONTAMINATED, DUPLICATE = "failed", "contaminated", "duplicate"

Advance = Callable[[int], object]
Progress = Callable[[str], AbstractContextManager[Advance]]
_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True)
class Settings:
    """Everything that decisions depend on besides the documents; `thresholds` as from `resolve_thresholds`."""

    thresholds: Mapping[str, float]
    languages: tuple[str, ...] = ("en", "fr", "es")
    keep: str = "longest"
    replace_pii: bool = True
    near_duplicate_jaccard: float = 0.8
    boilerplate_min_documents: int = 20
    boilerplate_min_share: float = 0.1
    workers: int = 1


@dataclass(frozen=True)
class Decision:
    """Why one document was kept or removed; `value` and `threshold` belong to the deciding `rule`."""

    kept: bool
    rule: str | None = None
    value: float | None = None
    threshold: float | None = None
    failed_rules: tuple[str, ...] = ()
    duplicate_of: int | None = None
    similarity: float | None = None
    contaminating_item: str | None = None


@dataclass(frozen=True)
class Curated:
    """Row-aligned with the input; `texts` are the final ones, of removed documents too."""

    extracted: list[Extracted]
    cleaned: list[Cleaned]
    measured: list[Measured]
    texts: list[str]
    decisions: list[Decision]
    contamination: Contamination
    pairs: list[Pair]
    removed_lines: dict[str, list[str]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """`in`, `kept`, `failed`, and `removed/<rule>`; conservation is checked here."""
        rules = Counter(d.rule for d in self.decisions if d.rule is not None)
        kept = sum(d.kept for d in self.decisions)
        assert len(self.decisions) == kept + rules.total(), "a document got lost or was counted twice"
        failed = rules.pop(FAILED, 0)
        removed = {f"removed/{rule}": count for rule, count in sorted(rules.items())}
        return {"in": len(self.decisions), "kept": kept, "failed": failed, **removed}


def _silent(name: str) -> AbstractContextManager[Advance]:
    return nullcontext(lambda amount: None)


def curate(
    rows: Sequence[Mapping[str, Any]], items: Sequence[Item], settings: Settings, progress: Progress = _silent
) -> Curated:
    """Decide over `rows` (documents.parquet) and clean their texts; `items` must not be in what is kept."""
    with _mapper(settings.workers) as apply:
        with progress("extract") as advance:
            extracted: list[Extracted] = apply(_extract_batch, rows, advance)
        cleaned, lines = _strip_boilerplate(rows, extracted, settings)
        with progress("measure") as advance:
            measured: list[Measured] = apply(partial(measure, languages=settings.languages), cleaned, advance)
    texts = [
        replace_pii(document.text, one.pii) if settings.replace_pii else document.text
        for document, one in zip(cleaned, measured, strict=True)
    ]
    with progress("compare") as advance:
        hasher = WordHasher()
        words = split_words(texts, hasher)
        contamination = find_contamination(words, items, hasher)
        pairs = near_pairs(words, settings.near_duplicate_jaccard)
        decisions = decide_all(rows, [one.metrics for one in measured], contamination.documents, pairs, settings)
        advance(len(rows))
    return Curated(extracted, cleaned, measured, texts, decisions, contamination, pairs, lines)


def decide_all(
    rows: Sequence[Mapping[str, Any]],
    metrics: Sequence[Row],
    contaminated: Mapping[int, str],
    pairs: Sequence[Pair],
    settings: Settings,
) -> list[Decision]:
    """One decision a document from what was measured; nothing is measured here.

    Of `rows` it needs `id` and `date`; `contaminated` is the evaluation item that was found, by the row's number.
    """
    verdicts = decide(metrics, settings.thresholds)
    lengths = [int(one["characters"]) for one in metrics]
    decisions = [_first_decision(lengths[i], verdicts[i], contaminated.get(i)) for i in range(len(rows))]
    ages = [Age(lengths[i], row["date"], row["id"], i) for i, row in enumerate(rows)]
    removed = duplicates_of([decision.kept for decision in decisions], pairs, ages, settings.keep)
    for place, (keeper, similarity) in removed.items():
        limit = settings.near_duplicate_jaccard
        decisions[place] = Decision(False, DUPLICATE, similarity, limit, (DUPLICATE,), keeper, similarity)
    return decisions


def _first_decision(length: int, verdict: Verdict, item: str | None) -> Decision:
    if not length:
        return Decision(False, FAILED, failed_rules=(FAILED,))
    failed = verdict.failed + ((CONTAMINATED,) if item is not None else ())
    if verdict.failed:
        return Decision(False, failed[0], verdict.value, verdict.threshold, failed, contaminating_item=item)
    if item is not None:
        return Decision(False, CONTAMINATED, failed_rules=failed, contaminating_item=item)
    return Decision(True)


def output_id(text: str) -> str:
    """The id of a kept document: the digest of its final text."""
    return text_digest(text)


def _extract_batch(rows: Sequence[Mapping[str, Any]]) -> list[Extracted]:
    return [extract(row["text"], row["format"] or "text") for row in rows]


def _strip_boilerplate(
    rows: Sequence[Mapping[str, Any]], extracted: Sequence[Extracted], settings: Settings
) -> tuple[list[Cleaned], dict[str, list[str]]]:
    """Remove lines that recur over a source's prose; in code equal lines are no boilerplate."""
    formats = [row["format"] or "text" for row in rows]
    prose = [i for i, form in enumerate(formats) if form != "code"]
    lines = recurring_lines(
        [extracted[i].text for i in prose],
        [rows[i]["source"] for i in prose],
        min_documents=settings.boilerplate_min_documents,
        min_share=settings.boilerplate_min_share,
    )
    cleaned = [
        stripped(one, form, lines.get(row["source"], set()))
        for row, form, one in zip(rows, formats, extracted, strict=True)
    ]
    return cleaned, {source: sorted(found) for source, found in sorted(lines.items()) if found}


def stripped(extracted: Extracted, form: str, lines: Collection[str]) -> Cleaned:
    """The text without its source's recurring `lines`; code keeps them."""
    text, removed = remove_lines(extracted.text, set(lines) if form != "code" else set())
    return Cleaned(text, form, removed / max(len(extracted.text), 1))


@contextmanager
def _mapper(workers: int) -> Iterator[Any]:
    """A function that applies another to batches, in this process or in `workers` others, results in order."""
    if workers == 1:
        yield partial(_gather, map)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # spawn: forking a process that has threads (torch, Arrow) can deadlock
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield partial(_gather, pool.map)


def _gather(
    mapping: Callable[..., Iterable[list[_U]]],
    function: Callable[[Sequence[_T]], list[_U]],
    everything: Sequence[_T],
    advance: Advance,
) -> list[_U]:
    batches = [everything[begin : begin + BATCH] for begin in range(0, len(everything), BATCH)]
    results: list[_U] = []
    for result in mapping(function, batches):
        results += result
        advance(len(result))
    return results
