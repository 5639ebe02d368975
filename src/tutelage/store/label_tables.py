"""Tables of preferences: who judged which replies to which prompt, in which order they were shown, and how."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from tutelage.store.base import AnyText, Base

OPEN, SUBMITTED, SKIPPED, DISCARDED = "open", "submitted", "skipped", "discarded"
PERSON, MODEL = "person", "model"


class Annotator(Base):
    """A person, or a model that judges."""

    __tablename__ = "annotator"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(AnyText, unique=True)
    kind: Mapped[str] = mapped_column(String(16))  # PERSON or MODEL
    created: Mapped[float]


class Task(Base):
    """A set of items that are judged by one guideline."""

    __tablename__ = "task"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(AnyText, unique=True)
    seed: Mapped[str] = mapped_column(String(24))  # of every shuffle
    repeat_share: Mapped[float]  # of an annotator's items, shown a second time
    labels_wanted: Mapped[int | None]  # judgements after which the task is done; None: all items
    created: Mapped[float]


class Guideline(Base):
    """A version of the text that annotators are shown; versions are never changed."""

    __tablename__ = "guideline"
    __table_args__ = (UniqueConstraint("task_id", "version"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    version: Mapped[int]
    text: Mapped[str] = mapped_column(AnyText)
    created: Mapped[float]


class Item(Base):
    """A prompt with two to eight replies; `key` is the hash of both, so the same item is put in once."""

    __tablename__ = "item"
    __table_args__ = (UniqueConstraint("task_id", "key"), Index("ix_item_queue", "task_id", "priority", "id"))
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    key: Mapped[str] = mapped_column(String(64))
    prompt_id: Mapped[str | None] = mapped_column(AnyText)
    prompt: Mapped[list[Any]]
    kind: Mapped[str] = mapped_column(AnyText)
    meta: Mapped[dict[str, Any]]
    priority: Mapped[float]  # higher first
    annotators_wanted: Mapped[int]
    created: Mapped[float]
    candidates: Mapped[list[Candidate]] = relationship(order_by="Candidate.place", lazy="selectin")


class Candidate(Base):
    """A reply, and where it comes from; `place` is its place in the stored item, not on the screen."""

    __tablename__ = "candidate"
    __table_args__ = (UniqueConstraint("item_id", "place"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    place: Mapped[int]
    text: Mapped[str] = mapped_column(AnyText)
    sha256: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(AnyText)
    finished: Mapped[bool]
    sampling: Mapped[dict[str, Any]]


class Presentation(Base):
    """An item before an annotator: the order shown, who holds it until when, and what has become of it.

    `repeat` counts how often the annotator had it before; `state` is that of the last judgement, kept with it.
    """

    __tablename__ = "presentation"
    __table_args__ = (
        UniqueConstraint("item_id", "annotator_id", "repeat"),
        Index("ix_presentation_annotator", "annotator_id", "state"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"))
    guideline_id: Mapped[int | None] = mapped_column(ForeignKey("guideline.id"))
    repeat: Mapped[int]
    shown: Mapped[list[Any]]  # places of candidates, in the order on the screen; [] when it is not known
    seed: Mapped[str] = mapped_column(String(24))  # of the shuffle
    leased_until: Mapped[float]
    state: Mapped[str] = mapped_column(String(16))
    created: Mapped[float]


class Draft(Base):
    """What stands on an annotator's screen and is not submitted; a later revision replaces it."""

    __tablename__ = "draft"
    presentation_id: Mapped[int] = mapped_column(ForeignKey("presentation.id"), primary_key=True)
    revision: Mapped[int]
    body: Mapped[dict[str, Any]]
    saved: Mapped[float]


class Judgement(Base):
    """What was decided. Rows are only added: a change supersedes, an undo discards. Candidates are named by place."""

    __tablename__ = "judgement"
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(String(64), unique=True)  # made by who judges: sent twice, stored once
    presentation_id: Mapped[int] = mapped_column(ForeignKey("presentation.id"), index=True)
    supersedes: Mapped[int | None] = mapped_column(ForeignKey("judgement.id"), unique=True)
    status: Mapped[str] = mapped_column(String(16))  # submitted, skipped, discarded
    ranking: Mapped[list[Any]]  # [[2], [0, 1]]: groups of equal ones, best first; [] when not ranked
    flags: Mapped[dict[str, Any]]  # {"2": ["unsafe"]}
    all_bad: Mapped[bool]
    soft: Mapped[list[Any]]  # [[0, 1, 0.83]]: P(0 is better than 1), of judges that say so
    reason: Mapped[str] = mapped_column(AnyText)
    seconds: Mapped[float | None]  # spent on it
    created: Mapped[float]
