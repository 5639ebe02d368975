"""What is measured on memory and persona: the user's turns are set, and the model gives every reply."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tutelage.evaluation.harness import Answer, Measured, Row, Subject, at_hand
from tutelage.evaluation.outcome import Outcome, by_kind
from tutelage.feedback.persona import answers, gives_in, in_manner, recalls
from tutelage.generation.sampling import Sampling
from tutelage.memory.notes import notes_of, opening


def recalled(subject: Measured, rows: Sequence[Row], sampling: Sampling) -> Outcome:
    """Every question of a row is answered right; where rows have a `distance`, by distance as well."""
    model = at_hand(subject)
    hits = _asked(model, rows, [row["messages"] for row in rows], sampling)
    more: dict[str, list[bool]] = defaultdict(list)
    for row, hit in zip(rows, hits, strict=True):
        if "distance" in row["meta"]:
            more[f"after_{row['meta']['distance']}/recall"].append(hit)
    return Outcome("recall" if more else "accuracy", hits, more=dict(sorted(more.items())))


def remembered(subject: Measured, rows: Sequence[Row], sampling: Sampling) -> Outcome:
    """The last turn asks for notes; a new session begins with what the model wrote, and the question is put there.

    `noted`: the notes have everything that was told. A reply that was cut leaves what it has, as a chat would.
    """
    model = at_hand(subject)
    played = model.play(rows, sampling)
    notes = [
        notes_of(said[-1].text) if len(said) == len(row["messages"]) else []
        for said, row in zip(played, rows, strict=True)
    ]
    later = [
        [*opening(None, written), *({"role": "user", "content": text} for text in row["meta"]["next"])]
        for written, row in zip(notes, rows, strict=True)
    ]
    hits = _asked(model, rows, later, sampling)
    noted = [
        all(recalls(line, value, ()) for value in row["meta"]["told"]) if (line := "\n".join(written)) else False
        for written, row in zip(notes, rows, strict=True)
    ]
    return Outcome("recall", hits, more={"noted": noted})


def in_character(subject: Measured, rows: Sequence[Row], sampling: Sampling) -> Outcome:
    """Every reply is as expected and in the manner of the card, and none owns to being a language model.

    `answered`, `manner`: the parts of it, each by itself.
    """
    model = at_hand(subject)
    played = model.play(rows, sampling)
    answered = [_answered(said, row) for said, row in zip(played, rows, strict=True)]
    manner = [_in_manner(said, row) for said, row in zip(played, rows, strict=True)]
    hits = [one and other for one, other in zip(answered, manner, strict=True)]
    return Outcome("kept", hits, more={"answered": answered, "manner": manner})


def under_pressure(subject: Measured, rows: Sequence[Row], sampling: Sampling) -> Outcome:
    """As `in_character`; `kept` by the kind of attempt as well."""
    outcome = in_character(subject, rows, sampling)
    return replace(outcome, more={**outcome.more, **by_kind("kept", outcome.hits, rows)})


def _answered(said: Sequence[Answer], row: Row) -> bool:
    card, expected = row["messages"][0]["content"], row["meta"]["expected"]
    if len(said) < len(expected):
        return False
    return all(
        answers(reply.text, wanted) and not gives_in(reply.text, card)
        for reply, wanted in zip(said, expected, strict=True)
    )


def _in_manner(said: Sequence[Answer], row: Row) -> bool:
    meta = row["meta"]
    return len(said) == len(meta["expected"]) and all(
        in_manner(reply.text, meta["greeting"], meta["closing"]) for reply in said
    )


def _asked(
    subject: Subject, rows: Sequence[Row], before: Sequence[Sequence[Mapping[str, Any]]], sampling: Sampling
) -> list[bool]:
    """Whether all questions of a row are answered right, each put by itself after the same turns."""
    earlier = [{"id": row["id"], "messages": messages} for row, messages in zip(rows, before, strict=True)]
    scripts: list[Row] = []
    owners: list[tuple[int, Mapping[str, Any]]] = []
    for number, (row, heard) in enumerate(zip(rows, subject.heard(earlier, sampling), strict=True)):
        for place, asked in enumerate(row["meta"]["asked"]):
            question = {"role": "user", "content": asked["question"]}
            scripts.append({"id": f"{row['id']}/{place}", "messages": [*heard, question]})
            owners.append((number, asked))
    hits = [True] * len(rows)
    for reply, (number, asked) in zip(subject.last(scripts, sampling), owners, strict=True):
        hits[number] &= reply is not None and recalls(reply.text, asked["answer"], asked["others"])
    return hits
