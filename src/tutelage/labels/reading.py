"""The judgements that stand, with everything about them, read in a few queries."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from tutelage.labels.judging import verdict_of
from tutelage.labels.records import Label, Reply
from tutelage.labels.tasks import replies_of
from tutelage.store.label_tables import SUBMITTED, Annotator, Guideline, Item, Judgement, Presentation, Task


def labels_of(session: Session, task: Task) -> list[Label]:
    """Submitted judgements that no other supersedes, in the order of items, then of judgements."""
    items = {item.id: item for item in session.scalars(select(Item).where(Item.task_id == task.id))}
    replies = {number: replies_of(item) for number, item in items.items()}
    later = aliased(Judgement)
    query = (
        select(Judgement, Presentation, Annotator, Guideline.version)
        .join(Presentation, Presentation.id == Judgement.presentation_id)
        .join(Item).join(Annotator)
        .outerjoin(Guideline, Guideline.id == Presentation.guideline_id)
        .outerjoin(later, later.supersedes == Judgement.id)
        .where(Item.task_id == task.id, Judgement.status == SUBMITTED, later.id.is_(None))
        .order_by(Item.id, Judgement.id)
    )  # fmt: skip
    return [
        _label(task, items[shown.item_id], replies[shown.item_id], judgement, shown, annotator, version)
        for judgement, shown, annotator, version in session.execute(query)
    ]


def _label(
    task: Task, item: Item, replies: tuple[Reply, ...], judgement: Judgement, shown: Presentation,
    annotator: Annotator, version: int | None,
) -> Label:  # fmt: skip
    return Label(
        id=judgement.id, task=task.name, item=item.id, key=item.key, prompt_id=item.prompt_id, prompt=item.prompt,
        kind=item.kind, replies=replies, annotator=annotator.name, annotator_kind=annotator.kind, repeat=shown.repeat,
        shown=tuple(shown.shown), verdict=verdict_of(judgement), guideline_version=version, created=judgement.created,
    )  # fmt: skip
