"""A file of notes that a person can read and edit: `{"notes": ["The user's name is Mira."]}`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tutelage.errors import DataError
from tutelage.sources.store import atomic


def read_notes(path: Path) -> list[str]:
    """The notes of a file; none if there is no such file yet. Raises DataError for a file that holds anything else."""
    if not path.exists():
        return []
    hint = 'write {"notes": ["one line for each thing"]}, or name a file that does not exist yet'
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}", hint=hint) from error
    notes = value.get("notes") if isinstance(value, dict) else None
    if not isinstance(notes, list):
        raise DataError(f"{path}: `notes` is not a list", hint=hint)
    for number, note in enumerate(notes):
        if not isinstance(note, str) or not note.strip() or "\n" in note:
            raise DataError(f"{path}: notes.{number}: expected one line of text, got {note!r:.60}", hint=hint)
    return [note.strip() for note in notes]


def write_notes(path: Path, notes: Sequence[str]) -> None:
    """Write the notes beside the file and rename: never half a file."""
    with atomic(path) as beside:
        beside.write_text(json.dumps({"notes": list(notes)}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
