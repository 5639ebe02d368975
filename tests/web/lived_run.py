"""A run for the pages to show: all kinds of stages, very small, with texts that would run if a page let them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tutelage.curation.selftest import GOOD, planted
from tutelage.run.execute import run_recipe
from tutelage.run.recipe import read_recipe
from tutelage.stages import STAGES
from web.live import HOSTILE

SPAM = "BUY NOW!!! Claim your prize at http://best.example/win and get your FREE scarf. Limited offer! CLICK HERE!!! "
MUSEUM = (
    "The museum of the harbour was opened by sailors who had kept their maps and their letters for many years. In one "
    "room there is a small table where children may tie knots, and in another the lamp of the old lighthouse turns "
    "slowly. On Sundays a woman of the town tells how her mother sold fish at the gate and what the ships brought. The "
    "captain of the last sailing ship left his chair to the house, and it stands by the window that looks to the sea."
)
TRAIN = "num_steps: 4, precision: float32, loop: {checkpoint_seconds: 0, evaluate_every: 2}"
RECIPE = f"""
name: lived
description: A run <b>of tests</b> {HOSTILE[1]}
seed: 3
threads: 1
stages:
  atlas: {{stage: atlas, facts: 44, documents_per_entity: 2, conversations: 60, prompts: 24}}
  raw: {{stage: documents, path: PLACE/documents.jsonl}}
  own: {{stage: curate, documents: raw}}
  tokenizer: {{stage: tokenizer, corpus: own, vocab_size: 400}}
  tokens: {{stage: tokenize, corpus: own, tokenizer: tokenizer, validation_share: 0.1}}
  base: {{stage: pretrain, tokens: tokens, tokenizer: tokenizer, context: 128, global_batch_tokens: 256,
         validation_rows: 2, model: {{hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}, {TRAIN}}}
  chats: {{stage: conversations, path: PLACE/chats.jsonl}}
  pairs: {{stage: preferences, path: PLACE/pairs.jsonl}}
  instruct: {{stage: sft, model: base, conversations: chats, replay: tokens, replay_rows: 2, context: 256,
             conversations_a_step: 4, {TRAIN}}}
  said: {{stage: sample, model: instruct, prompts: atlas.prompts, limit: 4, num_replies: 2, max_tokens: 4}}
  results: {{stage: evaluate, models: {{base: base, instruct: instruct}}, tasks: atlas.tasks, tokens: tokens,
            max_tokens: 2}}
  report: {{stage: report, results: results}}
  later: {{stage: dpo, model: instruct, preferences: pairs}}
"""
LATER = "later"  # the stage that has not run


def make_run(place: Path) -> Path:
    """Its folder."""
    for name, rows in (("documents", documents()), ("chats", chats()), ("pairs", pairs())):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (place / f"{name}.jsonl").write_text(text, encoding="utf-8")
    recipe = read_recipe(RECIPE.replace("PLACE", str(place)), "lived.yaml", STAGES)
    finished = [name for name in recipe.stages if name != LATER]
    return run_recipe(recipe, STAGES, run_dir=place / "runs" / "lived", only=finished).directory


def documents() -> list[dict[str, Any]]:
    """Those of the self-test, one at least for every rule, and good and bad ones with hostile texts."""
    good = [
        {
            "text": f"{GOOD.replace('boat', f'boat{number}')} {number} tell of it: {HOSTILE[number % 4]}.",
            "title": HOSTILE[number % 4],
        }
        for number in range(12)
    ]
    spam = [
        {"text": f"Shop {number} has it. {SPAM} Say {HOSTILE[number % 4]} at the door.", "title": HOSTILE[number % 4]}
        for number in range(12)
    ]
    private = [{"text": f"Write to ana@mail.example.org, says {HOSTILE[3]}. {MUSEUM}"}]
    tested = [{"text": row["text"], "format": row["format"]} for rows in planted().values() for row in rows]
    return [*good, *spam, *private, *tested]


def chats() -> list[dict[str, Any]]:
    """Conversations of two turns."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"What is {number} and {HOSTILE[number % 4]}?"},
                {"role": "assistant", "content": f"It is {number}.\nIt is {HOSTILE[(number + 1) % 4]}."},
            ]
        }
        for number in range(12)
    ]


def pairs() -> list[dict[str, Any]]:
    """Pairs of replies."""
    return [
        {
            "prompt": [{"role": "user", "content": f"Say {number} {HOSTILE[number % 4]}"}],
            "chosen": [{"role": "assistant", "content": f"{number}."}],
            "rejected": [{"role": "assistant", "content": HOSTILE[(number + 1) % 4]}],
        }
        for number in range(8)
    ]
