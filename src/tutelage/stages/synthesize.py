"""Synthetic data: a model writes rows, filters choose among them, and every row says where it comes from.

Rows are drawn in rounds: a round makes as many drafts as are still missing, by the yield of those before it. What is
kept is in `conversations.jsonl`; who wrote it, from what and how is in `rows.jsonl`; what was not kept, and why, is in
`rejected.jsonl`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tutelage.curation.decontaminate import items_from_tasks
from tutelage.errors import DataError
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import SynthesizeConfig
from tutelage.stages.sample import request_seed
from tutelage.stages.synthesis.drafts import Draft, Parent
from tutelage.stages.synthesis.filters import Filters, alive
from tutelage.stages.synthesis.kinds import KINDS
from tutelage.stages.synthesis.measuring import answerable, diversity
from tutelage.stages.synthesis.sources import parents_of
from tutelage.stages.synthesis.studio import Studio


def run(config: SynthesizeConfig, inputs: Inputs, run: StageRun) -> None:
    """Draw, filter and keep rows until there are enough, then measure them."""
    parents = parents_of(config, inputs, run.seed)
    tasks = list(read_jsonl(inputs["tasks"].path / "tasks.jsonl")) if "tasks" in inputs else []
    studio = Studio(config, inputs, run)
    filters = Filters(items_from_tasks(tasks), config.most_harm, config.near_duplicate_jaccard, _ordered(config))
    drafts: list[Draft] = []
    run.journal.rewind(0)
    for number in range(1, config.rounds + 1):
        size = _round_size(config, len(drafts), len(studio.kept))
        drawn = [_draft(config, parents, len(drafts) + place, run) for place in range(size)]
        KINDS[config.kind](drawn, studio)
        filters.judge(drawn)
        _enough(drawn, config, studio)
        studio.kept += alive(drawn)
        drafts += drawn
        run.journal.log(number, {"drawn": len(drafts), "kept": len(studio.kept), "tokens": studio.tokens})
        if len(studio.kept) >= config.num_rows:
            break
    _publish(drafts, studio.kept, run)
    _measure(config, drafts, studio, filters, run)


def _ordered(config: SynthesizeConfig) -> bool:
    """Whether the order of words makes another row: of sums it does."""
    return config.kind == "reasoning"


def _round_size(config: SynthesizeConfig, drawn: int, kept: int) -> int:
    """How many drafts should give what is missing: whole parents, by the yield so far or else the best possible."""
    best = min(config.most_a_parent or config.samples, config.samples) / config.samples
    expected = max(kept / drawn, best / 10) if drawn else best
    wanted = min(math.ceil((config.num_rows - kept) / expected), config.drafts_a_round or 10**9)
    return math.ceil(wanted / config.samples) * config.samples


def _draft(config: SynthesizeConfig, parents: Sequence[Parent], number: int, run: StageRun) -> Draft:
    """Draft `number` of the stage: `samples` of each parent, the parents in turn."""
    parent = parents[number // config.samples % len(parents)]
    return Draft(f"{run.name}-{number:06d}", parent, request_seed(run.seed, "draft", number))


def _enough(drafts: Sequence[Draft], config: SynthesizeConfig, studio: Studio) -> None:
    """Put aside what is more than `most_a_parent` of one parent, or than `num_rows` in all."""
    counts = Counter(draft.parent.id for draft in studio.kept)
    kept = len(studio.kept)
    for draft in alive(drafts):
        own = counts[draft.parent.id]
        if config.most_a_parent is not None and not draft.check("of_its_parent", own + 1, own < config.most_a_parent):
            continue
        if kept >= config.num_rows:
            draft.check("enough", kept + 1, False)
            continue
        counts[draft.parent.id] += 1
        kept += 1


def _measure(
    config: SynthesizeConfig, drafts: Sequence[Draft], studio: Studio, filters: Filters, run: StageRun
) -> None:
    """Yield, cost, diversity; of questions about passages whether they can be answered from their evidence."""
    kept = studio.kept
    reasons = Counter(draft.reason for draft in drafts if not draft.sound)
    judged = len(filters.kept)
    run.metrics |= {
        "asked": config.num_rows,
        "drawn": len(drafts),
        "kept": len(kept),
        "yield": len(kept) / len(drafts),
        "requests": studio.requests,
        "tokens": studio.tokens,
        "tokens_a_row": studio.tokens / max(len(kept), 1),
        "drawn/distinct/share": 1 - filters.repeated / max(judged, 1),
        **diversity([draft.key for draft in kept], _ordered(config)),
        **{f"rejected/{reason}": count for reason, count in sorted(reasons.items())},
    }
    if config.kind == "questions-answers" and config.documents and config.measured_rows:
        run.metrics |= answerable(kept[: config.measured_rows], studio)
    if studio.uncounted:
        run.notes.append(f"the server did not count the tokens of {studio.uncounted} replies: `tokens` is too low")
    if studio.without_room:
        run.notes.append(f"{studio.without_room} requests did not fit: lower max_tokens or passage_words")
    common = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(4))
    if len(kept) < config.num_rows:
        run.notes.append(
            f"{len(kept)} of {config.num_rows} rows were found in {config.rounds} rounds ({common}): raise rounds, or "
            "look at rejected.jsonl"
        )
    if not kept:
        raise DataError(
            f"none of {len(drafts)} drafts passed the filters; most failed: {common}",
            hint=f"look at {run.directory}/rejected.jsonl; show examples (num_examples), fine-tune the model on some, "
            "or loosen the filter",
        )


def _publish(drafts: Sequence[Draft], kept: Sequence[Draft], run: StageRun) -> None:
    write_jsonl(run.directory / "conversations.jsonl", (draft.as_conversation(run.name) for draft in kept))
    write_jsonl(run.directory / "rows.jsonl", (draft.as_row() for draft in kept))
    rejected = (draft for draft in drafts if not draft.sound)
    write_jsonl(run.directory / "rejected.jsonl", ({"reason": d.reason, **d.as_row()} for d in rejected))
