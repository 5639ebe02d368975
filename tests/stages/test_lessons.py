"""Lessons: about the taught half alone, in the words of `synthesize`, with sums that verifiers confirm."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tiny import stage_run, tree_bytes
from tutelage.errors import DataError
from tutelage.run.stage import StageRun
from tutelage.sources.atlas.facts import build_facts
from tutelage.sources.atlas.lessons import sums
from tutelage.sources.store import read_jsonl
from tutelage.stages import lessons
from tutelage.stages.configs import LessonsConfig
from tutelage.stages.synthesis.meaning import sameness, support
from tutelage.tools.verifiers import VERIFIERS

SMALL: dict[str, Any] = {"reading": 60, "rephrasing": 40, "turns": 30, "sums": 40, "problems": 30, "items": 20}


def written(folder: Path, **changes: Any) -> StageRun:
    run = stage_run(folder)
    for name in ("examples", "problems", "tasks"):
        (folder / name).mkdir()
    lessons.run(LessonsConfig(**{**SMALL, **changes}), {}, run)
    return run


def rows_of(run: StageRun, output: str, name: str) -> list[dict[str, Any]]:
    return list(read_jsonl(run.directory / output / f"{name}.jsonl"))


def test_nothing_held_out_is_in_a_lesson_and_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    run = written(tmp_path / "a")
    rows = rows_of(run, "examples", "conversations")
    said = "\n".join(message["content"] for row in rows for message in row["messages"])
    held = {fact.entity for fact in build_facts(None, run.seed) if not fact.taught and fact.topic != "animal"}
    assert not [entity for entity in held if re.search(rf"\b{re.escape(entity)}\b", said)]
    steps = Counter(tag for row in rows for tag in row["tags"])
    assert steps == {
        "question": 60,
        "answer": 60,
        "open_answer": 60,
        "rephrase": 40,
        "user_turn": 30,
        "reply": 30,
        "solve": 40,
    }
    written(tmp_path / "b")
    for output in ("examples", "problems", "tasks"):
        assert tree_bytes(tmp_path / "a" / output) == tree_bytes(tmp_path / "b" / output)


def test_answers_stand_in_their_passages_and_rewritings_keep_names(tmp_path: Path) -> None:
    for row in rows_of(written(tmp_path / "a"), "examples", "conversations"):
        asked, reply = row["messages"][0]["content"], row["messages"][-1]["content"]
        if row["tags"] == ["answer"]:
            passage, question = asked.split("\n\nAnswer from this text: ")
            found = support(passage, question, reply)
            assert not found.strange
            assert found.new
        if row["tags"] == ["rephrase"]:
            found_same = sameness(asked.split("\n\nRewrite")[0], reply)
            assert not found_same.lost
            assert not found_same.added


def test_sums_are_worked_right_and_nobody_sees_the_held_out_ones(tmp_path: Path) -> None:
    run = written(tmp_path / "a")
    solved = [row for row in rows_of(run, "examples", "conversations") if row["tags"] == ["solve"]]
    for row in solved:
        problem, solution = (message["content"] for message in row["messages"])
        answer = solution.rstrip(".").split()[-1]
        assert all(VERIFIERS[name](solution, problem, answer).agrees for name in ("arithmetic", "sources", "answer"))
    asked = [row["messages"][0]["content"] for row in solved]
    problems = [row["messages"][0]["content"] for row in rows_of(run, "problems", "prompts")]
    items = [row["messages"][0]["content"] for row in rows_of(run, "tasks", "tasks") if row["task"] == "worked_sums"]
    expressions = [tuple(re.findall(r"\d+|plus|minus", text)) for text in [*asked, *problems, *items]]
    assert len(expressions) == len(set(expressions)) == 90
    assert all(min(one.results) >= 0 for one in sums(100, 4, 3, random.Random(0)))


def test_nothing_to_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to write"):
        written(tmp_path / "a", reading=0, rephrasing=0, turns=0, sums=0)
    with pytest.raises(ValidationError, match="there are not 90 different sums of 1 steps by up to 2"):
        LessonsConfig(**SMALL, steps=1, largest=2)
