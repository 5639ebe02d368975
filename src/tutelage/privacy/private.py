"""Private spans of a text, and other values of the same form in their place."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from tutelage.curation.pii import Span, find_pii

_CODE = re.compile(
    r"\b(?:code|pin|passcode|password|combination|access number|account(?: number)?|badge number|member number)\b"
    r"[^.\n\d]{0,60}?(?<![\w.,-])(\d{4,12})(?![\w-]|[.,]\d)",
    re.IGNORECASE,
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def private_spans(text: str) -> list[Span]:
    """What curation's finders find, and codes: four to twelve digits after a word such as "code" or "PIN"."""
    found = find_pii(text)
    for match in _CODE.finditer(text):
        start, end = match.span(1)
        if all(end <= span.start or start >= span.end for span in found):
            found.append(Span(start, end, "secret"))
    return sorted(found)


def fresh(value: str, kind: str, rng: random.Random) -> str:
    """A random value of the same form: digits for digits, letters for letters; of an address the part before the @."""
    own, sign, rest = value.partition("@") if kind == "email" else (value, "", "")
    return "".join(_like(c, rng) for c in own) + sign + rest


def _like(character: str, rng: random.Random) -> str:
    if character.isdigit():
        return rng.choice("0123456789")
    if character.isalpha():
        letter = rng.choice(_LETTERS)
        return letter.upper() if character.isupper() else letter
    return character


def refilled(text: str, spans: Sequence[Span], rng: random.Random) -> str:
    """The text with a fresh value in the place of every span."""
    parts, place = [], 0
    for span in spans:
        parts += [text[place : span.start], fresh(text[span.start : span.end], span.kind, rng)]
        place = span.end
    return "".join([*parts, text[place:]])
