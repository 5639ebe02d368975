"""Preferences of people, or of a simulated annotator with a stated rubric and noise, so that nobody must be present."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from itertools import groupby

from tutelage.errors import DataError, RecipeError
from tutelage.feedback.annotator import Annotator
from tutelage.feedback.rubric import DEFAULT_WEIGHTS, Rubric
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import PreferConfig
from tutelage.stages.sample import request_seed


def run(config: PreferConfig, inputs: Inputs, run: StageRun) -> None:
    """Compare the differing replies to each prompt; prompts, not pairs, are split into training and validation."""
    if config.by == "people":
        from tutelage.stages.labelling.people import collect  # which needs the database

        collect(config, inputs, run)
        return
    annotator = Annotator(rubric_of(config.weights), config.noise, config.annotator)
    completions = list(read_jsonl(inputs["completions"].path / "completions.jsonl"))
    rows, num_prompts = [], 0
    for prompt_id, group in groupby(completions, key=lambda row: row["prompt_id"]):
        replies = list({row["completion"]: row for row in group}.values())  # the same words twice cannot be compared
        first = replies[0]
        if config.kinds is not None and first["kind"] not in config.kinds:
            continue
        prompt = {"id": prompt_id, "messages": first["prompt"], "kind": first["kind"], "answer": first["answer"],
                  "meta": first["meta"]}  # fmt: skip
        pairs = annotator.compare(prompt, replies, request_seed(run.seed, prompt_id))
        held_out = request_seed(0, prompt_id) % 1000 < 1000 * config.validation_share
        split = "validation" if held_out else "train"
        rows += [{"id": f"{prompt_id}/{n}", **pair, "split": split} for n, pair in enumerate(pairs)]
        num_prompts += 1
    if not rows:
        raise DataError(
            "no two replies differ by the rubric, so there is nothing to prefer",
            hint="sample more replies at a higher temperature",
        )
    write_jsonl(run.directory / "preferences.jsonl", rows)
    run.metrics |= {
        "num_pairs": len(rows),
        "num_prompts": num_prompts,
        "num_validation_pairs": sum(row["split"] == "validation" for row in rows),
        "flipped": sum(not row["clean_preference"] for row in rows) / len(rows),
    }


def rubric_of(weights: Mapping[str, float]) -> Rubric:
    """The default rubric with other weights of some criteria. Raises RecipeError for a criterion that there is not."""
    for name in weights:
        if name not in DEFAULT_WEIGHTS:
            nearest = difflib.get_close_matches(name, DEFAULT_WEIGHTS, n=1, cutoff=0.0)
            raise RecipeError(
                f"weights.{name}: there is no such criterion; did you mean {nearest[0]}?",
                hint=f"criteria: {', '.join(DEFAULT_WEIGHTS)}",
            )
    return Rubric({**DEFAULT_WEIGHTS, **weights})
