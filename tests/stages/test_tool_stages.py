"""Stages in which tools are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tiny import TEXTS, artifact, config, conversations_artifact, jsonl_artifact, model, stage_run
from tiny import tokenizer as tiny_tokenizer
from tutelage.data.conversations import render_set
from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.train_tokenizer import train_bpe
from tutelage.errors import DataError, RecipeError
from tutelage.evaluation.harness import Subject
from tutelage.evaluation.tasks import TASKS
from tutelage.evaluation.tool_tasks import same_numbers
from tutelage.generation.sampling import Sampling
from tutelage.model.hub import save_model
from tutelage.model.transformer import CausalLM, initialise
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import read_journal
from tutelage.sources.store import read_jsonl, write_documents
from tutelage.stages import grpo, ppo, rloo, sample, tools
from tutelage.stages import tokenizer as tokenizer_stage
from tutelage.stages.configs import GRPOConfig, PPOConfig, RLOOConfig, SampleConfig, TokenizerConfig, ToolsConfig
from tutelage.tools.calls import ToolCall, parse_call
from tutelage.tools.toolbox import calculator


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return train_bpe([*TEXTS, 'You can call these tools: {"name": "calculator", "arguments": {}}'], 320, 1)


def make_model(folder: Path, tokenizer: TextTokenizer) -> Artifact:
    tokenizer.save(folder)
    shape = config(tokenizer.vocab_size, max_position_embeddings=400)
    save_model(initialise(CausalLM(shape), 3, zero_outputs=False), folder)
    return artifact(ArtifactType.MODEL, folder)


def prompts(folder: Path) -> Artifact:
    rows = [{"id": f"p{n}", "messages": [{"role": "user", "content": f"{n} + {n}?"}], "kind": "sum"} for n in range(6)]
    return jsonl_artifact(ArtifactType.PROMPTS, folder / "prompts.jsonl", rows)


def test_samples_with_tools_have_their_turns_and_do_not_depend_on_slots(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    inputs = {"model": make_model(tmp_path / "model", tokenizer), "prompts": prompts(tmp_path / "prompts")}
    found: list[list[dict[str, Any]]] = []
    for slots in (1, 8):
        run = stage_run(tmp_path / f"out{slots}")
        settings = {"num_replies": 4, "max_tokens": 12, "tools": ["calculator"], "max_slots": slots, "temperature": 1.5}
        sample.run(SampleConfig(model="", prompts="", **settings), inputs, run)
        found.append(list(read_jsonl(run.directory / "completions.jsonl")))
        assert {"tools/calls", "tools/malformed", "tools/mended", "tools/failed"} <= set(run.metrics)
        assert (
            run.metrics["tools/calls"]
            == sum("tool_calls" in turn for row in found[-1] for turn in row["turns"])
            + (run.metrics["tools/malformed"])
        )
    assert found[0] == found[1]
    assert all(row["turns"][-1]["role"] == "assistant" for row in found[0])
    assert all(row["num_tokens"] > 0 for row in found[0])


def test_search_needs_a_library(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    inputs = {"model": make_model(tmp_path / "model", tokenizer), "prompts": prompts(tmp_path / "prompts")}
    settings = SampleConfig(model="", prompts="", num_replies=1, max_tokens=2, tools=["search"])
    with pytest.raises(RecipeError, match="nothing to search"):
        sample.run(settings, inputs, stage_run(tmp_path / "out"))
    rows = [{"id": str(n), "text": text, "source": "s"} for n, text in enumerate(TEXTS)]
    write_documents(tmp_path / "library", rows)
    inputs["library"] = artifact(ArtifactType.CORPUS, tmp_path / "library")
    sample.run(settings, inputs, stage_run(tmp_path / "out"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tools": ["calculater"]}, "did you mean 'calculator'"),
        ({"tools": ["calculator"], "stop": ["x"]}, "cut calls short"),
        ({"tools": ["calculator"], "engine": {"model": "m"}}, "leave `engine` or `tools` out"),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SampleConfig(model="m", prompts="p", **settings)


def test_the_stage_writes_conversations_that_render_and_items_that_can_be_measured(tmp_path: Path) -> None:
    run = stage_run(tmp_path / "out")
    plain = conversations_artifact(tmp_path / "plain")
    (tmp_path / "gsm8k.jsonl").write_text(
        '{"question": "Q", "answer": "<<1+1=2>>2\\n#### 2"}\n{"question": "Q", "answer": "2"}\n'
    )
    settings = {"arithmetic": 40, "functions": 60, "items": 5, "gsm8k": str(tmp_path / "gsm8k.jsonl")}
    tools.run(ToolsConfig(plain="", **settings), {"plain": plain}, run)
    rows = list(read_jsonl(run.directory / "conversations" / "conversations.jsonl"))
    items = list(read_jsonl(run.directory / "tasks" / "tasks.jsonl"))
    assert run.metrics["problems"] == 1
    assert "no annotated sum" in (run.directory / "conversations" / "problems.jsonl").read_text()
    assert run.metrics["conversations"] == len(rows) == len({row["id"] for row in rows})
    assert {item["task"] for item in items} >= {"tool_arithmetic", "tool_arithmetic_unaided", "tool_choice_unseen"}
    words = train_bpe([str(row) for row in rows], 400)
    assert len(render_set(words, rows, 10_000).rows) == len(rows)
    with pytest.raises(DataError, match="nothing to write"):
        tools.run(ToolsConfig(arithmetic=0, functions=0), {}, stage_run(tmp_path / "none"))


def test_a_tokenizer_that_knows_conversations_writes_their_tools_shorter(tmp_path: Path) -> None:
    run = stage_run(tmp_path / "tools")
    tools.run(ToolsConfig(arithmetic=50, functions=50, items=1), {}, run)
    written = Artifact("c", ArtifactType.CONVERSATIONS, run.directory / "conversations", "f")
    write_documents(tmp_path / "corpus", [{"id": "1", "text": " ".join(TEXTS), "source": "s"}])
    corpus = artifact(ArtifactType.CORPUS, tmp_path / "corpus")
    lengths = []
    for name, inputs in (("with", {"corpus": corpus, "conversations": written}), ("without", {"corpus": corpus})):
        out = stage_run(tmp_path / name)
        tokenizer_stage.run(TokenizerConfig(corpus="", vocab_size=600), inputs, out)
        own = TextTokenizer.load(out.directory)
        lengths.append(len(render(own, [], [calculator().to_json()]).ids))
    assert lengths[0] < 0.5 * lengths[1]


@pytest.mark.parametrize("stage", ["ppo", "grpo", "rloo"])
def test_reinforcement_with_tools_begins_on_policy_and_learns_from_what_was_drawn(tmp_path: Path, stage: str) -> None:
    own = tiny_tokenizer()
    net = model(seed=2, vocab_size=own.vocab_size, max_position_embeddings=600)
    with torch.no_grad():  # calls and ends of turns are frequent
        net.lm_head.weight[[own.begin_call_id or 0, own.end_of_turn_id]] *= 5
    own.save(tmp_path / "model")
    save_model(net, tmp_path / "model")
    rows = [{"id": f"p{n}", "messages": [{"role": "user", "content": f"{n}?"}], "kind": "sum"} for n in range(4)]
    inputs = {
        "model": artifact(ArtifactType.MODEL, tmp_path / "model"),
        "prompts": jsonl_artifact(ArtifactType.PROMPTS, tmp_path / "prompts" / "prompts.jsonl", rows),
    }
    module, config_type, size = {
        "ppo": (ppo, PPOConfig, {"rollouts_a_batch": 8}),
        "grpo": (grpo, GRPOConfig, {"prompts_a_batch": 2, "num_replies": 4}),
        "rloo": (rloo, RLOOConfig, {"prompts_a_batch": 2, "num_replies": 4}),
    }[stage]
    settings = {"max_tokens": 16, "num_rollout_batches": 2, "num_epochs": 2, "precision": "float32", "num_samples": 2,
                "rewards": {"finished": 1.0}, "tools": ["calculator"], **size}  # fmt: skip
    run = stage_run(tmp_path / "out")
    module.run(config_type(model="", prompts="", **settings), inputs, run)
    journal = read_journal(run.journal.path)
    assert journal[0]["objective/logprob_gap"] < 1e-4
    assert journal[0]["val/ratio"] == pytest.approx(1, abs=1e-5)
    assert journal[0]["val/length"] > 1
    assert len(list(read_jsonl(run.directory / "samples.jsonl"))) >= 4


class Script(Subject):
    """A subject that says and calls what it is told, by the item's id."""

    def __init__(self, tokenizer: TextTokenizer, script: dict[str, tuple[str, list[str]]]) -> None:
        super().__init__("script", CausalLM(config(tokenizer.vocab_size)), tokenizer)
        self.script = script

    def turns(self, rows: Any, sampling: Sampling, guided: bool = False) -> Any:
        return [(said, [parse_call(text) for text in calls]) for said, calls in (self.script[r["id"]] for r in rows)]


