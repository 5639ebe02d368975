"""The whole lifecycle at the smallest size: every artifact is what docs/architecture.md says it is."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tutelage.data.shards import TokenShard
from tutelage.data.tokenizer import TextTokenizer
from tutelage.model.hub import load_causal_lm, load_reward_model
from tutelage.run.artifacts import ArtifactType
from tutelage.run.execute import run_recipe
from tutelage.run.journal import read_journal
from tutelage.run.recipe import read_recipe
from tutelage.sources.store import read_jsonl
from tutelage.stages import STAGES

pytestmark = pytest.mark.slow  # about eight seconds of one quiet core
LOOP = "{checkpoint_seconds: 0, evaluate_every: 2}"
TRAIN = f"num_steps: 3, precision: float32, loop: {LOOP}"
RECIPE = f"""
name: tiny
seed: 3
threads: 1
stages:
  atlas: {{stage: atlas, facts: 44, documents_per_entity: 2, conversations: 60, prompts: 24}}
  corpus: {{stage: curate, documents: atlas.documents, tasks: atlas.tasks}}
  tokenizer: {{stage: tokenizer, corpus: corpus, vocab_size: 400}}
  tokens: {{stage: tokenize, corpus: corpus, tokenizer: tokenizer, validation_share: 0.1}}
  base: {{stage: pretrain, tokens: tokens, tokenizer: tokenizer, context: 128, global_batch_tokens: 512,
         validation_rows: 4, model: {{hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}, {TRAIN}}}
  instruct: {{stage: sft, model: base, conversations: atlas.conversations, replay: tokens, replay_rows: 2,
             conversations_a_step: 8, {TRAIN}}}
  replies: {{stage: sample, model: instruct, prompts: atlas.prompts, num_replies: 3, max_tokens: 8}}
  preferences: {{stage: prefer, completions: replies, validation_share: 0.3}}
  reward: {{stage: reward, model: instruct, preferences: preferences, prompts_a_step: 4, {TRAIN}}}
  ppo: {{stage: ppo, model: instruct, reward_model: reward, prompts: atlas.prompts, num_rollout_batches: 1,
        rollouts_a_batch: 4, max_tokens: 6, precision: float32}}
  dpo: {{stage: dpo, model: instruct, preferences: preferences, pairs_a_step: 4, {TRAIN}}}
  dpo-1: {{stage: dpo, model: instruct, preferences: preferences, pairs_a_step: 4, seed: 1, {TRAIN}}}
  grpo: {{stage: grpo, model: instruct, reward_model: {{judge: reward}}, rewards: {{answer: 1, judge: 0.5}},
         replay: tokens, prompts: atlas.prompts, num_rollout_batches: 1, prompts_a_batch: 2, num_replies: 2,
         max_tokens: 6, precision: float32, lora: {{rank: 2}}}}
  kto: {{stage: kto, model: instruct, preferences: preferences, replies_a_step: 4, {TRAIN}}}
  results: {{stage: evaluate, models: {{base: base, instruct: instruct, ppo: ppo, dpo: dpo, dpo-1: dpo-1}},
            tasks: atlas.tasks, tokens: tokens, reference: instruct, max_tokens: 6}}
  report: {{stage: report, results: results}}
"""
MODELS = ["base", "instruct", "ppo", "dpo", "dpo-1"]
MESSAGE = {"role", "content"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lifecycle")
    return run_recipe(read_recipe(RECIPE, "tiny.yaml", STAGES), STAGES, run_dir=place / "run").directory


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = list(read_jsonl(path))
    assert rows
    return rows


def keys_are(rows: list[dict[str, Any]], required: set[str], optional: Set[str] = frozenset()) -> None:
    for row in rows:
        assert required <= row.keys() <= required | optional, row


def test_every_artifact_fits_its_schema(folder: Path) -> None:
    documents = pq.read_table(folder / "atlas" / "documents" / "documents.parquet")
    corpus = pq.read_table(folder / "corpus" / "documents.parquet")
    decisions = pq.read_table(folder / "corpus" / "decisions.parquet")
    assert documents.column_names == corpus.column_names
    assert decisions.num_rows == documents.num_rows
    assert sum(decisions["kept"].to_pylist()) == corpus.num_rows
    keys_are(
        rows_of(folder / "atlas" / "conversations" / "conversations.jsonl"), {"id", "messages", "source"}, {"tags"}
    )
    prompts = rows_of(folder / "atlas" / "prompts" / "prompts.jsonl")
    keys_are(prompts, {"id", "messages", "kind"}, {"answer", "meta"})
    assert all(message.keys() == MESSAGE for row in prompts for message in row["messages"])
    keys_are(rows_of(folder / "atlas" / "tasks" / "tasks.jsonl"), {"id", "task", "kind"},
             {"messages", "prompt", "answer", "options", "meta"})  # fmt: skip
    own = TextTokenizer.load(folder / "tokenizer")
    shards = [TokenShard(folder / "tokens", split) for split in ("train", "validation")]
    assert sum(map(len, shards)) == corpus.num_rows
    assert all(shard.tokenizer_fingerprint == own.fingerprint for shard in shards)
    completions = rows_of(folder / "replies" / "completions.jsonl")
    keys_are(completions, {"id", "prompt_id", "prompt", "kind", "answer", "meta", "completion", "finish_reason",
                           "num_tokens", "sampling", "model"})  # fmt: skip
    assert len(completions) == 3 * len(prompts)
    assert len({row["id"] for row in completions}) == len(completions)
    preferences = rows_of(folder / "preferences" / "preferences.jsonl")
    required = {"id", "prompt", "chosen", "rejected", "kind", "annotator", "shown", "reason", "weight", "split"}
    keys_are(preferences, required, {"clean_preference", "prompt_id", "chosen_finished", "rejected_finished"})
    splits: dict[str, set[str]] = {}
    for row in preferences:
        splits.setdefault(row["prompt_id"], set()).add(row["split"])
    assert all(len(split) == 1 for split in splits.values())  # no prompt is in both


def test_models_are_whole_folders_with_the_tokenizer_they_began_with(folder: Path) -> None:
    own = TextTokenizer.load(folder / "tokenizer")
    for name in MODELS:
        assert load_causal_lm(folder / name).config.vocab_size == own.vocab_size
        assert TextTokenizer.load(folder / name).fingerprint == own.fingerprint
        settings = json.loads((folder / name / "generation_config.json").read_text())
        assert settings["eos_token_id"] == list(own.stop_ids)
        steps = [row["step"] for row in read_journal(folder / name / "journal.jsonl")]
        assert steps == list(range(1, len(steps) + 1))
    load_reward_model(folder / "reward")
    assert not list(folder.rglob("scratch"))
    assert not list(folder.glob("*.partial"))


def test_results_have_every_model_and_task_with_intervals(folder: Path) -> None:
    results = json.loads((folder / "results" / "results.json").read_text())
    keys_are(results, {"model", "task", "metric", "value", "n", "ci_low", "ci_high"})
    tasks = {row["task"] for row in rows_of(folder / "atlas" / "tasks" / "tasks.jsonl")} - {"showcase"}
    measured = {(row["model"], row["task"]) for row in results}
    for model in MODELS:
        assert tasks | {"format", "heldout"} <= {task for name, task in measured if name == model}
        assert ((model, "kl") in measured) == (model != "instruct")
    for row in results:
        assert row["ci_low"] <= row["value"] <= row["ci_high"], row
        assert row["n"] > 0
    even = [row for row in results if (row["model"], row["metric"]) == ("instruct", "win_rate")]
    assert [row["value"] for row in even] == [0.5]
    samples = json.loads((folder / "results" / "samples.json").read_text())
    keys_are(samples, {"prompt_id", "kind", "prompt", "replies"})
    for row in samples:
        assert list(row["replies"]) == MODELS
        assert all(reply.keys() == {"text", "finish_reason"} for reply in row["replies"].values())


def test_the_report_puts_the_methods_side_by_side_and_shows_what_was_kept(folder: Path) -> None:
    report = json.loads((folder / "report" / "report.json").read_text())
    (comparison,) = report["methods"]
    ppo, dpo = comparison["methods"]
    assert (comparison["start"], ppo["models"], dpo["models"]) == ("instruct", ["ppo"], ["dpo", "dpo-1"])
    assert len(dpo["reached"]["preference/win_rate"]["values"]) == 2
    assert (list(ppo["cost"]["needs"]), list(dpo["cost"]["needs"])) == (["reward"], [])
    assert (ppo["cost"]["models"], dpo["cost"]["models"]) == (3, 1)
    assert ppo["cost"]["generated_tokens"] > dpo["cost"]["generated_tokens"] == 0
    assert {"kl_coef", "gae_lambda"} <= set(ppo["cost"]["settings"])
    assert "beta" in dpo["cost"]["settings"]
    kept = {stage["name"]: stage["samples"] for stage in report["stages"]}
    for name in ("ppo", "dpo", "dpo-1"):
        assert len(kept[name]) == 4
        assert all(entry["replies"][0]["step"] == 0 < entry["replies"][-1]["step"] for entry in kept[name])


def test_the_stages_of_the_lifecycle_give_the_types_that_they_state(folder: Path) -> None:
    for manifest in folder.glob("*/manifest.json"):
        content = json.loads(manifest.read_text())
        stated = {kind.value for kind in STAGES[content["stage"]].outputs.values()}
        assert {artifact["type"] for artifact in content["artifacts"].values()} == stated
        assert stated <= {kind.value for kind in ArtifactType}
