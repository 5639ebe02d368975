"""memory: conversations in which a user is to be remembered, and items of other values and wordings."""

from __future__ import annotations

from tutelage.memory import dialogues, drill, items
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import MemoryConfig
from tutelage.stages.replying.inputs import words_of


def run(config: MemoryConfig, inputs: Inputs, run: StageRun) -> None:
    """Write conversations to learn from and held-out items."""
    plain = list(read_jsonl(inputs["plain"].path / "conversations.jsonl")) if "plain" in inputs else []
    words = words_of(inputs)
    copied = drill.conversations(config.drill, words, run.seed)
    run.metrics["drill"] = write_jsonl(run.directory / "drill" / "conversations.jsonl", copied)
    talk = dialogues.small_talk(plain, held_out=False)
    rows = dialogues.conversations(config.conversations, talk, words, config.max_turns, config.max_facts, run.seed)
    run.metrics["conversations"] = write_jsonl(run.directory / "conversations" / "conversations.jsonl", rows)
    held = items.items(config.items, dialogues.small_talk(plain, held_out=True), run.seed)
    run.metrics["tasks"] = write_jsonl(run.directory / "tasks" / "tasks.jsonl", held)
    run.metrics["small_talk"] = len(talk)
