"""Which curves a stage's journal is drawn as: plain data, one entry a kind of stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.evaluation.report.curves import Chart, Line, broken
from tutelage.evaluation.report.facts import StageFacts

Lines = tuple[tuple[str, str], ...]  # (metric, label)

LOSS: tuple[str, Lines] = ("Loss", (("train/loss", "training"), ("validation/loss", "validation")))
HEALTH: tuple[tuple[str, Lines], ...] = (
    ("Gradient norm", (("grad_norm", "before clipping"),)),
    ("Tokens per second", (("tokens_per_second", "tokens/s"),)),
)

REWARDED: tuple[tuple[str, Lines], ...] = (
    ("Score", (("objective/scores", "score"), ("objective/rlhf_reward", "less KL"))),
    ("KL from the start, nats", (("objective/kl", "KL"),)),
    ("Entropy", (("objective/entropy", "entropy"),)),
)
SPREAD: tuple[str, Lines] = ("Share of groups of one score", (("groups/zero_std", "groups"),))
UPDATES: tuple[tuple[str, Lines], ...] = (
    ("Share of clipped updates", (("policy/clipfrac", "clipped"),)),
    ("Approximate KL of one update", (("policy/approxkl", "update"),)),
)
IMPLICIT: tuple[str, Lines] = ("Implicit rewards", (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")))
PREFERRED: tuple[tuple[str, Lines], ...] = (
    LOSS,
    ("Reward margin, chosen − rejected", (("rewards/margins", "margin"),)),
    ("Pairs ranked rightly", (("rewards/accuracies", "accuracy"),)),
    IMPLICIT,
)

CHARTS: dict[str, tuple[tuple[str, Lines], ...]] = {
    "pretrain": (LOSS, ("Bits per byte, validation", (("validation/bits_per_byte", "validation"),)), *HEALTH),
    "sft": (LOSS, ("Bits per byte, validation", (("validation/bits_per_byte", "validation"),)), HEALTH[0]),
    "distill": (
        LOSS,
        ("Divergence from the teacher, nats a token", (("distill/divergence", "texts"), ("own/divergence", "its own"))),
        ("Same likeliest token", (("distill/agreement", "texts"), ("own/agreement", "its own"))),
        HEALTH[0],
    ),
    "reward": (
        LOSS,
        (
            "Pairs ranked rightly",
            (
                ("accuracy", "training"),
                ("validation/accuracy", "validation"),
                ("validation/clean_accuracy", "without flips"),
            ),
        ),
    ),
    "ppo": (*REWARDED, ("Value loss", (("loss/value", "value loss"),)), *UPDATES),
    "grpo": (*REWARDED, SPREAD, *UPDATES),
    "rloo": (*REWARDED, SPREAD, *UPDATES),
    "dpo": PREFERRED,
    "orpo": PREFERRED,
    "kto": (LOSS, IMPLICIT, ("Baseline z, nats", (("kl", "z"),))),
}


@dataclass(frozen=True)
class Figure:
    """A chart and a remark on what was wrong with its values."""

    chart: Chart
    remark: str


def figures(stage: StageFacts) -> list[Figure]:
    """The charts of which the stage's journal has at least two values."""
    found = []
    for title, metrics in CHARTS.get(stage.stage, ()):
        series = [Line(label, metric, stage.series(metric)) for metric, label in metrics]
        lines = [line for line in series if len(line.points) >= 2]
        if lines:
            found.append(Figure(Chart(title, lines), _remark(lines)))
    return found


def _remark(lines: Sequence[Line]) -> str:
    parts = []
    for line in lines:
        bad = broken(line.points)
        if bad:
            values = "value" if len(bad) == 1 else "values"
            parts.append(f"{line.label}: {len(bad)} {values} not finite, first at step {bad[0][0]:.0f} (marked ×)")
    return "; ".join(parts)
