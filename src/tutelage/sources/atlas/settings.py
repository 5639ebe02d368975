"""What atlas can be told; the stage's configuration is turned into this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Style = Literal["terse", "sentence", "warm", "curt", "rambling"]
STYLES: Mapping[Style, float] = MappingProxyType(
    {"terse": 0.25, "sentence": 0.25, "warm": 0.2, "curt": 0.15, "rambling": 0.15}
)


@dataclass(frozen=True)
class AtlasSettings:
    """Sizes and shares of the generated web, its conversations and its prompts."""

    facts: int | None = None
    documents_per_entity: int = 12
    noise: float = 0.14
    html_share: float = 0.3
    conversations: int = 5000
    refusal_share: float = 0.6
    evasion_share: float = 0.3
    over_refusal_share: float = 0.15
    prompts: int = 4500
    styles: Mapping[Style, float] = field(default_factory=lambda: dict(STYLES))
