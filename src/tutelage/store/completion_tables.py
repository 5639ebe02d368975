"""Tables of stored completions: what a served model was asked with `store`, what it said, the client's metadata."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from tutelage.store.base import AnyText, Base


class StoredCompletion(Base):
    """A completion as it was answered. `owner` is the hash of the token that asked, "" where none is needed."""

    __tablename__ = "completion"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index("ix_completion_order", "owner", "created", "id"),
        Index("ix_completion_request", "owner", "request_sha256"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(AnyText)
    created: Mapped[int]
    request_sha256: Mapped[str] = mapped_column(String(64))
    idempotency_key: Mapped[str | None] = mapped_column(String(256))
    body: Mapped[dict[str, Any]]  # the answer
    messages: Mapped[list[Any]]  # of the request
    request: Mapped[dict[str, Any]]  # tools and sampling
    pairs: Mapped[list[CompletionPair]] = relationship(
        cascade="all, delete-orphan", lazy="selectin", order_by="CompletionPair.place"
    )


class CompletionPair(Base):
    """A pair of a completion's metadata."""

    __tablename__ = "completion_pair"
    __table_args__ = (Index("ix_completion_pair_key", "key", "value"),)
    completion_id: Mapped[str] = mapped_column(String(64), ForeignKey("completion.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(AnyText)
    value: Mapped[str] = mapped_column(AnyText)
