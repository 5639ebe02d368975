"""What curation writes: decision and metric tables, and the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tutelage.curation.duplicates import ALGORITHM, Pair, catch_curve
from tutelage.curation.pipeline import Curated, Settings, output_id
from tutelage.curation.quality import newest_date, quality_factors
from tutelage.curation.rules import RULES, SPLITTER, decide
from tutelage.sources.store import atomic

_SPAN = {"start": pa.int64(), "end": pa.int64()}
decisions_schema = pa.schema(
    {
        "id": pa.string(),
        "kept": pa.bool_(),
        "rule": pa.string(),
        "version": pa.int64(),
        "value": pa.float64(),
        "threshold": pa.float64(),
        "failed_rules": pa.list_(pa.string()),
        "duplicate_of": pa.string(),
        "similarity": pa.float64(),
        "pii": pa.list_(pa.struct({"kind": pa.string(), **_SPAN, "replacement": pa.string()})),
        "harm": pa.list_(pa.struct({"category": pa.string(), **_SPAN, "score": pa.float64()})),
        "contaminating_item": pa.string(),
        "output_id": pa.string(),
    }
)


def decision_rows(rows: Sequence[Mapping[str, Any]], curated: Curated) -> list[dict[str, Any]]:
    """One row an input document; spans are places in the cleaned text before anything was replaced."""
    records = []
    for row, decision, one, text in zip(rows, curated.decisions, curated.measured, curated.texts, strict=True):
        keeper = decision.duplicate_of
        records.append(
            {
                "id": row["id"],
                "kept": decision.kept,
                "rule": decision.rule,
                "version": RULES[decision.rule].version if decision.rule in RULES else None,
                "value": decision.value,
                "threshold": decision.threshold,
                "failed_rules": list(decision.failed_rules),
                "duplicate_of": rows[keeper]["id"] if keeper is not None else None,
                "similarity": decision.similarity,
                "pii": [
                    {"kind": s.kind, "start": s.start, "end": s.end, "replacement": s.replacement} for s in one.pii
                ],
                "harm": [{"category": s.category, "start": s.start, "end": s.end, "score": s.score} for s in one.harm],
                "contaminating_item": decision.contaminating_item,
                "output_id": output_id(text) if decision.kept else None,
            }
        )
    return records


def metric_table(rows: Sequence[Mapping[str, Any]], curated: Curated) -> pa.Table:
    """`id` and every metric, one row an input document."""
    names = list(curated.measured[0].metrics)
    columns: dict[str, list[Any]] = {"id": [row["id"] for row in rows]}
    columns.update((name, [one.metrics[name] for one in curated.measured]) for name in names)
    return pa.table(columns)


def pair_table(pairs: Sequence[Pair]) -> pa.Table:
    """Every pair of documents that are near duplicates, by their numbers in the input: what a decision depends on."""
    left, right, similarity = zip(*pairs, strict=True) if pairs else ((), (), ())
    columns = {"left": pa.array(left, pa.int64()), "right": pa.array(right, pa.int64())}
    return pa.table({**columns, "similarity": pa.array(similarity, pa.float64())})


def kept_documents(rows: Sequence[Mapping[str, Any]], curated: Curated) -> list[dict[str, Any]]:
    """The cleaned rows of documents.parquet, in the order of the input; HTML has become text."""
    kept = []
    for row, decision, extracted, text in zip(rows, curated.decisions, curated.extracted, curated.texts, strict=True):
        if decision.kept:
            form = "text" if row["format"] == "html" else row["format"]
            kept.append(
                {**row, "id": output_id(text), "text": text, "format": form, "title": row["title"] or extracted.title}
            )
    return kept


def summary(
    rows: Sequence[Mapping[str, Any]], curated: Curated, settings: Settings, truth: Mapping[str, Any]
) -> dict[str, Any]:
    """What curation.json says: counts, thresholds, quality before and after, contamination, truth where labelled."""
    keep = [i for i, decision in enumerate(curated.decisions) if decision.kept]
    verdicts = decide([one.metrics for one in curated.measured], settings.thresholds)
    now = newest_date(rows)
    before = quality_factors(rows, [row["text"] for row in rows], curated.measured, verdicts, now=now)
    after = quality_factors(
        [rows[i] for i in keep],
        [curated.texts[i] for i in keep],
        [curated.measured[i] for i in keep],
        [verdicts[i] for i in keep],
        now=now,
    )
    contamination = curated.contamination
    return {
        "counts": curated.counts(),
        "thresholds": dict(settings.thresholds),
        "splitter": SPLITTER,
        "languages": list(settings.languages),
        "quality": {"before": before, "after": after},
        "duplicates": {
            "algorithm": ALGORITHM,
            "threshold": settings.near_duplicate_jaccard,
            "keep": settings.keep,
            "catch_curve": catch_curve(),
            "pairs": len(curated.pairs),
        },
        "pii": _pii_counts(curated),
        "recurring_lines": curated.removed_lines,
        "contamination": {
            "items": len(contamination.items),
            "unsearchable": list(contamination.unsearchable),
            "found": {item: count for item, count in sorted(contamination.items.items()) if count},
        },
        "ground_truth": truth,
    }


def _pii_counts(curated: Curated) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in curated.measured:
        for span in one.pii:
            counts[span.kind] = counts.get(span.kind, 0) + 1
    return dict(sorted(counts.items()))


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet beside `path` and rename it."""
    with atomic(path) as beside:
        pq.write_table(table, beside, compression="zstd")
