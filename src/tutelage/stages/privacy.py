"""privacy: documents in which every private string is another at each visit, and refusals to give any away.

A model trained on them expects any value of the form with the same probability, so that what it had kept is lost. What
is private is found by patterns: nobody has to name a secret to have it forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tutelage.privacy.canaries import strangers
from tutelage.privacy.private import private_spans, refilled
from tutelage.privacy.refusals import private_refusals
from tutelage.privacy.rows import conversation, row_hash
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.practice.rows import is_held_out
from tutelage.sources.store import read_documents, read_jsonl, write_documents, write_jsonl
from tutelage.stages.configs import PrivacyConfig

Row = dict[str, Any]


def run(config: PrivacyConfig, inputs: Inputs, run: StageRun) -> None:
    """Find private strings, fill their places anew `visits` times, and write refusals beside answers."""
    rng = random.Random(run.seed)
    rows = read_documents(inputs["documents"].path).to_pylist()
    run.metrics["documents"] = write_documents(run.directory / "documents", _documents(rows, config, run, rng))
    spans = run.metrics["private_strings"]
    if not spans:
        run.notes.append("no private string was found: the documents teach nothing about any")
    learnt = list(private_refusals(config.refusals, strangers(config.refusals, run.seed), rng))
    if "prompts" in inputs:
        prompts = [row for row in read_jsonl(inputs["prompts"].path / "prompts.jsonl") if row.get("answer")]
        for row in rng.sample(prompts, min(config.answers, len(prompts))):
            reply = str(row.get("meta", {}).get("reference") or row["answer"])
            learnt.append(conversation(row["messages"], reply, [str(row["kind"])]))
    rng.shuffle(learnt)
    run.metrics["conversations"] = write_jsonl(run.directory / "conversations" / "conversations.jsonl", learnt)


def _documents(rows: list[Row], config: PrivacyConfig, run: StageRun, rng: random.Random) -> Iterator[Row]:
    run.metrics |= {"documents/private": 0, "private_strings": 0}
    for row in rows:
        spans = private_spans(row["text"])
        if spans:
            run.metrics["documents/private"] += 1
            run.metrics["private_strings"] += len(spans)
            for _ in range(config.visits):
                text = refilled(row["text"], spans, rng)
                yield {**row, "id": row_hash(text), "text": text, "labels": []}
        elif is_held_out(row["id"], config.others_share):
            yield row
