"""The same prompts through every model: which are shown, how long replies fold, how they ended."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from tutelage.evaluation.report.text import count

Row = Mapping[str, Any]

ENDS = {
    "stop": "stopped by itself",
    "eos": "stopped by itself",
    "end_of_turn": "stopped by itself",
    "length": "cut off at the limit",
}
FOLD_AT = 300  # characters of a reply that are shown before it folds
FOLD_LINES = 10
SHOWN_PROMPTS = 8


def side_by_side(samples: Sequence[Row], models: Sequence[str], hidden: Container[str] = ()) -> dict[str, Any]:
    """Prompts with the reply of every model not `hidden`: first one of each kind, then more, the rest folded."""
    rounds: dict[str, int] = {}
    ranked = []
    for position, sample in enumerate(samples):
        kind = str(sample.get("kind", ""))
        ranked.append((rounds.get(kind, 0), position, sample))
        rounds[kind] = rounds.get(kind, 0) + 1
    shown = [_sample(sample, models, hidden) for _, _, sample in sorted(ranked, key=lambda row: row[:2])]
    return {"first": shown[:SHOWN_PROMPTS], "rest": shown[SHOWN_PROMPTS:]}


def _sample(sample: Row, models: Sequence[str], hidden: Container[str]) -> dict[str, Any]:
    given = {label: reply for label, reply in (sample.get("replies") or {}).items() if label not in hidden}
    labels = [label for label in models if label in given] + [label for label in given if label not in models]
    replies = []
    for label in labels:
        reply = given[label] if isinstance(given[label], dict) else {"text": given[label]}
        place = models.index(label) if label in models else len(models)
        end = ending(reply.get("finish_reason"))
        replies.append({"label": label, "place": place % 6, "end": end, **fold(str(reply.get("text", "")))})
    return {"kind": str(sample.get("kind", "")), "prompt": turns(sample.get("prompt")), "replies": replies}


def ending(reason: Any) -> str:
    """How a reply ended, in words."""
    return "" if reason is None else ENDS.get(str(reason), str(reason))


def turns(prompt: Any) -> list[dict[str, Any]]:
    """A prompt's turns, each folded where it is long; the role is said where there is more than one."""
    if isinstance(prompt, list):
        known = [turn for turn in prompt if isinstance(turn, dict)]
        alone = len(known) == 1
        return [
            {"role": "" if alone else str(turn.get("role", "")), **fold(str(turn.get("content", "")))} for turn in known
        ]
    return [{"role": "", **fold(str(prompt))}]


def fold(text: str) -> dict[str, Any]:
    """A text, and its opening and length where it is too long to be shown whole."""
    lines = text.split("\n")
    if len(text) <= FOLD_AT and len(lines) <= FOLD_LINES:
        return {"text": text, "opening": "", "length": ""}
    opening = "\n".join(lines[:FOLD_LINES])[:FOLD_AT]
    return {"text": text, "opening": opening.rstrip() + " …", "length": count(len(text), "characters")}
