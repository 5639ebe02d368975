"""What a `curate` stage recorded, read back: why each document was kept or removed, and what other thresholds would do.

Row i of every table is document i of the stage's input.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tutelage.curation.duplicates import Pair
from tutelage.curation.extract import extract
from tutelage.curation.pipeline import Decision, Settings, decide_all, stripped
from tutelage.curation.rules import Row
from tutelage.errors import ArtifactError, RecipeError
from tutelage.sources.store import DOCUMENTS_FILE

MOST = 20_000  # documents that a question about thresholds looks at; more are sampled evenly


@dataclass(frozen=True)
class Recorded:
    """Decisions on documents numbered `places` of `total`, and all that they were made from but the texts."""

    total: int
    places: Sequence[int]
    rows: list[dict[str, Any]]  # id and date
    decisions: list[dict[str, Any]]
    metrics: Sequence[Row]
    pairs: list[Pair]  # of places in these lists
    all_pairs: bool  # False: only those of removed duplicates are known
    settings: Settings
    lines: Mapping[str, list[str]]  # source → lines removed as boilerplate

    @property
    def kept(self) -> int:
        """How many of these documents were kept."""
        return sum(decision["kept"] for decision in self.decisions)

    def removed(self) -> dict[str, int]:
        """Deciding rule → documents, most first."""
        found = Counter(decision["rule"] for decision in self.decisions if not decision["kept"])
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


@dataclass(frozen=True)
class WhatIf:
    """Decisions at other thresholds: how many are kept, removed by rule, and which documents change sides."""

    kept: int
    removed: Mapping[str, int]
    now_kept: Sequence[int]  # places in the lists of `Recorded`
    now_removed: Sequence[int]
    decisions: Sequence[Decision]


def read_recorded(corpus: Path, documents: Path, most: int = MOST) -> Recorded:
    """The tables of a stage's folder and the ids and dates of its input. Raises ArtifactError."""
    try:
        about = json.loads((corpus / "curation.json").read_text(encoding="utf-8"))
        decisions = pq.read_table(corpus / "decisions.parquet")
        total = decisions.num_rows
        places = list(range(total)) if total <= most else [number * total // most for number in range(most)]
        metrics = _rows(pq.read_table(corpus / "metrics.parquet"), places)
        rows = _rows(pq.read_table(documents / DOCUMENTS_FILE, columns=["id", "date"], partitioning=None), places)
        chosen = _rows(decisions, places)
        number = {place: index for index, place in enumerate(places)}
        pairs, all_pairs = _pairs(corpus, chosen, number)
        settings = Settings(
            about["thresholds"], tuple(about["languages"]), about["duplicates"]["keep"],
            near_duplicate_jaccard=about["duplicates"]["threshold"],
        )  # fmt: skip
        lines = about["recurring_lines"]
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException) as error:
        raise ArtifactError(f"{corpus}: its records cannot be read: {error}", hint=_anew(corpus)) from error
    if [row["id"] for row in rows] != [row["id"] for row in chosen]:
        raise ArtifactError(f"{documents} was made anew since {corpus.name} read it", hint=_anew(corpus))
    return Recorded(total, places, rows, chosen, metrics, pairs, all_pairs, settings, lines)


def _anew(corpus: Path) -> str:
    return f"make {corpus.name} anew: tutelage run RECIPE --from {corpus.name}"


def what_if(recorded: Recorded, thresholds: Mapping[str, float]) -> WhatIf:
    """Decide again with some thresholds changed: from the recorded measures, by the rules themselves."""
    unknown = next((name for name in thresholds if name not in recorded.settings.thresholds), None)
    if unknown is not None:
        raise RecipeError(f"thresholds.{unknown}: this stage applied no such rule", hint="choose one of its rules")
    settings = replace(recorded.settings, thresholds={**recorded.settings.thresholds, **thresholds})
    known = enumerate(decision["contaminating_item"] for decision in recorded.decisions)
    contaminated = {place: item for place, item in known if item is not None}
    found = decide_all(recorded.rows, recorded.metrics, contaminated, recorded.pairs, settings)
    before = [decision["kept"] for decision in recorded.decisions]
    removed = Counter(decision.rule for decision in found if decision.rule is not None)
    return WhatIf(
        kept=sum(decision.kept for decision in found),
        removed=dict(removed),
        now_kept=[i for i, decision in enumerate(found) if decision.kept and not before[i]],
        now_removed=[i for i, decision in enumerate(found) if not decision.kept and before[i]],
        decisions=found,
    )


def cleaned_texts(documents: Path, places: Sequence[int], lines: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Documents by their numbers, with their `text` as it was measured: extracted, and without boilerplate."""
    table = ds.dataset(documents / DOCUMENTS_FILE, format="parquet").take(places)
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        form = row["format"] or "text"
        row["text"] = stripped(extract(row["text"], form), form, lines.get(row["source"], [])).text
    return rows


def _rows(table: pa.Table, places: Sequence[int]) -> list[dict[str, Any]]:
    chosen = table if len(places) == table.num_rows else table.take(places)
    rows: list[dict[str, Any]] = chosen.to_pylist()
    return rows


def _pairs(corpus: Path, decisions: Sequence[Mapping[str, Any]], number: Mapping[int, int]) -> tuple[list[Pair], bool]:
    """The recorded pairs; a corpus of an older version tells only of the duplicates that were removed."""
    path = corpus / "pairs.parquet"
    if path.is_file():
        every = pq.read_table(path).to_pydict()
        pairs = zip(every["left"], every["right"], every["similarity"], strict=True)
        return [(number[a], number[b], s) for a, b, s in pairs if a in number and b in number], True
    by_id: dict[str, int] = {}
    for index, decision in enumerate(decisions):
        if decision["kept"]:
            by_id.setdefault(decision["id"], index)
    found = []
    for index, decision in enumerate(decisions):
        keeper = by_id.get(decision["duplicate_of"])
        if keeper is not None:
            found.append((min(keeper, index), max(keeper, index), float(decision["similarity"])))
    return found, False
