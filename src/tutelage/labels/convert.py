"""Labels as rows of `preferences.jsonl`, and as rankings that can be read in again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tutelage.labels.records import Label
from tutelage.sources.preferences import split_of
from tutelage.sources.rankings import ordered_pairs

Row = dict[str, Any]
Split = Callable[[Label], str]


def by_prompt(validation_share: float) -> Split:
    """Whole prompts are held out, by their hash."""
    return lambda label: split_of(label.prompt, validation_share)


def preference_rows(labels: Iterable[Label], split: Split) -> Iterator[Row]:
    """Pairs, then single labelled replies, of every first look; a second look at an item would count it twice.

    Ties make no pair. An unsafe reply is never the chosen one, nor is any where all are bad.
    """
    for label in labels:
        if label.repeat == 0:
            yield from _pairs(label, split(label))
            yield from _singles(label, split(label))


def _pairs(label: Label, split: str) -> Iterator[Row]:
    if label.verdict.all_bad:
        return
    for number, (better, worse, weight, stated) in enumerate(_ordered(label)):
        if label.flagged(better, "unsafe"):
            continue
        chosen, rejected = label.replies[better], label.replies[worse]
        shown = [label.replies[place].text for place in label.shown if place in (better, worse)]
        yield {
            "id": f"{_id(label)}/{number}",
            **_about_prompt(label),
            "chosen": chosen.text,
            "rejected": rejected.text,
            "chosen_finished": chosen.finished,
            "rejected_finished": rejected.finished,
            "kind": label.kind,
            "annotator": label.annotator,
            "shown": shown,
            "reason": label.verdict.reason,
            "weight": weight,
            **stated,
            "split": split,
        }


def _ordered(label: Label) -> Iterator[tuple[int, int, float, dict[str, float]]]:
    """(better, worse, weight, {probability}) of every pair that is told apart."""
    if label.verdict.soft:
        for first, second, p in label.verdict.soft:
            if p != 0.5:
                better, worse = (first, second) if p > 0.5 else (second, first)
                yield better, worse, 1 / len(label.verdict.soft), {"probability": max(p, 1 - p)}
    elif label.ranks:
        pairs, weight = ordered_pairs(label.ranks)
        for better, worse in pairs:
            yield better, worse, weight, {}


def _singles(label: Label, split: str) -> Iterator[Row]:
    for place, reply in enumerate(label.replies):
        good = label.flagged(place, "good")
        if good or label.verdict.all_bad or label.flagged(place, "bad", "unsafe", "inaccurate"):
            yield {
                "id": f"{_id(label)}/reply-{place}",
                **_about_prompt(label),
                "completion": reply.text,
                "finished": reply.finished,
                "label": good,
                "kind": label.kind,
                "annotator": label.annotator,
                "reason": label.verdict.reason,
                "split": split,
            }


def _id(label: Label) -> str:
    return f"{label.key[:16]}/{label.annotator}"


def _about_prompt(label: Label) -> Row:
    own = {"prompt_id": label.prompt_id} if label.prompt_id is not None else {}
    return {**own, "prompt": label.prompt}


def ranking_rows(labels: Iterable[Label]) -> Iterator[Row]:
    """One row a judgement, repeats too, with all that `tutelage label import` reads."""
    for label in labels:
        verdict = label.verdict
        row: Row = {
            **_about_prompt(label),
            "kind": label.kind,
            "responses": [reply.text for reply in label.replies],
            "models": [reply.model for reply in label.replies],
            "finished": [reply.finished for reply in label.replies],
            "ranks": label.ranks,
            "flags": {str(place): flags for place, flags in verdict.flags.items()},
            "all_bad": verdict.all_bad,
            "soft": [list(pair) for pair in verdict.soft],
            "shown": list(label.shown),
            "reason": verdict.reason,
            "seconds": verdict.seconds,
            "annotator": label.annotator,
            "annotator_kind": label.annotator_kind,
            "repeat": label.repeat,
            "guideline_version": label.guideline_version,
            "created": label.created,
        }
        yield {key: value for key, value in row.items() if value not in (None, [], {})}
