"""What a reward model's loss takes from a preference row: its margin, how sure its label is, and its weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from tutelage.data.pairs import Pair
from tutelage.run.stage import Inputs
from tutelage.sources.store import read_jsonl
from tutelage.stages.configs import RewardConfig

MARGINS = {"logistic": 0.0, "hinge": 1.0, "listwise": 0.0}


def preference_rows(inputs: Inputs) -> Iterator[dict[str, Any]]:
    """The rows of all `preferences` inputs, one artifact after the other."""
    folders = [artifact.path for field, artifact in inputs.items() if field.split(".")[0] == "preferences"]
    return chain.from_iterable(read_jsonl(folder / "preferences.jsonl") for folder in folders)


def by_prompt(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Pairs gathered by their prompt, in the order of first appearance."""
    groups: dict[tuple[int, ...], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(tuple(pair.chosen.ids[: pair.chosen.num_prompt]), []).append(pair)
    return list(groups.values())


def prompts_of(pairs: Sequence[Pair], config: RewardConfig) -> list[list[Pair]]:
    """All pairs of each prompt, with the margin, the probability and the weight that the loss is to use."""
    prompts = by_prompt([_labelled(pair, config) for pair in pairs])
    return [_sum_one(group) for group in prompts] if config.loss == "listwise" else prompts


def _labelled(pair: Pair, config: RewardConfig) -> Pair:
    if config.margin == "row" and pair.margin is not None:
        margin = config.margin_scale * pair.margin
    else:
        margin = config.margin if isinstance(config.margin, float) else MARGINS[config.loss]
    return replace(pair, margin=margin, probability=pair.probability if config.labels == "soft" else 1.0)


def _sum_one(group: Sequence[Pair]) -> list[Pair]:
    """A prompt counts once: the mean over its ordered pairs (2203.02155, eq. 1), as `objectives.reward.listwise`."""
    total = sum(pair.weight for pair in group) or 1.0
    return [replace(pair, weight=pair.weight / total) for pair in group]


def notes_on(pairs: Sequence[Pair], config: RewardConfig) -> list[str]:
    """What the rows state and the loss does not use, or the other way round."""
    notes = []
    soft = sum(pair.probability < 1 for pair in pairs)
    if soft and config.loss == "hinge" and config.labels == "soft":
        notes.append(f"{soft} pairs state a probability, which `hinge` has no use for: it takes every label as certain")
    silent = sum(pair.margin is None for pair in pairs)
    if silent and config.margin == "row":
        notes.append(f"{silent} of {len(pairs)} pairs state no margin: theirs is {MARGINS[config.loss]:g}")
    return notes
