"""Synthetic data over a real server: what is kept, what is rejected and why, where every row comes from."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from served import Response, Served, serving
from tiny import CITIES, Interrupter, jsonl_artifact, model_artifact, stage_run, tree_bytes
from tutelage.errors import DataError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.progress import no_progress
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_documents
from tutelage.stages import synthesize
from tutelage.stages.configs import SynthesizeConfig
from tutelage.stages.synthesis.requests import STYLES
from tutelage.stages.synthesis.settings import MADE_FROM

Writes = Callable[[str, int], str]  # what is asked last, seed → reply


def said(text: str) -> Response:
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {"completion_tokens": 7}}
    return 200, {}, json.dumps(body)


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


def writes(served: Served, reply: Writes) -> None:
    def answered(number: int) -> Response:
        payload = served.payloads[number]
        return said(reply(payload["messages"][-1]["content"], payload["seed"]))

    served.trouble = answered


def documents(folder: Path, texts: Mapping[str, str]) -> Artifact:
    folder.mkdir(parents=True)
    write_documents(
        folder, [{"id": name, "text": text, "source": "s", "format": "text"} for name, text in texts.items()]
    )
    return Artifact("docs", ArtifactType.DOCUMENTS, folder, "f")


ATLAS = {country: f"The capital of {country} is {city}. It is a fine city." for country, city in CITIES.items()}


def made(folder: Path, inputs: Inputs, served: Served | None, progress: Any = no_progress, **settings: Any) -> StageRun:
    run = stage_run(folder, progress)
    engine = {"engine": {"url": served.url, "model": "tiny", "concurrency": 2}} if served else {"model": "m"}
    named = {name: name for name in inputs if name != "model"}
    synthesize.run(SynthesizeConfig(**{**engine, **named, "num_examples": 0, **settings}), inputs, run)
    return run


def rows_of(run: StageRun, name: str = "conversations") -> list[dict[str, Any]]:
    return list(read_jsonl(run.directory / f"{name}.jsonl"))


def asks_and_answers(text: str, seed: int) -> str:
    """A writer who errs: about another country, without a question, with another city, with an address."""
    country, city = re.findall(r"capital of (\w+) is (\w+)", text)[0] if "capital of" in text else ("", "")
    if text.endswith("that this text answers."):
        asked = [f"What is the capital of {country}?", f"What is {country}'s capital?", "The capital.",
                 "What is the capital of Atlantis?"]  # fmt: skip
        return asked[seed % 4]
    return [f"The capital of {country} is {city}.", f"It is {city}. Please ask her: anna@{city}.org.",
            f"The capital of {country} is Rome, founded in 753."][seed % 3]  # fmt: skip


def test_questions_stand_in_their_passage_are_distinct_and_rejected_ones_say_why(
    tmp_path: Path, server: Served
) -> None:
    writes(server, asks_and_answers)
    held = {"id": "t1", "messages": [{"role": "user", "content": "What is the capital of Peru?"}], "answer": "Lima",
            "meta": {"decontaminate": True}}  # fmt: skip
    inputs = {
        "documents": documents(tmp_path / "d", ATLAS),
        "tasks": jsonl_artifact(ArtifactType.TASKS, tmp_path / "t" / "tasks.jsonl", [held]),
    }
    run = made(tmp_path / "out", inputs, server, kind="questions-answers", num_rows=6, rounds=12, least_support=0)
    kept, rejected = rows_of(run), rows_of(run, "rejected")
    assert run.metrics["kept"] == len(kept) >= 4
    assert run.metrics["drawn"] == len(kept) + len(rejected)
    countries = {country for row in kept for country in CITIES if country in row["messages"][0]["content"]}
    assert len(countries) == len(kept), "two wordings of one question are one"
    for row, source in zip(kept, rows_of(run, "rows"), strict=True):
        country = source["parent"].split("/")[0]
        assert row["id"] == source["id"]
        assert row["messages"][1]["content"] == f"The capital of {country} is {CITIES[country]}."
        assert source["evidence"] == f"The capital of {country} is {CITIES[country]}."
        assert [step["step"] for step in source["steps"]] == ["question", "answer"]
        assert {step["model"] for step in source["steps"]} == {"tiny"}
        assert len({step["sampling"]["seed"] for step in source["steps"]}) == 2
        assert ATLAS[country] in source["steps"][0]["prompt"][-1]["content"]
    reasons = Counter(row["reason"] for row in rejected)
    assert {"one_question", "off_passage", "not_in_passage", "private_strings", "repeats"} <= set(reasons)
    assert {f"rejected/{reason}": float(count) for reason, count in reasons.items()}.items() <= run.metrics.items()
    leaked = [row for row in rejected if row["reason"] == "evaluation_item"]
    assert all(row["filters"]["evaluation_item"] == "t1" for row in leaked)
    assert not any(row["messages"][0]["content"] == held["messages"][0]["content"] for row in kept)
    assert run.metrics["tokens"] == 7 * (run.metrics["requests"])


def test_whoever_reads_again_must_agree(tmp_path: Path, server: Served) -> None:
    def contradicts(text: str, seed: int) -> str:
        if text.endswith("answers."):
            return "What is the capital of Peru?" if "Peru" in text else "What is the capital of Spain?"
        return "Lima." if "Peru" in text else ["Madrid.", "A fine city."][seed % 2]

    writes(server, contradicts)
    inputs = {"documents": documents(tmp_path / "d", {name: ATLAS[name] for name in ("Peru", "Spain")})}
    run = made(tmp_path / "out", inputs, server, kind="questions-answers", agreement="passage", num_rows=40, rounds=2)
    for row in [*rows_of(run, "rows"), *rows_of(run, "rejected")]:
        first, second = (step["reply"] for step in row["steps"][1:3])
        assert (row["filters"]["agreement"] == 1.0) == (first == second)
        assert first == second or row["reason"] == "agreement"
    assert any(row["reason"] == "agreement" for row in rows_of(run, "rejected"))


def test_only_what_verifiers_confirm_is_kept_and_one_of_a_problem(tmp_path: Path, server: Served) -> None:
    def solves(text: str, seed: int) -> str:
        a, b = map(int, re.findall(r"\d+", text)[:2])
        wrong = seed % 3
        sum_ = a + b + (wrong == 1)
        return f"{a} plus {b} is {sum_}. The answer is {sum_ + (wrong == 2)}."

    writes(server, solves)
    problems = [{"id": f"p{n}", "messages": [{"role": "user", "content": f"What is {n} plus 4?"}], "kind": "sum",
                 "answer": str(n + 4), "meta": {}} for n in range(12)]  # fmt: skip
    inputs = {"problems": jsonl_artifact(ArtifactType.PROMPTS, tmp_path / "p" / "prompts.jsonl", problems)}
    run = made(tmp_path / "out", inputs, server, kind="reasoning", samples=8, most_a_parent=1, num_rows=12, rounds=1)
    kept, rejected = rows_of(run), rows_of(run, "rejected")
    for row in kept:
        a, b, c, d = re.findall(r"\d+", row["messages"][1]["content"])
        assert int(a) + int(b) == int(c) == int(d)
        assert row["messages"][0]["content"].endswith("4?"), "the instruction is no part of the row"
    assert max(Counter(row["parent"] for row in rows_of(run, "rows")).values()) == 1
    assert {row["reason"] for row in rejected} == {"arithmetic", "answer", "of_its_parent", "repeats"} & {
        row["reason"] for row in rejected
    }
    assert len(kept) >= 10


def test_rewritings_that_lose_or_add_something_are_rejected(tmp_path: Path, server: Served) -> None:
    def rewrites(text: str, seed: int) -> str:
        country, city = re.findall(r"capital of (\w+) is (\w+)", text)[0]
        return [f"Guess what! {city} is the capital of {country}, a fine city!", f"{country} has a fine capital city.",
                f"{city} in Europe is the fine capital city of {country}.", text.split("\n")[0]][seed % 4]  # fmt: skip

    writes(server, rewrites)
    inputs = {"documents": documents(tmp_path / "d", ATLAS)}
    run = made(tmp_path / "out", inputs, server, kind="rephrase", num_rows=12, rounds=6)
    assert all(row["messages"][1]["content"].startswith("Guess what!") for row in rows_of(run))
    assert {"lost", "added", "rewritten"} <= {row["reason"] for row in rows_of(run, "rejected")}
    assert {tag for row in rows_of(run) for tag in row["tags"]} == {"child", "formal"}
    assert all(any(style in row["messages"][0]["content"] for style in STYLES.values()) for row in rows_of(run))


def test_two_roles_speak_in_turn_and_a_user_who_repeats_himself_is_rejected(tmp_path: Path, server: Served) -> None:
    def talks(text: str, seed: int) -> str:
        if "Write what the user says next." in text:
            number = text.count("Assistant:")
            return f"What about {['gears', 'wheels', 'brakes'][number if seed % 3 else 0]} of {seed % 1000} kinds?"
        return f"I know all about {text.split()[2]}."

    writes(server, talks)
    run = made(tmp_path / "out", {}, server, kind="conversations", topics=["bicycles", "trams"], num_rows=6, rounds=6)
    for row in rows_of(run):
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"] * 3
    steps = {tuple(step["step"] for step in row["steps"]) for row in rows_of(run, "rows")}
    assert steps == {("user_1", "reply_1", "user_2", "reply_2", "user_3", "reply_3")}
    shown = [payload["messages"] for payload in server.payloads if len(payload["messages"]) == 5]
    assert shown
    assert all(message["content"] for messages in shown for message in messages)


def test_new_instructions_are_unlike_the_pool(tmp_path: Path, server: Served) -> None:
    def invents(text: str, seed: int) -> str:
        if text.startswith("Come up"):
            words = ["paint", "describe", "count", "sort", "translate", "praise", "bake", "fold"]
            drawn = [words[seed // 8**place % 8] for place in range(4)]
            return f"Please {drawn[0]} {drawn[1]} the {drawn[2]} of {drawn[3]} things."
        return "Done, with pleasure."

    writes(server, invents)
    seeds = [{"id": str(n), "messages": [{"role": "user", "content": f"Please paint the bake of {n} things."},
                                         {"role": "assistant", "content": "Yes."}]} for n in range(9)]  # fmt: skip
    inputs = {"seeds": jsonl_artifact(ArtifactType.CONVERSATIONS, tmp_path / "s" / "conversations.jsonl", seeds)}
    run = made(tmp_path / "out", inputs, server, kind="self-instruct", num_rows=5, rounds=30, drafts_a_round=4)
    assert {row["reason"] for row in rows_of(run, "rejected")} <= {"like_another", "enough", "repeats"}
    assert len(rows_of(run)) == 5
    asked = [payload["messages"][0]["content"] for payload in server.payloads if "Come up" in str(payload)]
    assert next(text.count("\n") for text in asked) == 6  # as many seeds as published, and nothing of its own yet
    assert max(text.count("\n") for text in asked) > 6


def test_a_model_of_ours_gives_the_same_bytes_however_many_slots_and_after_a_kill(tmp_path: Path) -> None:
    inputs = {
        "documents": documents(tmp_path / "d", ATLAS),
        "model": model_artifact(tmp_path / "m", max_position_embeddings=160),
    }
    settings: dict[str, Any] = {"kind": "rephrase", "num_rows": 4, "rounds": 2, "max_tokens": 4, "passage_words": 8,
                                "least_kept": 0, "least_own": 0, "temperature": 0.3}  # fmt: skip

    def trial(name: str, **more: Any) -> dict[str, bytes]:
        with suppress(DataError):  # of a model that knows nothing, no row is kept
            made(tmp_path / name, inputs, None, **settings, **more)
        return tree_bytes(tmp_path / name)

    whole = trial("one", max_slots=1)
    assert whole["rejected.jsonl"].count(b"\n") > 4
    assert trial("seven", max_slots=7) == whole
    with pytest.raises(KeyboardInterrupt):
        trial("killed", max_slots=1, progress=Interrupter(1, "01 rephrase"))
    assert (tmp_path / "killed.scratch" / "01-rephrase.jsonl").read_text().count("\n") == 1
    assert trial("killed", max_slots=1) == whole


def test_examples_are_shown_as_far_as_there_is_room_and_may_be_ones_own(tmp_path: Path, server: Served) -> None:
    writes(server, asks_and_answers)
    own = [{"id": "e", "messages": [{"role": "user", "content": "own example"}, {"role": "assistant", "content": "X?"}],
            "tags": ["question"]}]  # fmt: skip
    inputs = {"documents": documents(tmp_path / "d", ATLAS)}
    made(tmp_path / "a", inputs, server, kind="questions-answers", num_examples=2, num_rows=3, rounds=4)
    assert {len(payload["messages"]) for payload in server.payloads} == {5}
    server.payloads.clear()
    inputs["examples"] = jsonl_artifact(ArtifactType.CONVERSATIONS, tmp_path / "e" / "conversations.jsonl", own)
    made(tmp_path / "b", inputs, server, kind="questions-answers", num_examples=2, num_rows=3, rounds=4)
    assert {tuple(m["content"] for m in p["messages"][:-1]) for p in server.payloads} == {("own example", "X?"), ()}


def test_nothing_kept_says_which_filter_took_it(tmp_path: Path, server: Served) -> None:
    writes(server, lambda text, seed: "No.")
    with pytest.raises(DataError, match="none of 2 drafts passed the filters; most failed: one_question 2"):
        made(tmp_path / "o", {"documents": documents(tmp_path / "d", ATLAS)}, server, kind="questions-answers",
             num_rows=2, rounds=1)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"documents": "d"}, "nobody writes"),
        ({"model": "m"}, "made from one of: documents, topics; given: none"),
        ({"model": "m", "documents": "d", "topics": ["t"]}, "made from one of"),
        ({"model": "m", "documents": "d", "seeds": "s"}, "does not use seeds"),
        ({"model": "m", "kind": "rephrase", "documents": "d", "agreement": "alone"}, "`agreement` is about answers"),
        ({"model": "m", "topics": ["t"], "agreement": "passage"}, "no passage"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SynthesizeConfig(**{"kind": "questions-answers", **changes})


def test_every_kind_is_made_from_something() -> None:
    assert set(MADE_FROM) == set(synthesize.KINDS)
