"""What is read from answers of the OpenAI protocol; an answer that is none is a ResourceError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.generation.server import Server, not_the_protocol


def choices(body: Mapping[str, Any], count: int, server: Server) -> list[Mapping[str, Any]]:
    """The `count` choices of an answer, each with a message of text. ResourceError if they are not there."""
    found = body.get("choices")
    if not isinstance(found, list) or len(found) != count or not all(map(_has_text, found)):
        raise not_the_protocol(server, str(dict(body)), f"asked for: choices with a message of text, {count} of them")
    return list(found)


def _has_text(choice: Any) -> bool:
    message = choice.get("message") if isinstance(choice, dict) else None
    return isinstance(message, dict) and isinstance(message.get("content"), str | None)


def texts(body: Mapping[str, Any], count: int, server: Server) -> list[Mapping[str, Any]]:
    """The `count` choices of raw text, in the order of their prompts. ResourceError if they are not there."""
    found = body.get("choices")
    known = isinstance(found, list) and all(
        isinstance(c, dict) and isinstance(c.get("text"), str) and isinstance(c.get("index"), int) for c in found
    )
    if not isinstance(found, list) or not known or sorted(c["index"] for c in found) != list(range(count)):
        raise not_the_protocol(server, str(dict(body)), f"asked for: choices of text, {count} of them")
    return sorted(found, key=lambda choice: int(choice["index"]))
