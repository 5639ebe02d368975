"""Stored completions: kept, found again, listed in pages, labelled anew, deleted; an owner sees its own only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.exc import IntegrityError

from tutelage.store.completion_tables import CompletionPair, StoredCompletion
from tutelage.store.engine import Store

_PAGE = 200  # rows read at once for an export


@dataclass(frozen=True)
class Kept:
    """A completion with what was asked; see the columns of `StoredCompletion`."""

    id: str
    model: str
    created: int
    request_sha256: str
    body: dict[str, Any]
    messages: list[Any]
    request: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    idempotency_key: str | None = None


@dataclass(frozen=True)
class Wanted:
    """Which completions: all conditions must hold; `owner` None means everyone's, times are seconds since 1970."""

    owner: str | None = None
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None
    until: float | None = None


def keep(store: Store, kept: Kept) -> bool:
    """Store a completion; False if one with its idempotency key is there already."""
    row = StoredCompletion(
        **{name: value for name, value in vars(kept).items() if name != "metadata"}, pairs=_pairs(kept.metadata)
    )
    try:
        with store.write() as session:
            session.add(row)
    except IntegrityError:
        return False
    return True


def same_request(store: Store, owner: str, key: str | None, request_sha256: str, since: float) -> Kept | None:
    """What answered the request before: the one with its key or, without a key, an equal one not older than `since`."""
    chosen = select(StoredCompletion).where(StoredCompletion.owner == owner)
    if key is not None:
        chosen = chosen.where(StoredCompletion.idempotency_key == key)
    else:
        chosen = chosen.where(
            StoredCompletion.request_sha256 == request_sha256, StoredCompletion.created >= int(since)
        ).order_by(StoredCompletion.created.desc(), StoredCompletion.id.desc())
    with store.read() as session:
        row = session.scalars(chosen.limit(1)).first()
        return None if row is None else _kept(row)


def get(store: Store, owner: str, completion_id: str) -> Kept | None:
    """One completion."""
    with store.read() as session:
        row = session.get(StoredCompletion, completion_id)
        return None if row is None or row.owner != owner else _kept(row)


def page(
    store: Store, wanted: Wanted, after: Kept | None = None, limit: int = 20, descending: bool = False
) -> tuple[list[Kept], bool]:
    """Up to `limit` completions by time, those of one second by id, and whether more follow."""
    chosen = _chosen(wanted)
    created, own_id = StoredCompletion.created, StoredCompletion.id
    if after is not None and descending:
        chosen = chosen.where(or_(created < after.created, and_(created == after.created, own_id < after.id)))
    elif after is not None:
        chosen = chosen.where(or_(created > after.created, and_(created == after.created, own_id > after.id)))
    order = (created.desc(), own_id.desc()) if descending else (created, own_id)
    with store.read() as session:
        rows = [_kept(row) for row in session.scalars(chosen.order_by(*order).limit(limit + 1))]
    return rows[:limit], len(rows) > limit


def every(store: Store, wanted: Wanted) -> Iterator[Kept]:
    """All that are wanted, in the order of time; each page is a question of its own, so nobody waits."""
    last: Kept | None = None
    more = True
    while more:
        rows, more = page(store, wanted, last, _PAGE)
        yield from rows
        last = rows[-1] if rows else last


def models(store: Store, owner: str) -> list[str]:
    """Names of the models whose completions an owner has, in order."""
    own = select(StoredCompletion.model).where(StoredCompletion.owner == owner).distinct()
    with store.read() as session:
        return sorted(session.scalars(own))


def relabel(store: Store, owner: str, completion_id: str, metadata: Mapping[str, str]) -> Kept | None:
    """Put this metadata in place of the old."""
    with store.write() as session:
        row = session.get(StoredCompletion, completion_id)
        if row is None or row.owner != owner:
            return None
        row.pairs.clear()
        session.flush()
        row.pairs.extend(_pairs(metadata))
        session.flush()
        return _kept(row)


def delete(store: Store, owner: str, completion_id: str) -> bool:
    """Whether it was there."""
    with store.write() as session:
        row = session.get(StoredCompletion, completion_id)
        if row is None or row.owner != owner:
            return False
        session.delete(row)
        return True


def _chosen(wanted: Wanted) -> Select[StoredCompletion]:
    chosen = select(StoredCompletion)
    if wanted.owner is not None:
        chosen = chosen.where(StoredCompletion.owner == wanted.owner)
    if wanted.model is not None:
        chosen = chosen.where(StoredCompletion.model == wanted.model)
    if wanted.since is not None:
        chosen = chosen.where(StoredCompletion.created >= wanted.since)
    if wanted.until is not None:
        chosen = chosen.where(StoredCompletion.created < wanted.until)
    for key, value in wanted.metadata.items():
        labelled = StoredCompletion.pairs.any(and_(CompletionPair.key == key, CompletionPair.value == value))
        chosen = chosen.where(labelled)
    return chosen


def _pairs(metadata: Mapping[str, str]) -> list[CompletionPair]:
    return [CompletionPair(place=place, key=key, value=value) for place, (key, value) in enumerate(metadata.items())]


def _kept(row: StoredCompletion) -> Kept:
    columns = {name: getattr(row, name) for name in Kept.__dataclass_fields__ if name != "metadata"}
    return Kept(**columns, metadata={pair.key: pair.value for pair in row.pairs})
