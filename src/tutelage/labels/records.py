"""What goes into the store and comes out of it: items, the sheet an annotator sees, verdicts, labels."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from tutelage.errors import DataError
from tutelage.run.config import Strict

MIN_REPLIES, MAX_REPLIES = 2, 8
FLAGS = ("good", "bad", "unsafe", "inaccurate")
MAX_REASON = 10_000  # characters
MAX_DRAFT = 100_000  # characters of its JSON
MAX_NAME = 200

Flag = Literal["good", "bad", "unsafe", "inaccurate"]
Place = Annotated[int, Field(ge=0, lt=MAX_REPLIES)]
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """One of the responses to a prompt, and where it comes from."""

    text: str
    model: str = ""
    finished: bool = True
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NewItem:
    """A prompt with its replies, to be judged by `annotators_wanted` annotators; higher `priority` comes first."""

    prompt: Sequence[Message]
    replies: Sequence[Reply]
    prompt_id: str | None = None
    kind: str = "preference"
    meta: Mapping[str, Any] = field(default_factory=dict)
    priority: float = 0.0
    annotators_wanted: int = 1

    @property
    def key(self) -> str:
        """The same for the same prompt and the same replies, in whatever order these are given."""
        content = [list(self.prompt), sorted(reply.text for reply in self.replies)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def check(self) -> None:
        """DataError for what cannot be compared."""
        texts = [reply.text.strip() for reply in self.replies]
        if not MIN_REPLIES <= len(texts) <= MAX_REPLIES:
            raise DataError(
                f"an item has {len(texts)} replies",
                hint=f"give {MIN_REPLIES} to {MAX_REPLIES}; more are ranked in several items",
            )
        if len(set(texts)) < len(texts):
            raise DataError("an item has the same reply twice", hint="give every reply once")


class Verdict(Strict):
    """What an annotator says about a sheet. Replies are named by their place on it, from 0 on.

    `ranking`: groups of equally good replies, the best group first; all replies are in it, or it is empty.
    `soft`: [first, second, P(first is better)] of judges that answer with probabilities.
    """

    ranking: list[list[Place]] = Field(default=[], max_length=MAX_REPLIES)
    flags: dict[Place, list[Flag]] = Field(default={}, max_length=MAX_REPLIES)
    all_bad: bool = False
    soft: list[tuple[Place, Place, Annotated[float, Field(ge=0, le=1)]]] = Field(default=[], max_length=28)
    reason: str = Field(default="", max_length=MAX_REASON)
    seconds: float | None = Field(default=None, ge=0, le=1e7, allow_inf_nan=False)

    def check(self, num_replies: int) -> None:
        """DataError for a verdict that cannot be about so many replies, or that says nothing."""
        ranked = Counter(place for group in self.ranking for place in group)
        named = [*ranked, *self.flags, *(place for pair in self.soft for place in pair[:2])]
        if unknown := sorted({place for place in named if place >= num_replies}):
            raise DataError(f"reply {unknown[0]} is not on the sheet", hint=f"places are 0 to {num_replies - 1}")
        if twice := [place for place, count in ranked.items() if count > 1]:
            raise DataError(f"ranking: reply {twice[0]} has two ranks", hint="name every reply once")
        if self.ranking and (missing := sorted(set(range(num_replies)) - set(ranked))):
            raise DataError(
                f"ranking: reply {missing[0]} has no rank", hint="rank all replies; equal ones in one group"
            )
        if any(not group for group in self.ranking):
            raise DataError("ranking: an empty group", hint="leave it out")
        for place, flags in self.flags.items():
            if "good" in flags and (others := [flag for flag in flags if flag != "good"]):
                raise DataError(f"flags: reply {place} is good and {others[0]}", hint="keep one of them")
        if self.all_bad and (good := [place for place, flags in self.flags.items() if "good" in flags]):
            raise DataError(f"all_bad: reply {good[0]} is flagged as good", hint="keep one of them")
        if not (self.ranking or self.all_bad or self.soft or any(self.flags.values())):
            raise DataError("the verdict says nothing", hint="rank the replies, flag one, call all bad, or skip")

    def moved(self, places: Sequence[int]) -> Verdict:
        """The verdict with every place p replaced by places[p]."""
        changes = {
            "ranking": [sorted(places[place] for place in group) for group in self.ranking],
            "flags": {places[place]: list(dict.fromkeys(flags)) for place, flags in self.flags.items() if flags},
            "soft": [(places[first], places[second], p) for first, second, p in self.soft],
        }
        return self.model_copy(update=changes)


@dataclass(frozen=True)
class Progress:
    """How far a task is: people's first judgements, how many are wanted, and what else happened."""

    items: int
    labels: int
    wanted: int
    skipped: int
    repeats: int
    open: int
    annotators: int
    judged: int  # by models, beside people

    @property
    def done(self) -> bool:
        """Whether the labels wanted are there."""
        return self.labels >= self.wanted


@dataclass(frozen=True)
class Sheet:
    """What an annotator is shown: replies in an order of their own, without a word about where they come from."""

    presentation: int
    task: str
    prompt: list[dict[str, Any]]
    replies: list[str]
    guideline: str
    guideline_version: int | None
    draft: dict[str, Any] | None
    draft_revision: int
    leased_until: float


@dataclass(frozen=True)
class Receipt:
    """What became of a submission; `again`: it had arrived before and was not stored a second time."""

    judgement: int
    again: bool


@dataclass(frozen=True)
class Label:
    """A judgement that stands, with all about it. Places are those of `replies`; `shown` is [] if not known."""

    id: int
    task: str
    item: int
    key: str
    prompt_id: str | None
    prompt: list[dict[str, Any]]
    kind: str
    replies: tuple[Reply, ...]
    annotator: str
    annotator_kind: str
    repeat: int
    shown: tuple[int, ...]
    verdict: Verdict
    guideline_version: int | None
    created: float

    @property
    def ranks(self) -> list[int]:
        """1 for the replies of the best group, and so on; [] when nothing is ranked."""
        rank = {place: n for n, group in enumerate(self.verdict.ranking, start=1) for place in group}
        return [rank[place] for place in range(len(self.replies))] if rank else []

    def flagged(self, place: int, *flags: str) -> bool:
        """Whether a reply has one of these flags."""
        return bool(set(self.verdict.flags.get(place, [])) & set(flags))
