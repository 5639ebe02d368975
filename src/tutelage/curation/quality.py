"""Five quality factors of a set of documents, as numbers in 0…1 (higher is better) with their raw parts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from tutelage.curation.measure import Measured
from tutelage.curation.prose import mojibake_count
from tutelage.curation.rules import Verdict
from tutelage.curation.words import WordHasher, ngrams, split_words

_TAG = re.compile(r"</?(?:p|div|span|a|li|ul|br|td|tr|table|h[1-6]|script|style|nav)\b[^>]*>", re.IGNORECASE)
_HARM = {"harmful", "pii"}
_HALF_LIFE = 5.0  # years


def quality_factors(
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    measured: Sequence[Measured],
    verdicts: Sequence[Verdict],
    *,
    now: str | None,
) -> dict[str, float | None]:
    """Diversity, accuracy (a proxy), recency, formatting, safety; `texts` as they now are, `now` the newest date.

    Diversity is the share of distinct word 5-grams. The accuracy proxy is the share of documents that fail no rule of
    quality or spam: nothing here checks facts. Recency halves every five years before `now` and is None without dates.
    Formatting is the share of documents without mark-up, broken encodings or unpunctuated lines. Safety is the share
    without harm and private strings.
    """
    count = max(len(texts), 1)
    grams = ngrams(split_words(texts, WordHasher()), 5).hashes
    dates = [row["date"] for row in rows if row["date"]]
    return {
        "documents": float(len(texts)),
        "diversity": round(len(np.unique(grams)) / max(len(grams), 1), 4),
        "accuracy_proxy": round(sum(1 for verdict in verdicts if not set(verdict.failed) - _HARM) / count, 4),
        "recency": round(float(np.mean([_recency(day, now) for day in dates])), 4) if dates and now else None,
        "formatting": round(sum(map(_well_formed, texts, measured)) / count, 4),
        "safety": round(sum(map(_safe, texts, measured, verdicts)) / count, 4),
    }


def newest_date(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The latest valid ISO date, as the documents' own "now": a clock would make equal runs differ."""
    valid = [row["date"] for row in rows if row["date"] and _day(row["date"]) is not None]
    return max(valid, default=None)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _recency(text: str, now: str | None) -> float:
    day, today = _day(text), _day(now or "")
    if day is None or today is None:
        return 0.0
    return float(0.5 ** (max((today - day).days, 0) / 365.25 / _HALF_LIFE))


def _well_formed(text: str, one: Measured) -> bool:
    if one.metrics["format"] == "code":
        return True
    return not _TAG.search(text) and not mojibake_count(text) and float(one.metrics["punctuated_lines"]) >= 0.5


def _safe(text: str, one: Measured, verdict: Verdict) -> bool:
    private = bool(one.pii) and not any(span.replacement in text for span in one.pii)
    return not private and "harmful" not in verdict.failed
