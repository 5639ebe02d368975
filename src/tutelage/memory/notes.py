"""Notes: what is written down of a user at the end of a session, and how the next session carries it.

The model is asked for them by a turn like any other (`REQUEST`) and writes one line for each thing. The next session
has them in its system message, so every chat template carries them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

REQUEST = "Write down what you remember of me, one line for each thing."
HEADING = "What you remember of the user:"
NOTHING = "Nothing yet."


def as_reply(notes: Sequence[str]) -> str:
    """What the model is to write when it is asked for its notes."""
    return "\n".join(notes) or NOTHING


def notes_of(reply: str) -> list[str]:
    """The notes in a reply to `REQUEST`: its lines, each once, without marks of lists; none if it says so."""
    lines = [line.strip().lstrip("-*•").strip() for line in reply.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and line != NOTHING))


def with_notes(system: str | None, notes: Sequence[str]) -> str | None:
    """A session's system message with the notes of the sessions before it."""
    if not notes:
        return system
    carried = "\n".join([HEADING, *notes])
    return f"{system}\n\n{carried}" if system else carried


def opening(system: str | None, notes: Sequence[str]) -> list[Message]:
    """The messages that a session with these notes begins with: one system message, or none."""
    carried = with_notes(system, notes)
    return [] if carried is None else [{"role": "system", "content": carried}]