def test_choices_of_tools_are_judged_by_name_arguments_and_form(tokenizer: TextTokenizer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    offered = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in ("one", "two")]
    right = [{"name": name, "arguments": {"n": n}} for n, name in enumerate(("one", "two"), 1)]
    one, two = ToolCall("one", {"n": 1}).text, ToolCall("two", {"n": 2}).text
    said = {
        "right": [one, two],
        "order": [two, one],
        "missing": [one],
        "surplus": [one, two, two],
        "value": [one, '{"name": "two", "arguments": {"n": 3}}'],
        "mended": [one, two[:-1]],
        "schema": [one, '{"name": "two", "arguments": {"m": 2}}'],
        "none": [],
    }
    rows = [{"id": name, "task": "tool_choice", "meta": {"tools": offered, "calls": right}} for name in said]
    subject = Script(tokenizer, {name: ("", calls) for name, calls in said.items()})
    outcome = TASKS["tool_choice"](subject, rows, Sampling(8, 0.0))
    names = list(said)
    assert [name for name, hit in zip(names, outcome.hits, strict=True) if hit] == ["right", "order", "value", "mended"]
    arguments = outcome.more["right_arguments"]
    assert [name for name, hit in zip(names, arguments, strict=True) if hit] == ["right", "order", "mended"]
    assert outcome.more["valid_calls"].count(False) == 2  # the mended one, and the one that the schema refuses
    assert outcome.more["guided/right_tool"] == outcome.hits
    as_text = {**tokenizer._config, "chat_template": "{{ messages[0]['content'] }}<|end|>"}
    subject = Script(TextTokenizer(tokenizer._json, as_text), subject.script)
    bare = TASKS["tool_choice"](subject, rows, Sampling(8, 0.0))
    assert bare.hits == outcome.hits
    assert not any(name.startswith("guided/") for name in bare.more)  # nothing guided these calls
    assert TASKS["tool_none"](subject, rows, Sampling(8, 0.0)).hits == [name == "none" for name in names]


