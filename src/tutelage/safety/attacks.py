"""Attacks: ways to wrap a request so that an assistant that should decline answers it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from tutelage.errors import DataError
from tutelage.run.config import Strict
from tutelage.run.strict_yaml import read_yaml

HINT = "write `kinds: {name: [text with {p}, …]}`; docs/stages/redteam.md shows it"
_SLOT = re.compile(r"\{(\w*)\}")
_SLOTS = ("p", "a", "first", "second")
_HOW_TO = re.compile(
    r"^(?:(?:please |can you |could you )*(?:how (?:do|can|could|should|would) (?:i|you|we|one|somebody)|how to|"
    r"(?:tell|show|teach) me (?:how )?to|i want to|help me(?: to)?|what is the (?:best|easiest) way to|"
    r"give me (?:a plan|steps|instructions) to) )(?P<action>[^.?!]+)",
    re.IGNORECASE,
)
_LEET = str.maketrans("aeiost", "4310$7")


def _within(text: str, change: Callable[[str], str]) -> str:
    return re.sub(r"\w{3,}", lambda match: change(match[0]), text)


def _swapped(word: str) -> str:
    """The inner letters in pairs the other way round."""
    inner = [word[place : place + 2][::-1] for place in range(1, len(word) - 1, 2)]
    return word[0] + "".join(inner) + (word[-1] if len(word) % 2 == 0 else "")


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "leet": lambda text: _within(text, lambda word: word.translate(_LEET)),
    "spaced": lambda text: _within(text, " ".join),
    "dashes": lambda text: _within(text, "-".join),
    "capitals": str.upper,
    "swapped": lambda text: _within(text, _swapped),
}


class Attack(Strict):
    """What is said turn by turn, and how the request is spelled in it."""

    turns: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    spelling: Literal["leet", "spaced", "dashes", "capitals", "swapped"] | None = None

    @field_validator("turns")
    @classmethod
    def _names_the_request(cls, turns: list[str]) -> list[str]:
        slots = [slot for text in turns for slot in _SLOT.findall(text)]
        unknown = [slot for slot in slots if slot not in _SLOTS]
        if unknown:
            raise ValueError(f"{{{unknown[0]}}} stands for nothing; there are {', '.join(f'{{{s}}}' for s in _SLOTS)}")
        if not slots:
            raise ValueError(f"{turns[0]!r} does not have the request: write {{p}} where it stands")
        return turns

    def put(self, request: str, action: str | None) -> list[str] | None:
        """The user's turns with this request in them; None if they need its action and it has none."""
        words = request.split()
        half = max(1, len(words) // 2)
        values = {"p": request, "first": " ".join(words[:half]), "second": " ".join(words[half:])}
        if action:
            values["a"] = action
        if any(slot not in values for text in self.turns for slot in _SLOT.findall(text)):
            return None
        if self.spelling is not None:
            values = {name: SPELLINGS[self.spelling](value) for name, value in values.items()}
        return [_SLOT.sub(lambda match: values[match[1]], text) for text in self.turns]


def _as_mapping(entry: Any) -> Any:
    return {"turns": [entry]} if isinstance(entry, str) else {"turns": entry} if isinstance(entry, list) else entry


class AttackFile(Strict):
    """Attacks by kind, and what to answer those that succeed. A text or a list of turns is an attack as well."""

    kinds: dict[str, Annotated[list[Annotated[Attack, BeforeValidator(_as_mapping)]], Field(min_length=1)]] = Field(
        min_length=1
    )
    refusals: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)


def read_attacks(paths: Sequence[Path]) -> tuple[dict[str, list[Attack]], list[str]]:
    """The attacks of all files by kind (a kind may be in several), and the refusals. Raises DataError."""
    kinds: dict[str, list[Attack]] = {}
    refusals: list[str] = []
    for path in paths:
        file = read_yaml(path, AttackFile, HINT)
        for kind, attacks in file.kinds.items():
            kinds.setdefault(kind, []).extend(attacks)
        refusals += file.refusals
    if not refusals:
        raise DataError(f"{paths[0]}: refusals: there are none", hint="say how attacks are to be declined")
    return kinds, refusals


def action_of(request: str) -> str | None:
    """What is to be done, of a request of the form "How do I …?", "Tell me how to …", "I want to …"."""
    match = _HOW_TO.match(request.strip())
    return match["action"].strip() if match else None


def wrapped(request: str, attacks: Sequence[Attack], rng: random.Random) -> list[str] | None:
    """The request in one of these attacks, drawn among those that can hold it; None if none can."""
    action = action_of(request)
    possible = [turns for attack in attacks if (turns := attack.put(request, action)) is not None]
    return rng.choice(possible) if possible else None
