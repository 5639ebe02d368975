"""Private strings in replies: found, told apart from what the user said, and masked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.curation.pii import Span, replace_pii
from tutelage.privacy.private import private_spans

_SIGN = re.compile(r"[^\w@]+")


def leaks(reply: str, before: Sequence[Mapping[str, Any]]) -> list[Span]:
    """The private spans of a reply that no message before it has, however those are written there.

    What the user, the system message or a tool said in this conversation is known in it already; what the assistant
    said is not: a leak repeated is a leak.
    """
    said = _bare(" ".join(str(message.get("content", "")) for message in before if message["role"] != "assistant"))
    return [span for span in private_spans(reply) if _bare(reply[span.start : span.end]) not in said]


def masked(reply: str, before: Sequence[Mapping[str, Any]]) -> tuple[str, int]:
    """The reply with a placeholder such as `<PHONE>` for every leak, and how many there were."""
    found = leaks(reply, before)
    return replace_pii(reply, found), len(found)


def _bare(text: str) -> str:
    return _SIGN.sub("", text.casefold())
