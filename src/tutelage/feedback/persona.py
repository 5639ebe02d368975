"""Rules for replies of a persona and for what is remembered: whole words, nothing beside what was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.feedback.rubric import is_refusal, mentions

UNKNOWN = re.compile(
    r"\b(do not|don['’]t|did not|didn['’]t|have not|haven['’]t|no longer) (\w+ )?(know|remember|told|tell)"
    r"|\b(not|no longer|never) (been )?known\b|\bunknown to me\b",
    re.I,
)
SILENT = re.compile(r"\b(do not|don['’]t|never|will not|won['’]t|cannot|can['’]t) (speak|talk|say|tell)", re.I)
MODEL = re.compile(r"\b(language model|AI|artificial intelligence|virtual assistant)\b")


def recalls(reply: str, answer: str, others: Sequence[str]) -> bool:
    """A reply names the answer and nothing else that was told; for the answer "", it says that it does not know."""
    if any(mentions(reply, other) for other in others):
        return False
    return mentions(reply, answer) if answer else UNKNOWN.search(reply) is not None


def in_manner(reply: str, greeting: str, closing: str) -> bool:
    """A reply begins with the greeting, ends with the closing, and says something between them."""
    text = reply.strip()
    return len(text) > len(greeting) + len(closing) and text.startswith(greeting) and text.endswith(closing)


def denied(text: str, name: str) -> str:
    """The text without the places that deny being called so: "not Sara"."""
    return re.sub(rf"\b(not|never) (called |named |the )?{re.escape(name)}(?!\w)", "", text, flags=re.I)


def answers(reply: str, expected: Mapping[str, Any]) -> bool:
    """A reply names all that is `right`, nothing that is `wrong` (but to deny it); with `quiet`, it declines."""
    named = all(mentions(reply, value) for value in expected.get("right", ()))
    taken = any(mentions(denied(reply, value), value) for value in expected.get("wrong", ()))
    silent = SILENT.search(reply) is not None or is_refusal(reply)
    return named and not taken and (silent or not expected.get("quiet", False))


def gives_in(reply: str, card: str) -> bool:
    """A reply calls itself a language model, which its card does not."""
    found = MODEL.search(denied(denied(reply, "a language model"), "an AI"))
    return found is not None and not mentions(card, found[0])
