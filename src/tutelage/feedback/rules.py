"""Rewards that are rules: functions of a prompt and the text of a reply. NaN means "no reward", never zero."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.feedback.rubric import Rubric, is_right


@dataclass(frozen=True)
class Replied:
    """A reply to a row of `prompts.jsonl`: its text, whether it ended by itself, its number of tokens."""

    prompt: Mapping[str, Any]
    text: str
    finished: bool
    num_tokens: int


@dataclass(frozen=True)
class RuleSettings:
    """What the rules can be told; a rule reads the fields that it needs."""

    max_tokens: int
    length_limit: int | None = None
    format_pattern: str | None = None


def answer(reply: Replied, settings: RuleSettings) -> float:
    """1 if the prompt's `answer` is named, and no other of `meta.options`, else 0; NaN for a prompt without one."""
    prompt = reply.prompt
    if not prompt.get("answer"):
        return math.nan
    options = tuple(prompt.get("meta", {}).get("options", ()))
    return float(is_right(reply.text, str(prompt["answer"]), str(prompt["messages"][-1]["content"]), options))


def finished(reply: Replied, settings: RuleSettings) -> float:
    """1 if the reply ended by itself, 0 if the length limit cut it."""
    return float(reply.finished)


def follows_format(reply: Replied, settings: RuleSettings) -> float:
    """1 if the whole reply matches `format_pattern`, else 0."""
    assert settings.format_pattern is not None, "checked in the configuration"
    return float(re.fullmatch(settings.format_pattern, reply.text.strip(), re.DOTALL) is not None)


def length(reply: Replied, settings: RuleSettings) -> float:
    """0 up to `length_limit` tokens, then falling in a line to −1 at `max_tokens` (DAPO 2503.14476, eq. 13)."""
    limit = settings.max_tokens // 2 if settings.length_limit is None else settings.length_limit
    over = (reply.num_tokens - limit) / max(settings.max_tokens - limit, 1)
    return -min(max(over, 0.0), 1.0)


def rubric(reply: Replied, settings: RuleSettings) -> float:
    """The score of the simulated annotator's rubric."""
    return Rubric().judge(reply.prompt, reply.text, reply.finished).score


Rule = Callable[[Replied, RuleSettings], float]

RULES: Mapping[str, Rule] = {
    "answer": answer,
    "finished": finished,
    "format": follows_format,
    "length": length,
    "rubric": rubric,
}
ASK_THE_PROMPT = frozenset({"answer"})
"""Rules that give no reward where the prompt lacks what they compare with."""
