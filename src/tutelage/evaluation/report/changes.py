"""What a stage changed, in a few words: what its artifacts hold and what its training did."""

from __future__ import annotations

from tutelage.evaluation.report.facts import StageFacts
from tutelage.evaluation.report.text import count, finite, quantity

# kind of stage → what to tell, most telling first: (metric, word, whether its course is told or only its end)
TOLD: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "pretrain": (("validation/loss", "loss", True), ("validation/bits_per_byte", "bits per byte", False)),
    "sft": (("validation/loss", "loss", True), ("validation/bits_per_byte", "bits per byte", False)),
    "distill": (("validation/loss", "loss", True), ("distill/agreement", "agreement", False)),
    "revise": (("revised/share", "revised", False),),
    "judge": (("probability", "mean label", False),),
    "reward": (("validation/accuracy", "accuracy", False), ("validation/clean_accuracy", "without flips", False)),
    "ppo": (("objective/scores", "score", True), ("objective/kl", "KL", False)),
    "grpo": (("objective/scores", "score", True), ("objective/kl", "KL", False)),
    "rloo": (("objective/scores", "score", True), ("objective/kl", "KL", False)),
    "dpo": (("rewards/margins", "margin", True), ("rewards/accuracies", "accuracy", False)),
    "orpo": (("rewards/margins", "margin", True), ("rewards/accuracies", "accuracy", False)),
    "kto": (("rewards/chosen", "desirable", True), ("rewards/rejected", "undesirable", True)),
}
ROUNDING = 1e-6  # of the end of a course: a beginning that is less is told as 0
INSTEAD = {"validation/loss": "train/loss"}  # where validation is off


def changed(stage: StageFacts) -> list[str]:
    """Phrases such as `1.21 M tokens`, `loss 7.62 → 1.88`, `accuracy 97 %`."""
    phrases = list(stage.contents)
    seen = finite(stage.metrics.get("num_tokens"))
    if seen is not None and stage.stage in ("pretrain", "sft"):
        phrases.append(f"{count(seen)} tokens seen")
    for metric, word, course in TOLD.get(stage.stage, ()):
        phrase = _told(stage, metric, word, course) or _told(stage, INSTEAD.get(metric, ""), word, course)
        if phrase:
            phrases.append(phrase)
    return phrases


def last(stage: StageFacts, metric: str) -> float | None:
    """A metric's end: from the manifest, else the last finite value of the journal."""
    value = finite(stage.metrics.get(metric))
    if value is not None:
        return value
    good = [value for _, value in stage.series(metric) if finite(value) is not None]
    return good[-1] if good else None


def _told(stage: StageFacts, metric: str, word: str, course: bool) -> str:
    end = last(stage, metric)
    if end is None:
        return ""
    good = [value for _, value in stage.series(metric) if finite(value) is not None]
    if course and len(good) >= 2:
        start = good[0] if abs(good[0]) > ROUNDING * abs(end) else 0.0
        return f"{word} {quantity(metric, start)} → {quantity(metric, end)}"
    return f"{word} {quantity(metric, end)}"
