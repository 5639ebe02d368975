"""Models beside a reference: how often their replies win, how far they are from it, and what the distance cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tutelage.evaluation.harness import Answer, Row, Subject, completions_of
from tutelage.evaluation.statistics import bootstrap_mean, paired_win_rate
from tutelage.evaluation.tasks import Result, estimated
from tutelage.feedback.rubric import Rubric


def win_rates(
    reference: str, judged: Mapping[str, Sequence[Answer]], rows: Sequence[Row], rubric: Rubric, seed: int
) -> list[Result]:
    """Win rate by the hidden rubric against the reference on the same prompts, and the rubric's mean score."""
    if not rows or not judged[reference]:
        return []
    scores = {
        label: [
            rubric.judge(row, answer.text, answer.finished).score for row, answer in zip(rows, answers, strict=True)
        ]
        for label, answers in judged.items()
        if answers
    }
    results = []
    for label, ours in scores.items():
        win = paired_win_rate(ours, scores[reference])
        results.append(estimated(label, "preference", "win_rate", win))
        results.append(estimated(label, "preference", "rubric_score", bootstrap_mean(ours, seed=seed)))
    return results


def divergences(
    reference: str, subjects: Sequence[Subject], judged: Mapping[str, Sequence[Answer]], seed: int
) -> list[Result]:
    """KL(model ‖ reference) in nats a reply, estimated on the model's own sampled replies."""
    base = next((subject for subject in subjects if subject.label == reference), None)
    if base is None:  # a server has it
        return []
    results = []
    for subject in subjects:
        completions = completions_of(judged[subject.label])
        if subject is base or not completions:
            continue
        gaps = [a - b for a, b in zip(subject.logprobs(completions), base.logprobs(completions), strict=True)]
        results.append(estimated(subject.label, "kl", "nats", bootstrap_mean(gaps, seed=seed)))
    return results


def cost_of_divergence(reference: str, results: Sequence[Result]) -> list[str]:
    """What each model's distance from the reference cost it in facts, in words."""
    value = {(row["model"], row["task"]): row["value"] for row in results}
    notes = []
    for model in (row["model"] for row in results if row["task"] == "kl"):
        costs = [
            f"{words} {value[reference, task]:.1%} → {value[model, task]:.1%}"
            for task, words in (("completion_facts", "facts by completion"), ("chat_facts", "facts in chat"))
            if (reference, task) in value and (model, task) in value
        ]
        if costs:
            notes.append(f"{model}: {value[model, 'kl']:.2f} nats a reply from {reference}; {', '.join(costs)}")
    return notes
