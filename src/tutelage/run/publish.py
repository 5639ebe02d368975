"""From a partial folder to a published one, such that a kill at any moment loses nothing.

stage.partial/   being written: outputs, journal.jsonl, scratch/ (checkpoints), stage.json (the key of the attempt)
stage/           published: the last thing written is manifest.json, then the folder is renamed
stage.old/       the version before, between two renames only
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import ArtifactError
from tutelage.run.files import flush, flush_tree, write_atomic
from tutelage.run.manifest import ATTEMPT, BRANCHES, JOURNAL, MANIFEST, SCRATCH, Manifest, read_manifest, write_manifest


def partial_of(directory: Path) -> Path:
    """Where the stage of `directory` is being written."""
    return directory.with_name(directory.name + ".partial")


def old_of(directory: Path) -> Path:
    """Where the replaced version is while the new one takes its place."""
    return directory.with_name(directory.name + ".old")


@dataclass(frozen=True)
class Attempt:
    """One attempt at a stage; `resumed` says that checkpoints of an earlier attempt at the same key are there."""

    partial: Path
    number: int
    resumed: bool

    @property
    def scratch(self) -> Path:
        """Files that survive a kill and do not survive publication."""
        return self.partial / SCRATCH

    @property
    def journal(self) -> Path:
        """The journal of metrics."""
        return self.partial / JOURNAL


def begin(directory: Path, key: str) -> Attempt:
    """Make the partial folder: with the checkpoints of an attempt at the same key, else empty."""
    partial = partial_of(directory)
    before = attempts_before(partial, key)
    attempt = Attempt(partial, before + 1, resumed=before > 0 and any((partial / SCRATCH).glob("*")))
    if not attempt.resumed and partial.exists():
        (partial / ATTEMPT).unlink(missing_ok=True)  # first: half-deleted checkpoints must not look resumable
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    write_atomic(partial / ATTEMPT, json.dumps({"key": key, "attempts": attempt.number}) + "\n")
    for path in sorted(partial.iterdir()):  # half-written outputs must not be published with whole ones
        if path.name not in (SCRATCH, JOURNAL, BRANCHES, ATTEMPT):
            remove(path)
    attempt.scratch.mkdir(exist_ok=True)
    return attempt


def attempts_before(partial: Path, key: str) -> int:
    """How many attempts at this very key were begun in the partial folder."""
    try:
        record = json.loads((partial / ATTEMPT).read_text(encoding="utf-8"))
        return int(record["attempts"]) if record["key"] == key else 0
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0


def publish(directory: Path, manifest: Manifest) -> None:
    """Complete the partial folder with its manifest and put it in place of `directory`."""
    partial = partial_of(directory)
    flush_tree(partial)
    write_manifest(partial, manifest)  # from here on the partial folder is whole; only now may checkpoints go
    _put_in_place(directory)


def recover(directory: Path) -> bool:
    """Finish or undo a publication that a kill interrupted; True if something was done. Needs the run's lock."""
    partial, old = partial_of(directory), old_of(directory)
    if (partial / MANIFEST).exists() and _whole(partial):
        _put_in_place(directory)
        return True
    if not old.exists():
        return False
    if directory.exists():
        remove(old)
    else:
        old.rename(directory)
    return True


def _whole(partial: Path) -> bool:
    try:
        read_manifest(partial)
    except ArtifactError:
        return False
    return True


def _put_in_place(directory: Path) -> None:
    partial, old = partial_of(directory), old_of(directory)
    remove(partial / SCRATCH)
    remove(partial / ATTEMPT)
    if directory.exists():
        remove(old)
        directory.rename(old)
    partial.rename(directory)
    flush([directory.parent])
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
