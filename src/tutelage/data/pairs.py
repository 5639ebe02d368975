"""Preference rows as token sequences: chosen and rejected completions of one prompt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.data.completions import Completion, completion_of
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError


@dataclass(frozen=True)
class Pair:
    """Two completions of one prompt, the first preferred; `row` is where they come from.

    `margin`: how much better the chosen one is, if known. `probability` of its being the better one: a soft label.
    """

    chosen: Completion
    rejected: Completion
    weight: float
    row: Mapping[str, Any]
    margin: float | None = None
    probability: float = 1.0


@dataclass(frozen=True)
class PairSet:
    """Pairs by split, and how many rows were left out.

    They are longer than the context, prefer nothing, are single replies, or state numbers that cannot be.
    """

    train: list[Pair]
    validation: list[Pair]
    num_too_long: int
    num_equal: int
    num_unpaired: int = 0
    num_impossible: int = 0

    def notes(self, context: int) -> list[str]:
        """What was dropped and why."""
        notes = []
        if self.num_too_long:
            notes.append(f"{self.num_too_long} pairs are longer than the context of {context} tokens and were dropped")
        if self.num_equal:
            notes.append(f"{self.num_equal} pairs have an empty side or two equal ones and were dropped")
        if self.num_unpaired:
            notes.append(f"{self.num_unpaired} rows are single labelled replies, no pairs, and were left to `kto`")
        if self.num_impossible:
            notes.append(
                f"{self.num_impossible} pairs have a weight, margin or probability that cannot be (not a number, "
                "negative, or a probability above 1) and were dropped"
            )
        return notes


def same_words(row: Mapping[str, Any]) -> bool:
    """Whether a pair's two sides are one reply, white space around it aside."""
    return bool(row["chosen"].strip() == row["rejected"].strip())


def render_pairs(tokenizer: TextTokenizer, rows: Iterable[Mapping[str, Any]], context: int) -> PairSet:
    """Render preference rows; over-long ones are dropped and counted, never cut. DataError if none is left."""
    pairs: dict[str, list[Pair]] = {"train": [], "validation": []}
    num_too_long = num_equal = num_unpaired = num_impossible = 0
    for row in rows:
        if "chosen" not in row:
            num_unpaired += 1
            continue
        if same_words(row) or not row["chosen"].strip() or not row["rejected"].strip():
            num_equal += 1
            continue
        if not _possible(row):
            num_impossible += 1
            continue
        chosen = completion_of(tokenizer, row["prompt"], row["chosen"], row.get("chosen_finished", True))
        rejected = completion_of(tokenizer, row["prompt"], row["rejected"], row.get("rejected_finished", True))
        if max(len(chosen.ids), len(rejected.ids)) > context:
            num_too_long += 1
            continue
        pair = Pair(
            chosen, rejected, float(row.get("weight", 1.0)), row, row.get("margin"), row.get("probability", 1.0)
        )
        pairs[row.get("split", "train")].append(pair)
    if not pairs["train"]:
        raise DataError(
            f"no preference pair is left to train on: {num_too_long} are longer than the context of {context} tokens, "
            f"{num_equal} state no preference, {num_unpaired} are single labelled replies, {num_impossible} have a "
            "weight, margin or probability that cannot be",
            hint="mend what most are counted under: shorten them or use a model with a longer context, give two "
            "replies that differ, write numbers from 0 on",
        )
    return PairSet(pairs["train"], pairs["validation"], num_too_long, num_equal, num_unpaired, num_impossible)


def _possible(row: Mapping[str, Any]) -> bool:
    """Whether the numbers that a row states can be: a loss must not meet NaN."""
    limits = {"weight": math.inf, "margin": math.inf, "probability": 1.0}
    stated = [(row[name], limit) for name, limit in limits.items() if name in row]
    return all(
        isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= limit for value, limit in stated
    )
