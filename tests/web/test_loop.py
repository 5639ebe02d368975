"""The loop closes: a run waits, somebody ranks through the pages, the run goes on and has learned from it."""

from __future__ import annotations

import html
import itertools
import re
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import torch

from tiny import flat
from tutelage.model.hub import load_causal_lm, load_reward_model
from tutelage.run.execute import run_recipe
from tutelage.run.recipe import read_recipe
from tutelage.sources.store import read_jsonl
from tutelage.stages import STAGES
from tutelage.web.site import ANNOTATOR
from web.live import serving

TRAIN = "num_steps: 3, precision: float32, loop: {checkpoint_seconds: 0, evaluate_every: 3}"
RECIPE = f"""
name: tiny
seed: 3
threads: 1
stages:
  atlas: {{stage: atlas, facts: 44, documents_per_entity: 2, conversations: 30, prompts: 12}}
  corpus: {{stage: curate, documents: atlas.documents, tasks: atlas.tasks}}
  tokenizer: {{stage: tokenizer, corpus: corpus, vocab_size: 400}}
  tokens: {{stage: tokenize, corpus: corpus, tokenizer: tokenizer, validation_share: 0.1}}
  base: {{stage: pretrain, tokens: tokens, tokenizer: tokenizer, context: 128, global_batch_tokens: 512,
         validation_rows: 2, model: {{hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}, {TRAIN}}}
  instruct: {{stage: sft, model: base, conversations: atlas.conversations, conversations_a_step: 4, {TRAIN}}}
  replies: {{stage: sample, model: instruct, prompts: atlas.prompts, num_replies: 3, max_tokens: 8}}
  labels: {{stage: prefer, completions: replies, by: people, people: {{overlap_share: 0}}, validation_share: 0.2}}
  reward: {{stage: reward, model: instruct, preferences: labels, prompts_a_step: 4, {TRAIN}}}
  dpo: {{stage: dpo, model: instruct, preferences: labels, pairs_a_step: 4, {TRAIN}}}
"""
Taste = Callable[[str], float]


UNTIL_REPLIES = ("atlas", "corpus", "tokenizer", "tokens", "base", "instruct", "replies")
SHEET = re.compile(r'data-presentation="(\d+)"')
REPLY = re.compile(r'<p class="said">([^<]*)</p>\s*<div class="flags"')


def run(place: Path, only: Sequence[str] = ()) -> Path:
    return run_recipe(read_recipe(RECIPE, "tiny.yaml", STAGES), STAGES, run_dir=place, only=only).directory


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("loop") / "run", UNTIL_REPLIES)


def rank(root: str, task: str, taste: Taste) -> int:
    """Rank every sheet by a taste, best first, as the page's script does; returns how many there were."""
    with httpx2.Client(base_url=root, cookies={ANNOTATOR: "Ann"}) as client:
        for count in itertools.count():
            sheet = client.get("/rank/sheet", params={"task": task}).raise_for_status().text
            found = SHEET.search(sheet)
            if found is None:
                return count
            replies = [html.unescape(text) for text in REPLY.findall(sheet)]
            order = sorted(range(len(replies)), key=lambda place: (-taste(replies[place]), replies[place]))
            body = {"presentation": int(found[1]), "client_id": f"sheet-{found[1]}",
                    "verdict": {"ranking": [[place] for place in order], "reason": "by taste"}}  # fmt: skip
            client.post("/rank/decide", json=body).raise_for_status()
    raise AssertionError


def trained_by(taste: Taste, sampled: Path, folder: Path) -> Path:
    """A copy of the run that waits for people, is labelled by this taste, and goes on to its end."""
    place = folder / "run"
    shutil.copytree(sampled, place)
    with serving(place, run=place) as (root, labels), ThreadPoolExecutor(1) as pool:
        going = pool.submit(run, place)
        while not (tasks := labels.tasks()) or not labels.progress(tasks[0]).items:
            assert not going.done(), going.result()
            time.sleep(0.05)
        assert rank(root, tasks[0], taste) == labels.progress(tasks[0]).wanted
        return going.result()


def test_rankings_given_through_the_page_train_the_reward_model_and_change_dpo(sampled: Path, tmp_path: Path) -> None:
    tastes: dict[str, Taste] = {"long": len, "short": lambda text: -len(text)}
    places = {name: trained_by(taste, sampled, tmp_path / name) for name, taste in tastes.items()}
    for name, place in places.items():
        rows = [row for row in read_jsonl(place / "labels" / "preferences.jsonl") if "chosen" in row]
        assert rows
        assert {(row["annotator"], row["reason"]) for row in rows} == {("Ann", "by taste")}
        assert all(tastes[name](row["chosen"]) >= tastes[name](row["rejected"]) for row in rows)
    rewards = [flat(load_reward_model(place / "reward")) for place in places.values()]
    policies = [flat(load_causal_lm(place / "dpo")) for place in places.values()]
    before = flat(load_causal_lm(sampled / "instruct"))
    assert not torch.equal(*rewards)
    assert not torch.equal(*policies)
    assert not any(torch.equal(policy, before) for policy in policies)
