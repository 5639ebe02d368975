"""Drafts, submissions, skips and undo. Judgements are only ever added; what a presentation's last one says, holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from tutelage.errors import DataError, NotFoundError, OutdatedError
from tutelage.labels.records import MAX_DRAFT, Receipt, Verdict
from tutelage.store.label_tables import (
    DISCARDED,
    OPEN,
    SKIPPED,
    SUBMITTED,
    Annotator,
    Draft,
    Item,
    Judgement,
    Presentation,
    Task,
)

MAX_CLIENT_ID = 64


def held(session: Session, presentation: int, annotator: str, *, lock: bool = False) -> Presentation:
    """An annotator's own presentation; NotFoundError for anybody else's, as for one that there is not."""
    query = (
        select(Presentation)
        .join(Annotator)
        .where(Presentation.id == presentation, Annotator.name == annotator)
    )  # fmt: skip
    found = session.scalar(query.with_for_update(of=Presentation) if lock else query)
    if found is None:
        raise NotFoundError(f"sheet {presentation}: {annotator} has none of this number", hint="ask for the next item")
    return found


def save_draft(session: Session, own: Presentation, body: Mapping[str, Any], revision: int, now: float) -> int:
    """Keep what stands on the screen; returns the revision that is kept, a later one if a draft arrives too late."""
    if own.state != OPEN:
        raise OutdatedError(f"sheet {own.id} is {own.state}: there is nothing to draft", hint="undo it to change it")
    if len(json.dumps(body)) > MAX_DRAFT:
        raise DataError(f"a draft has more than {MAX_DRAFT:,} characters", hint="shorten the reason")
    draft = session.get(Draft, own.id)
    if draft is None:
        draft = Draft(presentation_id=own.id, revision=-1, body={}, saved=now)
        session.add(draft)
    if revision > draft.revision:
        draft.revision, draft.body, draft.saved = revision, dict(body), now
    return draft.revision


def submit(
    session: Session, own: Presentation, verdict: Verdict, client_id: str, now: float, supersedes: int | None = None
) -> Receipt:
    """Store a verdict whose places are those of the stored item. A client_id that was stored is not stored again.

    A sheet that is judged already is changed only by naming, as `supersedes`, the judgement that is to be replaced.
    """
    return _decide(session, own, SUBMITTED, verdict, client_id, now, supersedes)


def skip(
    session: Session, own: Presentation, client_id: str, reason: str, seconds: float | None, now: float
) -> Receipt:
    """Leave an item to others; this annotator is not given it again."""
    return _decide(session, own, SKIPPED, Verdict(reason=reason, seconds=seconds), client_id, now, None)


def undo(session: Session, task: Task, annotator: str, client_id: str, now: float) -> Presentation | None:
    """Open an annotator's last sheet again, what they said as its draft; None when there is none to undo."""
    if (earlier := _stored(session, client_id)) is not None:
        return held(session, earlier.presentation_id, annotator)
    last = session.scalar(
        select(Judgement)
        .join(Presentation, Presentation.id == Judgement.presentation_id)
        .join(Annotator).join(Item)
        .where(Item.task_id == task.id, Annotator.name == annotator, Judgement.status != DISCARDED, ~_superseded())
        .order_by(Judgement.id.desc()).limit(1)
    )  # fmt: skip
    if last is None:
        return None
    own = held(session, last.presentation_id, annotator, lock=True)
    nothing = Verdict(reason=f"undone: {last.status}")
    _add(session, own, DISCARDED, nothing, client_id, now, last.id)
    own.state = OPEN
    if not own.shown:  # made elsewhere, in an order that is not known: from now on it is the stored one
        own.shown = list(range(len(session.get_one(Item, own.item_id).candidates)))
    if last.status == SUBMITTED:
        places = {place: shown for shown, place in enumerate(own.shown)}
        body = verdict_of(last).moved([places[n] for n in range(len(places))])
        session.merge(Draft(presentation_id=own.id, revision=0, body=body.model_dump(mode="json"), saved=now))
    return own


def verdict_of(judgement: Judgement) -> Verdict:
    """A stored judgement as a verdict, its places those of the stored item."""
    return Verdict.model_construct(
        ranking=judgement.ranking,
        flags={int(place): flags for place, flags in judgement.flags.items()},
        all_bad=judgement.all_bad,
        soft=[(first, second, p) for first, second, p in judgement.soft],
        reason=judgement.reason,
        seconds=judgement.seconds,
    )


def standing(session: Session, presentation: int) -> Judgement | None:
    """The judgement of a presentation that no other supersedes."""
    return session.scalar(select(Judgement).where(Judgement.presentation_id == presentation, ~_superseded()))


def _superseded() -> Any:
    later = aliased(Judgement)
    return exists().where(later.supersedes == Judgement.id)


def _stored(session: Session, client_id: str) -> Judgement | None:
    if not 1 <= len(client_id) <= MAX_CLIENT_ID or not client_id.isprintable():
        raise DataError(
            f"client_id {client_id[:20]!r}…: not 1 to {MAX_CLIENT_ID} printable characters",
            hint="make a random one for every sheet, and send the same one when the same submission is repeated",
        )
    return session.scalar(select(Judgement).where(Judgement.client_id == client_id))


def _decide(
    session: Session,
    own: Presentation,
    status: str,
    verdict: Verdict,
    client_id: str,
    now: float,
    supersedes: int | None,
) -> Receipt:
    if (earlier := _stored(session, client_id)) is not None:
        if earlier.presentation_id != own.id:
            raise DataError(f"client_id {client_id}: used for another sheet", hint="make a new one for every sheet")
        return Receipt(earlier.id, again=True)
    last = standing(session, own.id)
    if own.state != OPEN and (last is None or supersedes != last.id):
        raise OutdatedError(
            f"sheet {own.id} is {own.state} already, by another window perhaps",
            hint="ask for the next item; to change a judgement, undo it or name it as `supersedes`",
        )
    new = _add(session, own, status, verdict, client_id, now, last.id if last else None)
    own.state = status
    if (draft := session.get(Draft, own.id)) is not None:
        session.delete(draft)
    return Receipt(new.id, again=False)


def _add(
    session: Session,
    own: Presentation,
    status: str,
    verdict: Verdict,
    client_id: str,
    now: float,
    supersedes: int | None,
) -> Judgement:
    new = Judgement(
        client_id=client_id, presentation_id=own.id, supersedes=supersedes, status=status, created=now,
        ranking=verdict.ranking, flags={str(place): flags for place, flags in verdict.flags.items()},
        all_bad=verdict.all_bad, soft=[list(pair) for pair in verdict.soft], reason=verdict.reason,
        seconds=verdict.seconds,
    )  # fmt: skip
    session.add(new)
    session.flush()
    return new