@pytest.mark.parametrize(
    ("text", "answer", "same"),
    [
        ("It is 12.", "12", True),
        ("12 and -3.5.", "12 and -3.5", True),
        ("It is 120.", "12", False),
        ("10 + 2 = 12", "12", False),
        ("3 and 12", "12 and 3", False),
        ("", "12", False),
    ],
)
def test_answers_are_compared_by_their_numbers(text: str, answer: str, same: bool) -> None:
    assert same_numbers(text, answer) == same


def test_every_tool_task_can_be_measured_with_a_real_model(tmp_path: Path) -> None:
    run = stage_run(tmp_path / "tools")
    tools.run(ToolsConfig(arithmetic=40, functions=40, items=3), {}, run)
    rows = list(read_jsonl(run.directory / "conversations" / "conversations.jsonl"))
    items = list(read_jsonl(run.directory / "tasks" / "tasks.jsonl"))
    own = train_bpe([str(row) for row in rows], 600)
    shape = config(own.vocab_size, max_position_embeddings=1000)
    subject = Subject("m", initialise(CausalLM(shape), 0, zero_outputs=False).eval(), own)
    for task in sorted({item["task"] for item in items}):
        chosen = [item for item in items if item["task"] == task]
        outcome = TASKS[task](subject, chosen, Sampling(8, 0.0))
        assert len(outcome.hits) == len(chosen)
    with pytest.raises(DataError, match="cannot be run"):
        TASKS["tool_steps"](subject, [{**items[0], "meta": {"tools": ["search"]}}], Sampling(8, 0.0))
