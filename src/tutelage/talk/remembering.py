"""What a chat remembers of its user from one session to the next: the model writes it, the user may look and edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tutelage.errors import DataError
from tutelage.memory.file import read_notes, write_notes
from tutelage.memory.notes import REQUEST, notes_of
from tutelage.talk.session import Session


class Remembering:
    """The notes of a session: carried from a file when it begins, written by the model when it ends."""

    def __init__(self, session: Session, path: Path) -> None:
        self.session, self.path = session, path
        self._before = path.with_name(f"{path.name}.before")  # what a session's own notes left out
        self._forgotten: list[str] = []
        session.carry(read_notes(path))

    def shown(self) -> str:
        """The notes that this session began with, less what was forgotten."""
        return "\n".join(self.session.notes) or "nothing is remembered"

    def forget(self, text: str) -> str:
        """Strike every note that holds a text, from the file too; it is not noted again. DataError if there is none."""
        if not text:
            raise DataError("/forget: what is to be forgotten?", hint="for example /forget name")
        left = [note for note in self.session.notes if text.casefold() not in note.casefold()]
        count = len(self.session.notes) - len(left)
        if not count and not any(text.casefold() in turn.content.casefold() for turn in self.session.turns):
            raise DataError(f"/forget {text}: no note has it, nor anything said", hint="/memory shows the notes")
        self._forgotten.append(text.casefold())
        self._before.unlink(missing_ok=True)
        self.session.carry(left)
        if count:
            self._write(left, self.path)
        return f"{count} notes struck; it will not be noted, but what was said now stays until /clear"

    def close(self) -> str:
        """Let the model write its notes of this session and keep them; says what became of them."""
        if not self.session.turns:
            return ""
        sampling = self.session.sampling
        self.session.sampling = replace(sampling, temperature=0.0)
        try:
            exchange = self.session.ask(REQUEST)
            for _ in exchange.speech:
                pass
        except DataError as error:
            return f"the notes stay as they were: {error.message}"
        finally:
            self.session.sampling = sampling
        if exchange.speech.ended != "stop":
            return "the notes stay as they were: the model did not come to an end of them"
        notes = [note for note in notes_of(exchange.speech.reply) if not self._struck(note)]
        lost = [note for note in self.session.notes if note not in notes]
        if lost:  # a small model may leave out what it was to carry on
            self._write(self.session.notes, self._before)
        self._write(notes, self.path)
        return f"{len(notes)} notes in {self.path}" + (
            f"; {len(lost)} are gone, those before are in {self._before}" if lost else ""
        )

    def _struck(self, note: str) -> bool:
        return any(text in note.casefold() for text in self._forgotten)

    def _write(self, notes: Sequence[str], path: Path) -> None:
        try:
            write_notes(path, notes)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}", hint="name another file") from error
