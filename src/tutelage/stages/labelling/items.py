"""Which replies people are shown: those of a prompt, or the two that a reward model tells apart least."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby
from typing import Any

import torch

from tutelage.data.completions import completion_of
from tutelage.data.tokenizer import TextTokenizer
from tutelage.labels.intake import item_of_completions
from tutelage.labels.records import NewItem
from tutelage.model.hub import load_reward_model
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.alignment.rewards import score_fitting
from tutelage.stages.configs import PreferConfig
from tutelage.stages.models import run_dtype
from tutelage.stages.sample import request_seed

Row = Mapping[str, Any]
SHARES = 1000  # a share of the items is decided by the thousandths of a hash


def items_of(config: PreferConfig, rows: Sequence[Row], inputs: Inputs, run: StageRun) -> list[NewItem]:
    """One item a prompt with replies that differ; `meta` says how sure a reward model is, if one was asked."""
    groups = _differing(config, rows)
    if (judge := inputs.get("people.active")) is not None:
        found = _least_sure(groups, judge, run)
    else:
        found = [item_of_completions(_drawn(config, group, run.seed)) for group in groups]
    return [NewItem(**{**vars(item), "annotators_wanted": _wanted(config, item)}) for item in found]


def _differing(config: PreferConfig, rows: Sequence[Row]) -> list[list[Row]]:
    groups = []
    for _, group in groupby(rows, key=lambda row: row["prompt_id"]):
        replies = list({row["completion"].strip(): row for row in group}.values())
        if len(replies) > 1 and (config.kinds is None or replies[0]["kind"] in config.kinds):
            groups.append(replies)
    return groups


def _drawn(config: PreferConfig, replies: Sequence[Row], seed: int) -> list[Row]:
    """All replies, or as many as an item may have, in their order."""
    count = min(config.people.max_replies, len(replies))
    own = random.Random(request_seed(seed, replies[0]["prompt_id"]))
    return [replies[place] for place in sorted(own.sample(range(len(replies)), count))]


def _wanted(config: PreferConfig, item: NewItem) -> int:
    shared = request_seed(1, item.prompt_id) % SHARES < SHARES * config.people.overlap_share
    return config.people.overlap if shared else 1


def _least_sure(groups: Sequence[Sequence[Row]], judge: Artifact, run: StageRun) -> list[NewItem]:
    """P(a is better) = σ(r_a − r_b) is nearest to ½ (uncertainty sampling; Lewis and Gale 1994)."""
    tokenizer = TextTokenizer.load(judge.path)
    model = load_reward_model(judge.path, run_dtype("float32", run)).eval()
    completions = [
        completion_of(tokenizer, row["prompt"], row["completion"], row["finish_reason"] == "stop")
        for group in groups
        for row in group
    ]
    scores = iter(score_fitting(model, completions, tokenizer.pad_id).tolist())
    scored = [[(row, next(scores)) for row in group] for group in groups]
    return [item for group in scored for item in _pair(group)]


def _pair(scored: Sequence[tuple[Row, float]]) -> Iterator[NewItem]:
    fitting = [(row, score) for row, score in scored if math.isfinite(score)]
    if len(fitting) > 1:
        (a, first), (b, second) = min(combinations(fitting, 2), key=lambda pair: abs(pair[0][1] - pair[1][1]))
        probability = float(torch.tensor(first - second).sigmoid())
        item = item_of_completions([a, b])
        meta = {**item.meta, "reward_model_probability": round(probability, 4)}
        yield NewItem(**{**vars(item), "meta": meta, "priority": -abs(probability - 0.5)})
