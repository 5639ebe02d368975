"""The typed configuration of the stages that make a model remember and stay who it is. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tutelage.run.artifacts import ConversationsInput, CorpusInput
from tutelage.run.config import StageConfig

_WORDS = "Text whose words are copied, beside made-up ones: names, places and whatever else must not be known."
_PLAIN = "Conversations whose short exchanges are the talk of other things; without it, a few of our own."


class MemoryConfig(StageConfig):
    """Write conversations in which a user is to be remembered, and held-out items."""

    stage: Literal["memory"] = "memory"
    plain: ConversationsInput | None = Field(default=None, description=_PLAIN)
    words: CorpusInput | None = Field(default=None, description=_WORDS)
    drill: int = Field(default=10000, ge=0, description="Short conversations of copying and looking up, to begin with.")
    conversations: int = Field(default=12000, ge=1, description="Conversations to learn from.")
    max_turns: int = Field(default=12, ge=4, description="Turns of the user in one of them, at most.")
    max_facts: int = Field(default=5, ge=1, le=10, description="Facts that are known at once, at most.")
    items: int = Field(default=100, ge=1, description="Held-out items of each task, of recall at each distance.")


class PersonaConfig(StageConfig):
    """Write conversations that keep to persona cards, pairs of replies under pressure, and held-out items."""

    stage: Literal["persona"] = "persona"
    cards: str | list[str] = Field(
        default="package:personas/cards",
        description="Cards to learn: YAML files, or folders of them; `package:` is what comes with the code.",
    )
    cards_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the conversations with one of these cards; the others have made ones, to learn to read.",
    )
    held_out_cards: str | list[str] = Field(
        default=[], description="Cards to measure on instead of made ones: never to be learnt from."
    )
    plain: ConversationsInput | None = Field(default=None, description=_PLAIN)
    words: CorpusInput | None = Field(default=None, description=_WORDS)
    conversations: int = Field(default=8000, ge=1, description="Conversations to learn from.")
    max_turns: int = Field(default=5, ge=1, description="Turns of the user in one of them, about.")
    preferences: int = Field(default=1000, ge=1, description="Pairs of replies: one keeps to the card, one gives in.")
    validation_share: float = Field(default=0.1, ge=0, lt=1, description="Share of the pairs that are for validation.")
    items: int = Field(default=200, ge=1, description="Held-out items of each task.")
