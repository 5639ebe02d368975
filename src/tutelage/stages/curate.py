"""curate: documents → corpus, with a decision record for every document and the metrics it was decided on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from tutelage.curation.decontaminate import items_from_tasks
from tutelage.curation.groundtruth import Scores, evaluate
from tutelage.curation.language import known_languages
from tutelage.curation.pipeline import Advance, Curated, Settings, curate
from tutelage.curation.records import (
    decision_rows,
    decisions_schema,
    kept_documents,
    metric_table,
    pair_table,
    summary,
    write_table,
)
from tutelage.curation.rules import resolve_thresholds
from tutelage.errors import DataError, RecipeError
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import atomic, read_documents, read_jsonl, write_documents
from tutelage.stages.configs import CurateConfig


def run(config: CurateConfig, inputs: Inputs, run: StageRun) -> None:
    """Curate the documents, check that none was lost, and score the result where defects are labelled."""
    settings = _settings(config)
    rows = read_documents(inputs["documents"].path).to_pylist()
    if not rows:
        raise DataError("there are no documents to curate", hint=f"look at what the input {config.documents} read")
    tasks = inputs.get("tasks")
    items = items_from_tasks(list(read_jsonl(tasks.path / "tasks.jsonl"))) if tasks is not None else []

    @contextmanager
    def progress(name: str) -> Iterator[Advance]:
        with run.progress(name, len(rows)) as bar:
            yield bar.advance

    curated = curate(rows, items, settings, progress)
    truth = evaluate(rows, curated)
    write_table(run.directory / "metrics.parquet", metric_table(rows, curated))
    write_table(run.directory / "pairs.parquet", pair_table(curated.pairs))
    decisions = pa.Table.from_pylist(decision_rows(rows, curated), schema=decisions_schema)
    write_table(run.directory / "decisions.parquet", decisions)
    with atomic(run.directory / "curation.json") as beside:
        text = json.dumps(summary(rows, curated, settings, truth), indent=1, ensure_ascii=False)
        beside.write_text(text + "\n", encoding="utf-8")
    written = write_documents(run.directory, kept_documents(rows, curated))
    assert written == curated.counts()["kept"], "the corpus is not what was decided"
    _report(run, curated, truth)


def _settings(config: CurateConfig) -> Settings:
    known = known_languages()
    for code in config.languages:
        if code not in known:
            nearest = difflib.get_close_matches(code, known, n=1, cutoff=0.0)
            raise RecipeError(f"languages: {code!r} is not a language code", hint=f"did you mean {nearest[0]!r}?")
    thresholds = resolve_thresholds({"pii": config.max_pii, **config.thresholds})
    if config.pii == "drop":
        thresholds["pii"] = 0.0
    elif config.pii == "keep":
        del thresholds["pii"]
    return Settings(
        thresholds=thresholds,
        languages=tuple(config.languages),
        keep=config.keep,
        replace_pii=config.pii == "replace",
        near_duplicate_jaccard=config.near_duplicate_jaccard,
        boilerplate_min_documents=config.boilerplate_min_documents,
        boilerplate_min_share=config.boilerplate_min_share,
        workers=config.workers,
    )


def _report(run: StageRun, curated: Curated, truth: Scores) -> None:
    counts = curated.counts()
    names = {"in": "documents_in"}
    run.metrics.update({f"curation/{names.get(name, name)}": float(count) for name, count in counts.items()})
    for defect, scores in truth.items():
        wanted = ("removed", "share") if defect == "unlabelled" else ("precision", "recall")
        run.metrics.update({f"curation/{defect}/{name}": scores[name] for name in wanted})
    removed = {name: count for name, count in counts.items() if name.startswith("removed/")}
    if not counts["kept"]:
        worst = max(removed, key=lambda name: removed[name], default="failed").removeprefix("removed/")
        raise DataError(
            f"no document of {counts['in']} passed curation; most were removed by the rule {worst}",
            hint=f"look at {run.directory}/decisions.parquet, or loosen thresholds.{worst}",
        )
    most = sorted(removed.items(), key=lambda pair: (-pair[1], pair[0]))[:4]
    listed = ", ".join(f"{name.removeprefix('removed/')} {count}" for name, count in most)
    run.notes.append(f"kept {counts['kept']} of {counts['in']} documents" + (f"; removed: {listed}" if listed else ""))
    if curated.contamination.documents:
        run.notes.append(f"{len(curated.contamination.documents)} documents held evaluation items")
