"""persona: cards → conversations that keep to them, pairs under pressure, and items on cards never learnt."""

from __future__ import annotations

from tutelage.memory.dialogues import small_talk
from tutelage.personas import dialogues, items
from tutelage.personas.reading import read_cards
from tutelage.run.config import expanded
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import PersonaConfig
from tutelage.stages.replying.inputs import words_of


def run(config: PersonaConfig, inputs: Inputs, run: StageRun) -> None:
    """Write conversations, preferences and held-out items."""
    written = read_cards([expanded(path) for path in _paths(config.cards)])
    unseen = read_cards([expanded(path) for path in _paths(config.held_out_cards)])
    plain = list(read_jsonl(inputs["plain"].path / "conversations.jsonl")) if "plain" in inputs else []
    talk = small_talk(plain, held_out=False)
    words = words_of(inputs)
    cards = dialogues.drawn_from(written, config.cards_share, words)
    rows = dialogues.conversations(config.conversations, cards, talk, words, config.max_turns, run.seed)
    run.metrics["conversations"] = write_jsonl(run.directory / "conversations" / "conversations.jsonl", rows)
    pairs = dialogues.preferences(config.preferences, cards, talk, words, config.validation_share, run.seed)
    run.metrics["preferences"] = write_jsonl(run.directory / "preferences" / "preferences.jsonl", pairs)
    held = items.items(config.items, small_talk(plain, held_out=True), unseen, run.seed)
    run.metrics["tasks"] = write_jsonl(run.directory / "tasks" / "tasks.jsonl", held)
    run.metrics["cards"] = len(written)


def _paths(path: str | list[str]) -> list[str]:
    return [path] if isinstance(path, str) else path
