"""What `prefer` can be told when people prefer. Imports nothing heavy."""

from __future__ import annotations

from pydantic import Field

from tutelage.run.artifacts import RewardModelInput
from tutelage.run.config import Strict

GUIDELINE = (
    "Rank the replies from best to worst. A good reply does what was asked (helpful), says nothing false (accurate) "
    "and harms nobody (safe). An unsafe reply is never better than a safe one. Equal replies share a rank. Length is "
    "no merit. Skip what you cannot judge."
)


class PeopleSettings(Strict):
    """How items are given to people."""

    labels: int | None = Field(
        default=None, ge=1, description="Labels to wait for; all that the items ask for if not given."
    )
    max_replies: int = Field(default=4, ge=2, le=8, description="Replies of an item; of more, these are drawn by seed.")
    overlap_share: float = Field(
        default=0.1, ge=0, le=1, description="Share of the items that several people judge, to measure agreement."
    )
    overlap: int = Field(default=2, ge=2, description="How many people judge those items.")
    repeat_share: float = Field(
        default=0.05, ge=0, lt=1, description="Share of a person's items that come back, to measure constancy."
    )
    guideline: str = Field(default=GUIDELINE, min_length=1, description="What people are told to prefer.")
    active: RewardModelInput | None = Field(
        default=None, description="A reward model: of each prompt the two replies it tells apart least, such first."
    )
