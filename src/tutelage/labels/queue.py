"""Which item an annotator is given next: one begun before, one seen before (to measure constancy), or a new one."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from tutelage.labels.tasks import newest_guideline
from tutelage.store.label_tables import OPEN, PERSON, SUBMITTED, Annotator, Draft, Item, Presentation, Task

MIN_BETWEEN = 5  # items that an annotator judges before one of them comes back


def next_presentation(
    session: Session, task: Task, annotator: tuple[int, str], now: float, lease: float
) -> Presentation | None:
    """Claim an item for (id, name) of an annotator; None when there is nothing left for them.

    The caller holds the lock of the task, so that no two annotators count the same free place.
    """
    number = annotator[0]
    found = _begun(session, task, number, now)
    if found is None:
        repeated = _due(session, task, number)
        item = repeated or session.scalar(_fresh(task, number, now))
        if item is None:
            return None
        found = _presented(session, task, item, annotator, int(repeated is not None), now)
    found.leased_until = now + lease
    return found


def shuffled(seed: str, key: str, annotator: str, repeat: int, num_replies: int) -> tuple[list[int], str]:
    """The order of an item's replies before an annotator, and the seed that it was drawn with."""
    digest = hashlib.sha256(json.dumps([seed, key, annotator, repeat]).encode()).digest()
    own = int.from_bytes(digest[:8], "big")
    return random.Random(own).sample(range(num_replies), num_replies), str(own)


def _begun(session: Session, task: Task, annotator: int, now: float) -> Presentation | None:
    """An open one: it is still theirs if they hold it, have a draft of it, or nobody else took the place."""
    mine = _of(task, annotator).where(Presentation.state == OPEN).order_by(Presentation.id)
    for presentation in session.scalars(mine):
        if presentation.leased_until > now or session.get(Draft, presentation.id) is not None or presentation.repeat:
            return presentation
        item = session.get_one(Item, presentation.item_id)
        if (session.scalar(select(_taken(now)).where(Item.id == item.id)) or 0) < item.annotators_wanted:
            return presentation
    return None


def _due(session: Session, task: Task, annotator: int) -> Item | None:
    """The first item that is to be shown again, if it is time: a share of those judged, not just now."""
    judged: Sequence[int] = session.scalars(
        select(Presentation.item_id).join(Item)
        .where(Item.task_id == task.id, Presentation.annotator_id == annotator)
        .where(Presentation.repeat == 0, Presentation.state == SUBMITTED).order_by(Presentation.id)
    ).all()  # fmt: skip
    again = set(session.scalars(
        select(Presentation.item_id).join(Item)
        .where(Item.task_id == task.id, Presentation.annotator_id == annotator, Presentation.repeat > 0)
    ))  # fmt: skip
    if len(again) >= int(len(judged) * task.repeat_share):
        return None
    waiting = [item for item in judged[: max(len(judged) - MIN_BETWEEN, 0)] if item not in again]
    return session.get(Item, waiting[0]) if waiting else None


def _fresh(task: Task, annotator: int, now: float) -> Select[Item]:
    """The first item that has a free place and that they have not had, skipped ones included."""
    had = exists().where(Presentation.item_id == Item.id, Presentation.annotator_id == annotator)
    free = _taken(now) < Item.annotators_wanted
    return select(Item).where(Item.task_id == task.id, ~had, free).order_by(Item.priority.desc(), Item.id).limit(1)


def _taken(now: float) -> ColumnElement[int]:
    """How many people judged an item, or hold it just now; judges that are models take no place."""
    other = aliased(Presentation)
    holds = or_(other.state == SUBMITTED, and_(other.state == OPEN, other.leased_until > now))
    people = select(func.count()).select_from(other).join(Annotator, Annotator.id == other.annotator_id)
    mine = people.where(Annotator.kind == PERSON, other.item_id == Item.id, other.repeat == 0, holds)
    return mine.correlate(Item).scalar_subquery()


def _of(task: Task, annotator: int) -> Select[Presentation]:
    return select(Presentation).join(Item).where(Item.task_id == task.id, Presentation.annotator_id == annotator)


def _presented(
    session: Session, task: Task, item: Item, annotator: tuple[int, str], repeat: int, now: float
) -> Presentation:
    order, seed = shuffled(task.seed, item.key, annotator[1], repeat, len(item.candidates))
    guideline = newest_guideline(session, task.id)
    new = Presentation(
        item_id=item.id, annotator_id=annotator[0], guideline_id=guideline.id if guideline else None, repeat=repeat,
        shown=order, seed=seed, leased_until=now, state=OPEN, created=now,
    )  # fmt: skip
    session.add(new)
    session.flush()
    return new
