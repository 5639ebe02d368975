"""What a stage would be made from today, and why what is on the disk does not do."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tutelage
from tutelage.errors import ArtifactError
from tutelage.run.artifacts import Artifact
from tutelage.run.config import StageConfig, expanded
from tutelage.run.files import content_fingerprint, digest, files_below
from tutelage.run.manifest import Manifest, damage, read_manifest

_NO_MATTER = ("seed", "needs")  # the derived seed counts; `needs` is a sentence for people
_SHOWN = 3  # differences named in a reason


@dataclass(frozen=True)
class Request:
    """Everything that decides a stage's bytes; its hash is the stage's key."""

    stage: str
    config: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, Artifact]
    data: Mapping[str, str | None]  # config field named `path` → fingerprint of what it names; None: not there
    version: str = field(default_factory=lambda: tutelage.__version__)

    @property
    def key(self) -> str:
        """The hash to compare with a manifest's."""
        config = {name: value for name, value in self.config.items() if name not in _NO_MATTER}
        inputs = {field: artifact.fingerprint for field, artifact in self.inputs.items()}
        return digest([self.stage, config, self.seed, inputs, self.data, self.version])


def make_request(config: StageConfig, seed: int, inputs: Mapping[str, Artifact]) -> Request:
    """The request for a stage with these inputs; reads and fingerprints the external data that it names."""
    resolved = config.model_dump(mode="json")
    data = {field: _data_fingerprint(path) for field, path in external_paths(resolved)}
    return Request(config.stage, resolved, seed, inputs, data)


def external_paths(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """All (field, path) of a resolved config: the texts in fields named `path`, URLs left out."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "path":
                paths = [item] if isinstance(item, str) else item if isinstance(item, list) else []
                for index, path in enumerate(paths):
                    if isinstance(path, str) and path and "://" not in path:
                        yield f"{prefix}path" + (f".{index}" if isinstance(item, list) else ""), path
            yield from external_paths(item, f"{prefix}{key}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from external_paths(item, f"{prefix}{index}.")


def missing_paths(config: StageConfig) -> list[tuple[str, str]]:
    """The (field, path) of external data that is not there."""
    named = external_paths(config.model_dump(mode="json"))
    return [(field, path) for field, path in named if next(_data_files(path), None) is None]


def _data_fingerprint(path: str) -> str | None:
    files = list(_data_files(path))
    return content_fingerprint(files) if files else None


def _data_files(path: str) -> Iterator[tuple[str, Path]]:
    """(name, file) of a file, of all files below a folder, or of a pattern such as `texts/*.jsonl.gz`.

    `~` and environment variables are expanded and hidden files of a folder left out, as readers of data do.
    """
    place = expanded(path)
    if place.is_file():
        yield place.name, place
    elif place.is_dir():
        named = ((file.relative_to(place), file) for file in files_below(place))
        yield from ((name.as_posix(), file) for name, file in named if not any(p.startswith(".") for p in name.parts))
    else:
        found = (Path(match) for match in sorted(glob.glob(str(place), recursive=True)))
        yield from ((file.as_posix(), file) for file in found if file.is_file())


@dataclass(frozen=True)
class Verdict:
    """Whether a published stage does (`reason` None) or why not; `manifest` is what is on the disk, if readable."""

    request: Request
    manifest: Manifest | None
    reason: str | None
    damaged: bool = False

    @property
    def missing_data(self) -> list[str]:
        """Fields whose data is needed and not there."""
        return [field for field, found in self.request.data.items() if found is None] if self.reason else []


def judge(directory: Path, request: Request) -> Verdict:
    """Compare a stage's folder with what is asked, files and checksums included."""
    if not directory.exists():
        return Verdict(request, None, "never run")
    try:
        manifest = read_manifest(directory)
    except ArtifactError as error:
        return Verdict(request, None, f"outputs damaged: {error.message}", damaged=True)
    # Raw data may be deleted after it was read: what it gave is still good.
    data = {field: found or manifest.data.get(field) for field, found in request.data.items()}
    present = replace(request, data=data)
    if manifest.key != present.key:
        return Verdict(request, manifest, "; ".join(_differences(manifest, present)))
    damaged = damage(directory, manifest)
    if damaged:
        return Verdict(request, manifest, f"outputs damaged: {damaged}", damaged=True)
    return Verdict(request, manifest, None)


def _differences(manifest: Manifest, request: Request) -> list[str]:
    """In words, most telling first."""
    if manifest.stage != request.stage:
        return [f"stage {manifest.stage} → {request.stage}"]
    old, new = dict(_flat(manifest.config)), dict(_flat(dict(request.config)))
    keys = [*new, *(key for key in old if key not in new)]
    changed = [key for key in keys if old.get(key) != new.get(key) and key not in _NO_MATTER]
    found = [f"{key} {_shown(old, key)} → {_shown(new, key)}" for key in changed]
    if manifest.seed != request.seed:
        found.append(f"seed {manifest.seed} → {request.seed}")
    for taken, artifact in request.inputs.items():
        before = manifest.inputs.get(taken)
        if taken not in changed and (before is None or before.fingerprint != artifact.fingerprint):
            name = taken if taken == artifact.name else f"{taken} ({artifact.name})"
            found.append(f"input {name} changed")
    found += [f"data {key} changed" for key in request.data if request.data[key] != manifest.data.get(key)]
    if manifest.versions.get("tutelage") != request.version:
        found.append(f"tutelage {manifest.versions.get('tutelage', '?')} → {request.version}")
    more = len(found) - _SHOWN
    return [*found[:_SHOWN], f"and {more} more"] if more > 0 else found or ["made from something else"]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict | list) or not value:
        yield prefix.removesuffix("."), value
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _flat(item, f"{prefix}{key}.")


def _shown(values: Mapping[str, Any], field: str) -> str:
    if field not in values:
        return "not set"
    value = values[field]
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
