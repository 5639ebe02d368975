"""Conservation: every document that went into curation is in the corpus or was removed by a rule that says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tutelage.errors import ArtifactError
from tutelage.run.lineage import published
from tutelage.run.manifest import Manifest, damage
from tutelage.sources.store import read_documents
from tutelage.verification.finding import Finding, finding, unchecked


def verify_data(run: Path) -> Iterator[Finding]:
    """Check every curated corpus of a run. Raises ArtifactError when it has none."""
    made = published(run)
    corpora = [name for name, manifest in made.items() if manifest.stage == "curate"]
    if not corpora:
        raise ArtifactError(f"{run} has no curated corpus", hint="run a recipe with a `curate` stage")
    for name in corpora:
        yield from _corpus(run, name, made)


def _corpus(run: Path, name: str, made: dict[str, Manifest]) -> Iterator[Finding]:
    manifest = made[name]
    problem = damage(run / name, manifest)
    yield finding(name, "checksums", problem is None, problem or f"{len(manifest.outputs)} files")
    if problem is not None:
        return
    folder = run / name
    decisions, metrics = _table(folder / "decisions.parquet"), _table(folder / "metrics.parquet")
    corpus = read_documents(folder)
    yield from _conserved(name, decisions, corpus, manifest)
    aligned = decisions["id"].equals(metrics["id"])
    yield finding(name, "metrics row by row with decisions", aligned, f"{metrics.num_rows:,} rows of metrics")
    yield from _input(run, name, manifest, made, decisions["id"])


def _conserved(name: str, decisions: pa.Table, corpus: pa.Table, manifest: Manifest) -> Iterator[Finding]:
    rows: list[dict[str, Any]] = decisions.select(["id", "kept", "rule", "duplicate_of", "output_id"]).to_pylist()
    kept = [row for row in rows if row["kept"]]
    removed = [row for row in rows if not row["kept"]]
    told = manifest.metrics.get("curation/documents_in"), manifest.metrics.get("curation/kept")
    counts = f"{len(rows):,} in = {len(kept):,} kept + {len(removed):,} removed"
    whole = len(kept) == corpus.num_rows and told == (len(rows), len(kept))
    yield finding(name, "in = kept + removed", whole, f"{counts}; {corpus.num_rows:,} in the corpus")
    same = [row["output_id"] for row in kept] == corpus["id"].to_pylist()
    yield finding(name, "what was kept is the corpus, in order", same, "by the digest of each text")
    silent = [row["id"] for row in removed if not row["rule"]] + [row["id"] for row in kept if row["rule"]]
    detail = f"not so: {', '.join(silent[:3])}" if silent else "and nothing kept has one"
    yield finding(name, "every removal names its rule", not silent, detail)
    known = {row["id"] for row in rows}
    strange = [row["id"] for row in removed if row["duplicate_of"] not in {None, *known}]
    duplicates = sum(row["duplicate_of"] is not None for row in removed)
    yield finding(name, "every duplicate names a document of the input", not strange, f"{duplicates:,} duplicates")


def _input(
    run: Path, name: str, manifest: Manifest, made: dict[str, Manifest], ids: pa.ChunkedArray
) -> Iterator[Finding]:
    claim = "decisions row by row with the input"
    source = manifest.inputs["documents"]
    stage, _, output = source.artifact.partition(".")
    if stage not in made:
        yield unchecked(name, claim, f"{source.artifact} is not in this run any more")
        return
    artifact = made[stage].artifact(run / stage, output)
    if artifact.fingerprint != source.fingerprint:
        yield unchecked(name, claim, f"{source.artifact} was made again since; run the recipe to bring both together")
        return
    problem = damage(run / stage, made[stage])
    yield finding(source.artifact, "checksums", problem is None, problem or f"{len(made[stage].outputs)} files")
    if problem is None:
        given = read_documents(artifact.path)["id"].to_pylist()
        yield finding(name, claim, given == ids.to_pylist(), f"{len(given):,} documents of {source.artifact}")


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: {error}", hint="run the recipe again: the stage will be made anew") from error
