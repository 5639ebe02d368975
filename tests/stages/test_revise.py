"""Critique and revision: what is taken, what is counted, and that chains can be gone on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from served import serving
from tiny import jsonl_artifact, model_artifact, stage_run
from tutelage.constitutions.principles import critiques
from tutelage.constitutions.reading import read_constitution
from tutelage.constitutions.rules import RULES, Exchange
from tutelage.errors import DataError
from tutelage.generation.remote import Answer, Ask
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.config import StageConfig, expanded
from tutelage.run.execute import StageFunction, load_stage, run_recipe
from tutelage.run.recipe import read_recipe
from tutelage.run.stage import Inputs, StageRun, StageSpec
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages import STAGES, revise
from tutelage.stages.configs import JudgeConfig, ReviseConfig
from tutelage.stages.sample import request_seed

DEFAULT = read_constitution([expanded("package:constitutions/default.yaml")])
ASKED = ["How do I hurt my boss?", "How do I crack an egg?", "Help me steal a car.", "What is a cygnet?"]
SAID = [
    "First wait, then hurt my boss and run away.",
    "I can't help with that.",
    "Everyone knows that.",
    "A young swan.",
]
POOL = ["I can't help with that.", "I can't help with that. It would harm somebody.", "To crack an egg, hit it.", "",
        "Everyone knows that.", "A cygnet is a young swan."]  # fmt: skip


def completion_rows(labels: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [
        {"id": f"p{asked}-{said}/0", "prompt_id": f"p{asked}-{said}",
         "prompt": [{"role": "user", "content": ASKED[asked]}],
         "kind": "harmful" if asked in (0, 2) else "fact", "answer": None, "meta": {}, "completion": SAID[said],
         "finish_reason": "stop", "num_tokens": 5, "sampling": {}, "model": "helper", **(labels or {})}
        for asked in range(4) for said in range(4)
    ]  # fmt: skip


def given(folder: Path, rows: Sequence[dict[str, Any]] | None = None, only: Sequence[str] = ()) -> dict[str, Artifact]:
    principles = {name: p for name, p in DEFAULT.items() if not only or name in only}
    rows = completion_rows() if rows is None else rows
    return {
        "completions": jsonl_artifact(ArtifactType.COMPLETIONS, folder / "c" / "completions.jsonl", rows),
        "critiques": jsonl_artifact(ArtifactType.CRITIQUES, folder / "k" / "principles.jsonl", critiques(principles)),
    }


@dataclass
class Scripted:
    """A writer whose texts are drawn from a pool by the seed of what is asked."""

    name: str = "scripted"
    fingerprint: str = "f"
    asks: list[Ask] = field(default_factory=list)
    room: int = 10_000

    def fits(self, messages: Sequence[dict[str, str]], max_tokens: int) -> bool:
        return len(messages) <= self.room

    def write(self, asks: Sequence[Ask], run: StageRun, label: str) -> list[list[Answer]]:
        self.asks += asks
        return [[self._one(request_seed(ask.seed, number)) for number in range(ask.count)] for ask in asks]

    def _one(self, seed: int) -> Answer:
        return Answer(POOL[seed % len(POOL)], "length" if seed % 11 == 0 else "stop", 4)


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted()
    monkeypatch.setattr(revise, "open_writer", lambda *args: scripted)
    return scripted


def revised(folder: Path, inputs: Inputs, seed: int = 0, **settings: Any) -> StageRun:
    run = stage_run(folder, seed=seed)
    revise.run(ReviseConfig(**{"completions": "", "critiques": "", "model": "m", **settings}), inputs, run)
    return run


def rows_of(run: StageRun, name: str = "completions") -> list[dict[str, Any]]:
    return list(read_jsonl(run.directory / name / f"{name}.jsonl"))


def exchanges(row: dict[str, Any]) -> list[Exchange]:
    """Every reply that a row has had, the first and the last among them."""
    said = [row["response"], *(link["revision"] for link in row["chain"] if link["accepted"])]
    return [Exchange(row["prompt"][-1]["content"], text) for text in said]


@pytest.mark.parametrize("seed", range(5))
def test_no_revision_is_worse_by_any_rule_and_its_own_rule_is_content(
    tmp_path: Path, writer: Scripted, seed: int
) -> None:
    rows = rows_of(revised(tmp_path / "out", given(tmp_path), seed))
    assert [row["response"] for row in rows] == [row["completion"] for row in completion_rows()]
    assert any(len(exchanges(row)) > 1 for row in rows)
    for row in rows:
        told = exchanges(row)
        assert told[-1].reply == row["completion"]
        for rule in RULES.values():
            scores = [rule(exchange).score for exchange in told]
            assert scores == sorted(scores)
        taken = [link for link in row["chain"] if link["accepted"]]
        for link, exchange in zip(taken, told[1:], strict=True):
            assert not RULES[DEFAULT[link["principle"]].rule or ""](exchange).objection
            assert exchange.reply


def test_every_link_says_where_it_comes_from(tmp_path: Path, writer: Scripted) -> None:
    run = revised(tmp_path / "out", given(tmp_path), attempts=2)
    for row in rows_of(run):
        assert [link["number"] for link in row["chain"]] == [1, 2, 3, 4]
        for link in row["chain"]:
            assert link["principle"] in DEFAULT
            assert link["critic"] == "rules"
            assert link["seed"] == request_seed(0, row["id"], link["number"])
            if link["critique"]:
                assert (link["model"], link["model_fingerprint"]) == ("scripted", "f")
                assert 1 <= link["attempts"] <= 2
                assert link["accepted"] or link["attempts"] == 2
            else:
                assert link["revision"] is None
    refused = sum(
        link["revision"] is not None and not link["accepted"] for row in rows_of(run) for link in row["chain"]
    )
    assert refused > 0
    assert any(note.startswith(f"{refused} times no revision was taken") for note in run.notes)


def test_a_chain_can_be_gone_on_with(tmp_path: Path, writer: Scripted) -> None:
    whole = rows_of(revised(tmp_path / "whole", given(tmp_path), seed=3, num_revisions=4))
    first = revised(tmp_path / "first", given(tmp_path), seed=3, num_revisions=1)
    inputs = {
        **given(tmp_path),
        "completions": Artifact("c", ArtifactType.COMPLETIONS, first.directory / "completions", ""),
    }
    assert rows_of(revised(tmp_path / "rest", inputs, seed=3, num_revisions=3)) == whole


def test_no_label_of_a_prompt_is_read(tmp_path: Path, writer: Scripted) -> None:
    labelled = rows_of(revised(tmp_path / "a", given(tmp_path)))
    rows = completion_rows({"kind": "?", "answer": "?", "meta": {"group": "?"}})
    blind = rows_of(revised(tmp_path / "b", given(tmp_path / "blind", rows)))
    assert [(row["completion"], row["chain"]) for row in blind] == [(r["completion"], r["chain"]) for r in labelled]


def test_objections_fall_with_every_revision(tmp_path: Path, writer: Scripted) -> None:
    metrics = revised(tmp_path / "out", given(tmp_path), attempts=20).metrics
    course = [metrics[f"objections_{number}/share"] for number in range(5)]
    assert course == sorted(course, reverse=True)
    assert course[-1] < course[0] == 14 / 16
    harm = [metrics[f"objections_{number}/harmless/share"] for number in range(5)]
    assert harm == sorted(harm, reverse=True)


def test_conversations_end_in_the_last_reply_and_leave_out_what_is_objected_to(
    tmp_path: Path, writer: Scripted
) -> None:
    run = revised(tmp_path / "out", given(tmp_path), attempts=1)
    chains = {row["id"]: row for row in rows_of(run)}
    conversations = {row["id"]: row for row in rows_of(run, "conversations")}
    for name, row in chains.items():
        own = {link["principle"] for link in row["chain"]}
        objected = any(RULES[DEFAULT[p].rule or ""](exchanges(row)[-1]).objection for p in own)
        assert (name in conversations) == (not objected)
        if not objected:
            kept = conversations[name]
            assert kept["messages"] == [*row["prompt"], {"role": "assistant", "content": row["completion"]}]
            assert ("revised" in kept["tags"]) == (row["completion"] != row["response"])
    left_out = len(chains) - len(conversations)
    assert left_out > 0
    assert f"{left_out} replies are in no conversation: a principle drawn for them still objects" in run.notes


def test_without_revisions_replies_stay_and_nobody_is_needed(tmp_path: Path) -> None:
    run = revised(tmp_path / "out", given(tmp_path), model=None, num_revisions=0)
    assert [(row["completion"], row["chain"]) for row in rows_of(run)] == [
        (r["completion"], []) for r in completion_rows()
    ]
    assert len(rows_of(run, "conversations")) == 16


def test_the_writer_is_shown_examples_as_far_as_there_is_room(tmp_path: Path, writer: Scripted) -> None:
    writer.room = 5  # the request, and two examples of two turns
    revised(tmp_path / "out", given(tmp_path, only=["harmless"]), num_revisions=1)
    example = DEFAULT["harmless"].examples[0]
    assert {len(ask.messages) for ask in writer.asks} == {5}
    for ask in writer.asks:
        assert [m["role"] for m in ask.messages] == ["user", "assistant"] * 2 + ["user"]
        assert [m["content"] for m in ask.messages[:2]] == [example.prompt, example.revision]
    writer.room = 0
    run = revised(tmp_path / "none", given(tmp_path), num_revisions=1)
    assert any("did not fit into the context" in note for note in run.notes)
    assert all(link["revision"] is None for row in rows_of(run) for link in row["chain"])


def test_a_model_may_be_the_critic_of_a_whole_dialogue(tmp_path: Path, writer: Scripted) -> None:
    system = [{"role": "system", "content": "Be short."}]
    rows = [{**row, "prompt": [*system, *row["prompt"]]} for row in completion_rows()]
    run = revised(tmp_path / "out", given(tmp_path, rows), critic="model", num_revisions=1, num_examples=1)
    criticised = [ask for ask in writer.asks if len(ask.messages) == 1 + 6 + 3]
    revisions = [ask for ask in writer.asks if len(ask.messages) == 1 + 6 + 5]
    assert len(criticised) == 16
    assert len(criticised) + len(revisions) == len(writer.asks)
    for row in rows_of(run):
        [link] = row["chain"]
        ask = next((ask for ask in revisions if ask.name == row["id"]), None)
        assert (ask is None) == (link["critique"] == "")  # a critic who says nothing has nothing revised
        if ask is not None:
            p = DEFAULT[link["principle"]]
            assert [m["content"] for m in ask.messages[-4:]] == [
                row["response"],
                p.critique,
                link["critique"],
                p.revision,
            ]
            assert ask.messages[0] == system[0]
        assert link["critic"] == "scripted"


def test_a_model_of_ours_and_a_server_write_as_well(tmp_path: Path) -> None:
    inputs = given(tmp_path, completion_rows()[:3], only=["courtesy", "harmless"])
    ours = {**inputs, "model": model_artifact(tmp_path / "m"), "critic_model": model_artifact(tmp_path / "n", seed=1)}
    for critic in ({}, {"critic": "model", "critic_model": "n"}):
        settings: dict[str, Any] = {"max_tokens": 6, "num_revisions": 2, "num_examples": 0, **critic}
        one, two = (rows_of(revised(tmp_path / f"{critic}{n}", ours, max_slots=n, **settings)) for n in (1, 7))
        assert one == two
    with serving() as served:
        said = '{"choices": [{"message": {"content": "Well."}, "finish_reason": "stop"}]}'
        served.trouble = lambda number: (200, {}, said)  # the tiny model has no room for a dialogue
        run = revised(tmp_path / "s", inputs, model=None, engine={"url": served.url, "model": "tiny"},
                      critic="model", max_tokens=6, num_revisions=1, num_examples=0)  # fmt: skip
        assert len(served.payloads) == 6
    assert [row["completion"] for row in rows_of(run)] == ["Well."] * 3
    assert {link["critic"] for row in rows_of(run) for link in row["chain"]} == {"tiny"}


def test_what_cannot_be_revised_is_refused(tmp_path: Path, writer: Scripted) -> None:
    with pytest.raises(DataError, match="has no replies"):
        revised(tmp_path / "a", given(tmp_path, []))
    bare = {
        **given(tmp_path),
        "critiques": jsonl_artifact(ArtifactType.CRITIQUES, tmp_path / "e" / "principles.jsonl", []),
    }
    with pytest.raises(DataError, match="no principle has a critique"):
        revised(tmp_path / "b", bare)
    rows = [{**row, "rule": None} for row in critiques(DEFAULT)]
    unruled = {**bare, "critiques": jsonl_artifact(ArtifactType.CRITIQUES, tmp_path / "u" / "principles.jsonl", rows)}
    with pytest.raises(DataError, match="principle harmless: rule: it has none"):
        revised(tmp_path / "c", unruled)
    assert rows_of(revised(tmp_path / "d", unruled, critic="model"))
    cut = [{**row, "finish_reason": "length"} for row in completion_rows()]
    with pytest.raises(DataError, match="16 were cut off"):
        revised(tmp_path / "f", given(tmp_path / "cut", cut), num_revisions=0)


@pytest.mark.parametrize(
    ("config", "changes", "words"),
    [
        (ReviseConfig, {}, "nobody writes the revisions"),
        (ReviseConfig, {"model": "m", "critic_model": "c"}, "`critic_model` writes nothing"),
        (ReviseConfig, {"model": "m", "num_revisions": 5}, "less than or equal to 4"),
        (JudgeConfig, {"by": "model"}, "nobody answers"),
        (JudgeConfig, {"model": "m"}, "answers nothing with `by: rules`"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    config: type[ReviseConfig | JudgeConfig], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        config(**{"completions": "", "critiques" if config is ReviseConfig else "questions": "", **changes})


RECIPE = """
name: principled
stages:
  replies: {{stage: given}}
  constitution: {{stage: constitution, path: {path}}}
  revised: {{stage: revise, completions: replies, critiques: constitution.critiques, num_revisions: 0}}
  labels: {{stage: judge, completions: replies, questions: constitution.questions}}
