"""Private strings: found by patterns with check sums and context, replaced by typed placeholders.

Dates, years, sums and program code are full of digits, so every loose pattern needs a word of context before it
("phone", "call", …) and every strict one a check digit or an unmistakable layout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tutelage.curation.pii_checks import card_ok, iban_ok, luhn, public_address

__all__ = ["PLACEHOLDERS", "Span", "find_pii", "luhn", "replace_pii"]

PLACEHOLDERS = {
    "secret": "<SECRET>",
    "email": "<EMAIL>",
    "iban": "<IBAN>",
    "card": "<CARD>",
    "ssn": "<SSN>",
    "ip": "<IP>",
    "phone": "<PHONE>",
}


@dataclass(frozen=True, order=True)
class Span:
    """Characters `start:end` of the cleaned text hold a private string of this kind."""

    start: int
    end: int
    kind: str

    @property
    def replacement(self) -> str:
        """The placeholder put in its place."""
        return PLACEHOLDERS[self.kind]


# at most 64 characters before the @ (RFC 5321); without a bound a long run of letters takes quadratic time
_EMAIL = re.compile(r"[\w.%+-]{0,63}[\w%+-]@(?:[\w-]+\.)+[^\W\d_]{2,}")
_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{16,}"
    r"|\b(?:sk|pk|rk|api|key|tok)[-_](?:live[-_]|test[-_]|proj[-_]|ant[-_])?(?=[\w-]*\d)[A-Za-z0-9_-]{16,}"
    r"|\bxox[abprs]-[\w-]{10,}|\bAIza[\w-]{30,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"
)
_NAMED_SECRET = re.compile(
    r"\b(?:api[ _-]?key|secret(?:[ _-]?key)?|access[ _-]?(?:key|token)|auth[ _-]?token|token|password|passwd|pwd|"
    r"passcode|mot de passe|contraseña)\b[\"']?(?:\s+is|\s+est|\s+es)?\s*[:=]?\s*[\"'`]?([^\s\"'`,;<>()]{8,})",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")
_FEWEST_DIGITS = 4  # an IPv4 address has at least these
_SECRET_MARKS = (  # one of these stands in whatever _SECRETS matches; looking for them is much faster
    *("-----BEGIN", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "AIza"),
    *(f"{name}{dash}" for name in ("sk", "pk", "rk", "api", "key", "tok") for dash in "-_"),
    "eyJ",
)
_SECRET_WORDS = ("key", "token", "secret", "pass", "pwd", "contraseña")
_IBAN = re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ ]?[A-Za-z0-9]){11,30}")
_CARD = re.compile(r"(?<![\w.,/=+-])\d(?:[ -]?\d){11,18}(?![\w/=]|[.,-]\d)")
_SSN = re.compile(r"(?<![\w.-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_SPACED_SSN = re.compile(r"(?<![\w.-])(?!000|666|9\d\d)\d{3} ?(?!00)\d{2} ?(?!0000)\d{4}(?![\w-])")
_SSN_CONTEXT = re.compile(r"\b(?:ssn|social security)\b[^.\n]{0,40}$", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_VERSION = re.compile(r"(?:\bversion|\brelease|\bv)\s*$", re.IGNORECASE)
_EXTENSION = r"(?:\s?(?:x|ext\.?)\s?\d{1,5})?"
_STRICT_PHONE = re.compile(
    r"(?<![\w.+/=*-])(?:"
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){5,12}"  # +44 20 7946 0018, +41 (0)96 471 07 95
    r"|001[ .-]\d{3}[ .-]\d{3}[ .-]\d{4}"
    r"|(?:1[ .-])?\(\d{3}\) ?\d{3}[-. ]\d{4}|(?:1[-.])?\d{3}([-.])\d{3}\1\d{4}"  # (602) 272-9781, 905-674-3793
    r"|0[1-9](?:([ .-])\d{2})(?:\2\d{2}){3}"  # 06 12 34 56 78
    r"|0\d{4} \d{6}|0\d{3} \d{3} \d{4}|020 \d{4} \d{4}|07\d{3} \d{3} \d{3}"  # British
    rf"){_EXTENSION}(?![\w/]|[.-]\d|\s*[=*×÷])"
)
_LOOSE_PHONE = re.compile(rf"(?<![\w.+/=*-])\(?\d[\d().\- ]{{5,17}}\d{_EXTENSION}(?![\w=*/]|[.,-]\d)")
_PHONE_CONTEXT = re.compile(
    r"(?:\b(?:phone|telephone|tele?|mobile|cell|cellphone|fax|whatsapp|hotline|dial|call(?:ing)?|ring|text(?: me)?|"
    r"téléphone|appelez|appeler|appelle|portable|teléfono|móvil|llame|llamar|llama|"
    r"(?:my|his|her|their|our|your|contact) (?:new )?number|numéro|número|reach (?:me|us|him|her|them)|"
    r"messages? (?:to|at|on)|answering (?:at|on)|my registered)\b|☎)"
    r"[^.\n\d]{0,40}$",
    re.IGNORECASE,
)
_SURE_PHONE_CONTEXT = re.compile(
    r"(?:\b(?:phone|telephone|tele?|mobile|fax|whatsapp|téléphone|teléfono|móvil|numéro|número)\b|☎"
    r"|\b(?:my|his|her|their|our|your|contact) (?:new )?number\b"
    r"|\bmessages? (?:to|at|on)\b|\banswering (?:at|on)\b)[^.\n\d]{0,40}$",
    re.IGNORECASE,
)
_QUANTITY = re.compile(r"^(?:\d{1,8}|\d{1,3}(?: \d{3})+)$")
_PHONE_AFTER = re.compile(r"^[ -]{0,2}(?:office|home|mobile|cell|fax|work|desk)\b", re.IGNORECASE)
_DATE = re.compile(
    r"^(?:\d{4}[-. ]\d{1,2}[-. ]\d{1,2}|\d{1,2}[-. ]\d{1,2}[-. ]\d{4}|(?:1\d|20)\d\d ?- ?(?:1\d|20)\d\d)$"
)
_SUM_BEFORE = re.compile(r"[\d)=*/+−×÷][ ]*$")
_LONG_NUMBER = re.compile(r"\d[\d().: +-]{5,}\d|\d{1,3}(?:\.\d{1,3}){3}")


def find_pii(text: str) -> list[Span]:
    """Every private string of `text`, in order, without overlaps; where two kinds claim one place, the surer wins."""
    taken: list[Span] = []
    finders = _FINDERS if len(_DIGIT.findall(text)) >= _FEWEST_DIGITS or "::" in text else _WITHOUT_DIGITS
    for kind, finder in finders.items():
        for start, end in finder(text):
            if all(end <= span.start or start >= span.end for span in taken):
                taken.append(Span(start, end, kind))
    return sorted(taken)


def replace_pii(text: str, spans: Sequence[Span]) -> str:
    """`text` with each span replaced by its placeholder."""
    parts, place = [], 0
    for span in spans:
        parts += [text[place : span.start], span.replacement]
        place = span.end
    return "".join([*parts, text[place:]])


Found = Iterator[tuple[int, int]]


def _before(text: str, start: int, width: int = 60) -> str:
    return text[max(0, start - width) : start]


def _secrets(text: str) -> Found:
    if any(mark in text for mark in _SECRET_MARKS):
        for match in _SECRETS.finditer(text):
            yield match.span()
    lowered = text.lower()
    if not any(word in lowered for word in _SECRET_WORDS):
        return
    for match in _NAMED_SECRET.finditer(text):
        value = match.group(1).rstrip(".!?:")
        has_digit, has_letter = any(map(str.isdigit, value)), any(map(str.isalpha, value))
        if has_digit and has_letter and len(value) >= 8 and "://" not in value:
            yield match.start(1), match.start(1) + len(value)


def _emails(text: str) -> Found:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield match.span()


def _ibans(text: str) -> Found:
    for match in _IBAN.finditer(text):
        length = iban_ok(match.group())
        if length:
            yield match.start(), match.start() + length


def _cards(text: str) -> Found:
    for match in _CARD.finditer(text):
        if card_ok(match.group()):
            yield match.span()


def _ssns(text: str) -> Found:
    for match in _SSN.finditer(text):
        yield match.span()
    for match in _SPACED_SSN.finditer(text):
        if "-" not in match.group() and _SSN_CONTEXT.search(_before(text, match.start())):
            yield match.span()


def _addresses(text: str) -> Found:
    for match in _IPV4.finditer(text):
        if public_address(match.group()) and not _VERSION.search(_before(text, match.start(), 12)):
            yield match.span()
    for match in _IPV6.finditer(text):
        groups = match.group().split(":")
        # a::b is C++ and 12:30:45:10 a time code: an address has a long group with a digit or is whole
        if any(len(group) >= 3 for group in groups) and public_address(match.group()):
            yield match.span()


def _phones(text: str) -> Found:
    if not _LONG_NUMBER.search(text):
        return
    for match in _STRICT_PHONE.finditer(text):
        if not _SUM_BEFORE.search(_before(text, match.start(), 4)):
            yield match.span()
    for match in _LOOSE_PHONE.finditer(text):
        digits = sum(map(str.isdigit, match.group()))
        if not 7 <= digits <= 14 or _DATE.match(match.group()):
            continue
        before, after = _before(text, match.start()), text[match.end() : match.end() + 12]
        # "call it with 1000000 items", "3 000 000 people": what may be a quantity needs a surer word
        context = _SURE_PHONE_CONTEXT if _QUANTITY.match(match.group()) else _PHONE_CONTEXT
        if _PHONE_AFTER.search(after) or context.search(before):
            yield match.span()


_FINDERS: dict[str, Callable[[str], Found]] = {
    "email": _emails,
    "secret": _secrets,
    "iban": _ibans,
    "ssn": _ssns,
    "ip": _addresses,
    "card": _cards,
    "phone": _phones,
}
_WITHOUT_DIGITS = {kind: _FINDERS[kind] for kind in ("email", "secret")}
