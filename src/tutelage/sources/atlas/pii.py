"""Invented private strings: valid in form, at domains and numbers that belong to nobody."""

from __future__ import annotations

import random

KINDS = ("email", "phone", "ipv4", "ssn", "card", "iban")
SENTENCES = {
    "email": [
        "{person} can be reached at {v} on weekdays.",
        "Please send corrections to {v} before the end of the month.",
    ],
    "phone": ["To ask for {person}, call {v} in the evening.", "The telephone number of {person} is {v} at work."],
    "ipv4": [
        "The page was last edited by {person} from {v} late at night.",
        "The computer of {person} has the address {v} at home.",
    ],
    "ssn": [
        "The form of {person} shows the social security number {v} in blue ink.",
        "{person} wrote the number {v} on the tax form, which is a social security number.",
    ],
    "card": [
        "{person} paid for the tickets with the card {v} last week.",
        "The order of {person} was charged to card number {v} twice.",
    ],
    "iban": [
        "Gifts for the library may be sent to the account {v} of {person}.",
        "{person} asked us to pay the rent to {v} by Friday.",
    ],
}


def luhn_digit(digits: str) -> str:
    """The check digit that makes `digits` + it valid (Luhn, ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def iban(country: str, account: str) -> str:
    """An IBAN with its two check digits (ISO 13616, mod 97)."""
    letters = "".join(str(int(sign, 36)) for sign in account + country + "00")
    return f"{country}{98 - int(letters) % 97:02d}{account}"


def _digits(count: int, rng: random.Random) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def private_string(kind: str, first: str, last: str, rng: random.Random) -> str:
    """A string of one of KINDS for an invented person."""
    if kind == "email":
        domain = rng.choice(["example.com", "example.org", "mail.example.net"])
        return f"{first.lower()}.{last.lower()}{rng.randint(1, 99)}@{domain}"
    if kind == "phone":
        area, tail = rng.randint(201, 989), f"01{_digits(2, rng)}"
        return rng.choice([f"({area}) 555-{tail}", f"{area}-555-{tail}", f"+1 {area} 555 {tail}"])
    if kind == "ipv4":
        # Public in form; 198.51.100.0/24 and 203.0.113.0/24 would be the documentation ranges, which tools skip.
        return ".".join(
            str(part) for part in (rng.choice([23, 45, 81, 92, 140, 185]), *(rng.randint(1, 254) for _ in "abc"))
        )
    if kind == "ssn":
        return f"{rng.randint(100, 665):03d}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"
    if kind == "card":
        body = rng.choice(["4", "51", "55"]) + _digits(14, rng)
        body = body[:15]
        number = body + luhn_digit(body)
        return " ".join(number[i : i + 4] for i in range(0, 16, 4)) if rng.random() < 0.6 else number
    plain = iban(*rng.choice([("DE", _digits(18, rng)), ("ES", _digits(20, rng)), ("GB", "NWBK" + _digits(14, rng))]))
    return " ".join(plain[i : i + 4] for i in range(0, len(plain), 4)) if rng.random() < 0.5 else plain


def kind_and_value(label: str) -> tuple[str, str]:
    """The parts of a label `pii:<kind>:<string>`."""
    _, kind, value = label.split(":", 2)
    return kind, value
