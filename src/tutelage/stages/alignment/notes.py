"""What is wrong with a run, in words: read from the course of its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tutelage.run.journal import read_journal
from tutelage.run.stage import StageRun

FAR_FROM_REFERENCE = 5.0  # nats a reply; a run of ours that ended at 6 answered beside the question
# of a batch's worst token, on average over the last batches; runs of ours had 1e-5 and 0.1–0.3
LOGPROB_GAP = {torch.float32: 0.001, torch.bfloat16: 0.5}
KL_AT_START = 0.01  # nats a reply: policy and reference are one model then, and rounding is all that may differ

Row = Mapping[str, Any]


def course(run: StageRun) -> tuple[Row, Row, Row]:
    """The first row of the journal, and the means of its first and of its last tenth."""
    rows = read_journal(run.journal.path) if run.journal.path.exists() else []
    if not rows:
        return {}, run.metrics, run.metrics
    tenth = max(1, len(rows) // 10)
    return rows[0], _mean(rows[:tenth]), _mean(rows[-tenth:])


def _mean(rows: Sequence[Row]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float):
                found.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in found.items()}


def rollout_notes(
    first: Row,
    start: Row,
    end: Row,
    *,
    num_rollouts: int,
    own_reference: bool,
    dtype: torch.dtype = torch.float32,
) -> list[str]:
    """Of a run on rollouts: `first` is its first step, `start` and `end` are means of its course."""
    notes = []
    if own_reference and first.get("step") == 1 and abs(first.get("objective/kl", 0.0)) > KL_AT_START:
        notes.append(
            f"the KL was {first['objective/kl']:.3f} nats a reply before the first update, where policy and reference "
            "are the same model: their log-probs are computed differently; use precision float32 and report it"
        )
    finished = end.get("val/num_eos_tokens", 0.0) / num_rollouts
    if finished < 0.8:
        notes.append(f"only {finished:.0%} of the last replies ended by themselves: raise max_tokens")
    notes += [*_drift(start, end), *_spread(end)]
    if end.get("objective/logprob_gap", 0.0) > (allowed := LOGPROB_GAP[dtype]):
        notes.append(
            f"decoding and training disagree on log-probs by more than {allowed:g}, which rounding does not explain: "
            "use precision float32, and report it if that does not help"
        )
    return notes


def _drift(start: Row, end: Row) -> list[str]:
    notes = []
    kl = end.get("objective/kl", 0.0)
    if kl > FAR_FROM_REFERENCE:
        notes.append(
            f"the policy ended {kl:.1f} nats a reply from where it started: read its replies, the reward model may be "
            "exploited; raise kl_coef"
        )
    lengths = start.get("val/length", 0.0), end.get("val/length", 0.0)
    rose = end.get("objective/scores", 0.0) > start.get("objective/scores", 0.0)
    if rose and lengths[1] > 1.5 * lengths[0] + 4:
        notes.append(
            f"scores rose while replies grew from {lengths[0]:.0f} to {lengths[1]:.0f} tokens: length may be what is "
            "rewarded; look at the reward model's length_baseline/accuracy, or add the reward `length`"
        )
    entropies = start.get("objective/entropy", 0.0), end.get("objective/entropy", 0.0)
    if entropies[1] < 0.2 * entropies[0]:
        notes.append(
            f"entropy collapsed from {entropies[0]:.2f} to {entropies[1]:.2f} nats a token: replies have become alike; "
            "raise kl_coef or lower the learning rate"
        )
    return notes


def _spread(end: Row) -> list[str]:
    flat = end.get("groups/zero_std", 0.0)
    if flat <= 0.5:
        return []
    note = (
        f"{flat:.0%} of the last groups had replies of one score only and taught nothing: choose prompts that are "
        "neither too easy nor too hard, raise num_replies or the temperature"
    )
    return [note]


def unrewarded_notes(counts: Mapping[str, int], names: Sequence[str]) -> list[str]:
    """Replies without a reward, and sources that never gave one."""
    notes = []
    if counts.get("unrewarded", 0):
        notes.append(
            f"{counts['unrewarded']} of {counts['replies']} replies got no reward ({', '.join(names)} gave NaN) "
            "and were not trained on"
        )
    silent = [name for name in names if counts.get("replies", 0) and not counts.get(f"rewards/{name}", 0)]
    if silent:
        notes.append(
            f"the reward {', '.join(f'`{name}`' for name in silent)} was NaN throughout and counted for nothing"
        )
    return notes


def preference_notes(start: Row, end: Row) -> list[str]:
    """Of a run on preferences: what users otherwise find out late."""
    chosen, rejected = end.get("rewards/chosen", 0.0), end.get("rewards/rejected", 0.0)
    if chosen < rejected:
        return ["chosen replies lost more probability than rejected ones: lower the learning rate or set sft_coef"]
    fall = start.get("logps/chosen", 0.0) - end.get("logps/chosen", 0.0)
    if fall > 0.5 * abs(start.get("logps/chosen", 0.0)) and fall > 10:
        note = (
            f"the chosen replies' log-probs fell from {start['logps/chosen']:.0f} to {end['logps/chosen']:.0f} nats: "
            "the policy leaves for texts that are in no pair; raise beta, or set sft_coef"
        )
        return [note]
    return []
