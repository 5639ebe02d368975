"""Manifests: what a stage was made from, what it made, where and when."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tutelage.errors import ArtifactError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.files import digest, files_below, sha256_file, write_atomic

MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
BRANCHES = "journal.branches.jsonl"  # rows of the journal that a resumed run left behind
ATTEMPT = "stage.json"
SCRATCH = "scratch"
_NOT_OUTPUT = (MANIFEST, JOURNAL, BRANCHES, ATTEMPT)  # they hold times, or say how this very attempt went


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class InputRecord(_Record):
    """An artifact that was read; `path` is relative to the stage's folder."""

    artifact: str
    fingerprint: str
    path: str


class OutputFile(_Record):
    """A file that was made; `path` is relative to the stage's folder."""

    path: str
    bytes: int
    sha256: str


class ArtifactRecord(_Record):
    """One output of a stage; `path` is "." or its folder inside the stage's."""

    type: ArtifactType
    path: str
    fingerprint: str


class Manifest(_Record):
    """`manifest.json` of a published stage. `key` is the hash of everything that the stage was made from."""

    name: str
    stage: str
    key: str
    config: dict[str, Any]
    seed: int
    inputs: dict[str, InputRecord]
    data: dict[str, str]
    fingerprint: str
    artifacts: dict[str, ArtifactRecord]
    metrics: dict[str, float | str]
    notes: list[str]
    outputs: list[OutputFile]
    started: str
    finished: str
    seconds: float
    attempts: int
    versions: dict[str, str]
    host: str
    threads: int
    hardware: dict[str, str | int | float]
    records_time: bool = False
    peak_memory: int | None = None  # bytes that the process had resident at most; None where the system does not tell

    def artifact(self, directory: Path, output: str) -> Artifact:
        """The output `output` of the stage published in `directory`."""
        record = self.artifacts[output]
        name = f"{self.name}.{output}" if output else self.name
        return Artifact(name, record.type, directory / record.path, record.fingerprint)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json` atomically."""
    write_atomic(
        directory / MANIFEST, json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    )


def read_manifest(directory: Path) -> Manifest:
    """Read `manifest.json`. Raises ArtifactError when it is missing or half-written."""
    path = directory / MANIFEST
    hint = f"run the recipe again: it makes {directory.name} anew"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing", hint=hint) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path} is half-written or damaged: {where} {first['msg']}".strip(), hint=hint) from error


def measure_outputs(directory: Path) -> list[OutputFile]:
    """Checksums of everything that a stage wrote."""
    found = []
    for path in files_below(directory):
        name = path.relative_to(directory).as_posix()
        if name not in _NOT_OUTPUT and not name.startswith(f"{SCRATCH}/"):
            found.append(OutputFile(path=name, bytes=path.stat().st_size, sha256=sha256_file(path)))
    return found


def artifact_records(
    stage: str, types: Mapping[str, ArtifactType], outputs: list[OutputFile]
) -> dict[str, ArtifactRecord]:
    """A fingerprint for every output, from its own files only: what did not change makes nothing stale."""
    records = {}
    for name, type_ in types.items():
        prefix = f"{name}/" if name else ""
        own = [[file.path.removeprefix(prefix), file.sha256] for file in outputs if file.path.startswith(prefix)]
        assert own, f"stage {stage} returned without writing its output {name or type_}"
        records[name] = ArtifactRecord(type=type_, path=name or ".", fingerprint=digest(own))
    return records


def damage(directory: Path, manifest: Manifest) -> str | None:
    """The first file that is not as the manifest says (what was expected, what was found), or None."""
    for output in manifest.outputs:
        path = directory / output.path
        if not path.is_file():
            return f"{path} is missing ({output.bytes:,} bytes expected)"
        size = path.stat().st_size
        if size != output.bytes:
            return f"{path} has {size:,} bytes, expected {output.bytes:,}"
        found = sha256_file(path)
        if found != output.sha256:
            return f"{path} has another checksum: expected sha256 {output.sha256[:12]}…, found {found[:12]}…"
    return None


def json_metrics(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Metrics as JSON can hold them: a value that is not finite becomes text."""
    values = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
