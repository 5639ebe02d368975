"""Answers kept as they arrive, of a server or a model of ours: a killed stage asks only for what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tutelage.generation.remote import Answer, Ask, RemoteEngine
from tutelage.run.stage import StageRun
from tutelage.sources.store import write_jsonl

ANSWERS = "answers.jsonl"


def answers_of(
    engine: RemoteEngine, asks: Sequence[Ask], run: StageRun, name: str = ANSWERS, label: str = "sample"
) -> list[Answer]:
    """All answers of a server, in the order of the requests."""
    found = kept_answers(engine.answers, asks, run, name, label)
    if engine.repeated:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in engine.repeated.most_common())
        run.notes.append(f"{engine.repeated.total()} requests to {engine.server.url} were repeated: {reasons}")
    return found


def kept_answers(
    answering: Callable[[Sequence[Ask]], Iterator[tuple[int, list[Answer]]]],
    asks: Sequence[Ask],
    run: StageRun,
    name: str,
    label: str,
) -> list[Answer]:
    """All answers, in the order of the requests; each of several lots of requests has a file of its own.

    `answering` gives the number of each request with its answers, in any order.
    """
    path = run.scratch / name
    found = _kept(path)
    missing = [number for number in range(len(asks)) if number not in found]
    if found:
        run.notes.append(f"went on after {len(found)} of {len(asks)} requests")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, [_row(number, answers) for number, answers in found.items()])
    with run.progress(label, sum(ask.count for ask in asks)) as bar, path.open("a", encoding="utf-8") as file:
        bar.advance(sum(len(answers) for answers in found.values()))
        for place, answers in answering([asks[number] for number in missing]):
            found[missing[place]] = answers
            file.write(json.dumps(_row(missing[place], answers)) + "\n")
            file.flush()
            bar.advance(len(answers))
    return [answer for number in range(len(asks)) for answer in found[number]]


def _row(number: int, answers: Sequence[Answer]) -> dict[str, object]:
    return {"request": number, "answers": [asdict(answer) for answer in answers]}


def _kept(path: Path) -> dict[int, list[Answer]]:
    """What an earlier attempt was answered; a kill may have torn its last line."""
    found: dict[int, list[Answer]] = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            break
        found[row["request"]] = [Answer(**answer) for answer in row["answers"]]
    return found
