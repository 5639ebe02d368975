"""Preferences of principles instead of people, as soft labels (Bai et al., arXiv 2212.08073, section 4)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby
from typing import Any

from tutelage.constitutions.principles import Principle, check_rules, from_rows
from tutelage.errors import DataError
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import JudgeConfig
from tutelage.stages.constitution import FILE
from tutelage.stages.constitutional.chains import Chain
from tutelage.stages.constitutional.comparisons import Comparison, by_rule, inference
from tutelage.stages.constitutional.writers import open_writer
from tutelage.stages.models import run_dtype
from tutelage.stages.sample import request_seed

Row = Mapping[str, Any]


@dataclass
class Judged:
    """Two replies to one prompt, and what each principle asked said: P(first is better), why not the other."""

    first: Row
    second: Row
    comparisons: list[Comparison]
    answers: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def probability(self) -> float:
        """The mean over the principles that said anything, by their weights; ½ if none did."""
        weights = {comparison.name: comparison.principle.weight for comparison in self.comparisons}
        total = sum(weights[name] for name in self.answers)
        return sum(weights[name] * p for name, p in self.answers.items()) / total if total else 0.5


def run(config: JudgeConfig, inputs: Inputs, run: StageRun) -> None:
    """Compare all differing replies to each prompt; prompts, not pairs, are split into training and validation."""
    principles = from_rows(list(read_jsonl(inputs["questions"].path / FILE)))
    _check(config, principles, inputs)
    completions = list(read_jsonl(inputs["completions"].path / "completions.jsonl"))
    pairs = [
        pair
        for prompt_id, group in groupby(completions, key=lambda row: str(row["prompt_id"]))
        for pair in _pairs(prompt_id, list(group), principles, config, run.seed)
    ]
    judge = _ask(config, inputs, pairs, run)
    lead = config.least_lead
    told = [pair for pair in pairs if abs(pair.probability - 0.5) > lead]
    if not told:
        raise DataError(
            f"no principle tells any of {len(pairs)} pairs of replies apart",
            hint="sample more replies at a higher temperature, lower least_lead, or ask other questions",
        )
    rows = _rows(told, config, judge)
    write_jsonl(run.directory / "preferences.jsonl", rows)
    run.metrics |= {
        "num_pairs": len(rows),
        "num_prompts": len({row["prompt_id"] for row in rows}),
        "num_validation_pairs": sum(row["split"] == "validation" for row in rows),
        "told_apart/share": len(told) / len(pairs),
        "probability": sum(row["probability"] for row in rows) / len(rows),
    }
    for name in principles:
        run.metrics[f"decided/{name}/share"] = sum(name in pair.answers for pair in told) / len(told)


def _check(config: JudgeConfig, principles: Mapping[str, Principle], inputs: Inputs) -> None:
    if not principles:
        raise DataError(
            f"{inputs['questions'].name}: no principle has a question",
            hint="critiques alone revise replies (the stage revise); to compare them, add a `question`",
        )
    if config.by == "rules":
        check_rules(principles, "by")


def _pairs(
    prompt_id: str, group: Sequence[Row], principles: Mapping[str, Principle], config: JudgeConfig, seed: int
) -> list[Judged]:
    """Every pair of differing replies to a prompt, with the principles that are asked about it."""
    replies = list({str(row["completion"]): row for row in group}.values())
    pairs = []
    for number, (first, second) in enumerate(combinations(replies, 2)):
        own = request_seed(seed, prompt_id, number)
        sides = Chain.of(first).now, Chain.of(second).now
        asked = _drawn(principles, config.principles_a_pair, own)
        comparisons = [
            Comparison(name, first["prompt"], sides, principle, request_seed(own, name))
            for name, principle in asked.items()
        ]
        pairs.append(Judged(first, second, comparisons))
    return pairs


def _drawn(principles: Mapping[str, Principle], count: int | None, seed: int) -> dict[str, Principle]:
    """`count` different principles, drawn by weight (Efraimidis and Spirakis: largest u^(1/weight)); all for None."""
    if count is None or count >= len(principles):
        return dict(principles)
    draw = random.Random(seed)
    keys = {name: draw.random() ** (1 / principle.weight) for name, principle in principles.items()}
    chosen = sorted(keys, key=lambda name: keys[name], reverse=True)[:count]
    return {name: principles[name] for name in principles if name in chosen}


def _ask(config: JudgeConfig, inputs: Inputs, pairs: Sequence[Judged], run: StageRun) -> str:
    """Fill in every pair's answers; returns who gave them."""
    if config.by == "rules":
        for pair in pairs:
            for comparison in pair.comparisons:
                probability, reason = by_rule(comparison, config.sharpness)
                if probability is not None:
                    pair.answers[comparison.name], pair.reasons[comparison.name] = probability, reason
        return "rules"
    judge = open_writer(inputs.get("model"), config.engine, run_dtype(config.precision, run), config.max_slots)
    comparisons = [comparison for pair in pairs for comparison in pair.comparisons]
    found = iter(inference(comparisons, judge, config.votes, run))
    silent = 0
    for pair in pairs:
        for comparison in pair.comparisons:
            answer = next(found)
            silent += answer is None
            if answer is not None:
                pair.answers[comparison.name] = answer
    if silent:
        run.notes.append(
            f"{silent} of {len(comparisons)} questions were not answered: they do not fit into the context, or no "
            "answer named A or B"
        )
    return judge.name


def _rows(told: Sequence[Judged], config: JudgeConfig, judge: str) -> list[dict[str, Any]]:
    """Rows of `preferences.jsonl`; the pairs of one prompt share the weight 1."""
    rows: list[dict[str, Any]] = []
    for prompt_id, group in groupby(told, key=lambda pair: str(pair.first["prompt_id"])):
        pairs = list(group)
        held_out = request_seed(0, prompt_id) % 1000 < 1000 * config.validation_share
        for number, pair in enumerate(pairs):
            chosen, rejected = (pair.first, pair.second) if pair.probability > 0.5 else (pair.second, pair.first)
            sure = min(max(pair.probability, 1 - pair.probability), config.most_sure)
            rows.append(
                {
                    "id": f"{prompt_id}/{number}",
                    "prompt_id": pair.first["prompt_id"],
                    "prompt": pair.first["prompt"],
                    "kind": pair.first["kind"],
                    "chosen": chosen["completion"],
                    "rejected": rejected["completion"],
                    "chosen_finished": chosen["finish_reason"] == "stop",
                    "rejected_finished": rejected["finish_reason"] == "stop",
                    "annotator": f"constitution ({judge})",
                    "shown": [pair.first["completion"], pair.second["completion"]],
                    "reason": _reason(pair),
                    "principles": {name: round(p, 4) for name, p in pair.answers.items()},
                    "weight": 1.0 / len(pairs),
                    "probability": round(sure, 4),
                    "split": "validation" if held_out else "train",
                }
            )
    return rows


def _reason(pair: Judged) -> str:
    """What the principles that decided say against the rejected reply; their names where they give no words."""
    first = pair.probability > 0.5
    agreeing = [name for name, p in pair.answers.items() if (p > 0.5) == first]
    return "; ".join(f"{name}: {words}" if (words := pair.reasons.get(name)) else name for name in agreeing)
