"""When a reply says that it does not know."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tutelage.feedback.rubric import mentions

UNKNOWN = re.compile(
    r"\b((do|did) not|don['’]t|didn['’]t|can ?not|can['’]t|never|not sure|unsure|no) "
    r"(\w+ ){0,3}?(know|known|knowledge|heard|read|say|information|idea|whether|who|what)\b|"
    r"\b(unknown to me|is not something i know|not familiar|not aware)\b",
    re.IGNORECASE,
)


def abstains(reply: str, options: Sequence[str] = (), question: str = "") -> bool:
    """Whether a reply says within its first two sentences that it does not know, and names no answer all the same.

    `options` are the answers that there might be; one that the question names may be repeated.
    """
    first = " ".join(re.split(r"(?<=[.!?])\s", reply.strip())[:2])
    return UNKNOWN.search(first) is not None and not any(
        mentions(reply, option) for option in options if not mentions(question, option)
    )