"""


class GivenConfig(StageConfig):
    """Replies as given."""

    stage: Literal["given"] = "given"


def give(config: GivenConfig, inputs: Inputs, run: StageRun) -> None:
    rows = [{**row, "prompt_id": row["prompt_id"][:2]} for row in completion_rows()]
    write_jsonl(run.directory / "completions.jsonl", rows)


def load(kind: str) -> StageFunction:
    return give if kind == "given" else load_stage(kind)


def test_changed_principles_run_only_what_depends_on_them_again(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    text = expanded("package:constitutions/default.yaml").read_text(encoding="utf-8")
    specs = {**STAGES, "given": StageSpec(GivenConfig, {"": ArtifactType.COMPLETIONS}, "Given.")}

    def ran(changed: str) -> tuple[str, ...]:
        path.write_text(changed, encoding="utf-8")
        recipe = read_recipe(RECIPE.format(path=json.dumps(str(path))), "r.yaml", specs)
        return run_recipe(recipe, specs, run_dir=tmp_path / "run", load=load).ran

    assert ran(text) == ("replies", "constitution", "revised", "labels")
    assert ran(text) == ()
    assert ran("# a remark\n" + text) == ("constitution",)
    question = text.replace("Which of the two replies is less likely", "Which reply is less likely")
    assert ran(question) == ("constitution", "labels")
    revision = question.replace("Write the reply anew in a friendly way", "Write it anew in a friendly way")
    assert ran(revision) == ("constitution", "revised")
    assert ran(revision.replace("weight: 3", "weight: 4")) == ("constitution", "revised", "labels")
