"""Tasks: made, filled with items, given guidelines, found by name. Everything may be done twice and happens once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from urllib.parse import quote

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tutelage.errors import DataError, NotFoundError
from tutelage.labels.records import MAX_NAME, NewItem, Progress, Reply
from tutelage.run.words import did_you_mean
from tutelage.store.engine import Store
from tutelage.store.label_tables import (
    OPEN,
    PERSON,
    SKIPPED,
    SUBMITTED,
    Annotator,
    Candidate,
    Guideline,
    Item,
    Presentation,
    Task,
)

_ITEMS_A_WRITE = 200  # annotators wait while a write lasts


def make_task(
    store: Store, name: str, now: float, *, seed: int = 0, repeat_share: float = 0.0, labels_wanted: int | None = None
) -> None:
    """Make a task, or give the one of this name these settings; its seed stays."""
    with store.write() as session:
        task = session.scalar(select(Task).where(Task.name == checked_name("task", name)))
        if task is None:
            task = Task(name=name, seed=str(seed), created=now, repeat_share=repeat_share, labels_wanted=labels_wanted)
            session.add(task)
        task.repeat_share, task.labels_wanted = repeat_share, labels_wanted


def checked_name(what: str, name: str) -> str:
    """DataError for a name that is empty, long, or cannot be stored as it is."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise DataError(
            f"{what}: {name[:40]!r} cannot be a name", hint=f"write 1 to {MAX_NAME} characters that can be printed"
        )
    return name


def find_task(session: Session, name: str, *, lock: bool = False) -> Task:
    """The task of this name; NotFoundError names those that there are. With `lock`, nobody else may claim its items."""
    query = select(Task).where(Task.name == name)
    task = session.scalar(query.with_for_update() if lock else query)
    if task is None:
        known = list(session.scalars(select(Task.name).order_by(Task.id)))
        raise NotFoundError(
            f"task {name!r}: there is none; {did_you_mean(name, known)}", hint="`tutelage label import` makes one"
        )
    return task


def page_of(task: str) -> str:
    """Where `tutelage serve` lets people rank a task: the address without its host."""
    return f"/rank?task={quote(task, safe='')}"


def task_names(store: Store) -> list[str]:
    """All tasks, the newest last."""
    with store.read() as session:
        return list(session.scalars(select(Task.name).order_by(Task.id)))


def set_guideline(store: Store, task: str, text: str, now: float) -> int:
    """What annotators are to be shown from now on; the same text again is the same version. Returns the version."""
    with store.write() as session:
        own = find_task(session, task, lock=True)
        last = newest_guideline(session, own.id)
        if last is not None and last.text == text:
            return last.version
        version = last.version + 1 if last else 1
        session.add(Guideline(task_id=own.id, version=version, text=text, created=now))
        return version


def newest_guideline(session: Session, task_id: int) -> Guideline | None:
    """The version that is shown now."""
    query = select(Guideline).where(Guideline.task_id == task_id).order_by(Guideline.version.desc()).limit(1)
    return session.scalar(query)


def add_items(store: Store, task: str, items: Iterable[NewItem], now: float) -> int:
    """Put items in and return how many are new; those that are there get the new priority and number of annotators."""
    added = 0
    for part in _parts(items, _ITEMS_A_WRITE):
        for item in part:
            item.check()
        with store.write() as session:
            own = find_task(session, task, lock=True)
            known = existing(session, own.id, [item.key for item in part])
            for item in part:
                if (old := known.get(item.key)) is not None:
                    old.priority, old.annotators_wanted = item.priority, item.annotators_wanted
                else:
                    known[item.key] = new = _row(own.id, item, now)
                    session.add(new)
                    added += 1
    return added


def existing(session: Session, task_id: int, keys: Sequence[str]) -> dict[str, Item]:
    """The items that a task has of these keys."""
    return {item.key: item for item in session.scalars(select(Item).where(Item.task_id == task_id, Item.key.in_(keys)))}


def items_of(session: Session, task: Task) -> list[NewItem]:
    """The items of a task as they were put in, in the order in which they are given out."""
    query = select(Item).where(Item.task_id == task.id).order_by(Item.priority.desc(), Item.id)
    return [
        NewItem(
            prompt=item.prompt, replies=replies_of(item), prompt_id=item.prompt_id, kind=item.kind, meta=item.meta,
            priority=item.priority, annotators_wanted=item.annotators_wanted,
        )
        for item in session.scalars(query)
    ]  # fmt: skip


def replies_of(item: Item) -> tuple[Reply, ...]:
    """Its candidates, by place."""
    return tuple(Reply(one.text, one.model, one.finished, one.sampling) for one in item.candidates)


def _row(task_id: int, item: NewItem, now: float) -> Item:
    candidates = [
        Candidate(
            place=place, text=reply.text, model=reply.model, finished=reply.finished, sampling=dict(reply.sampling),
            sha256=hashlib.sha256(reply.text.encode(errors="surrogatepass")).hexdigest(),
        )
        for place, reply in enumerate(item.replies)
    ]  # fmt: skip
    return Item(
        task_id=task_id, key=item.key, prompt_id=item.prompt_id, prompt=[dict(message) for message in item.prompt],
        kind=item.kind, meta=dict(item.meta), priority=item.priority, annotators_wanted=item.annotators_wanted,
        created=now, candidates=candidates,
    )  # fmt: skip


def _parts(items: Iterable[NewItem], size: int) -> Iterator[list[NewItem]]:
    waiting = iter(items)
    while part := list(islice(waiting, size)):
        yield part


def annotator_id(session: Session, name: str, now: float, kind: str = PERSON) -> int:
    """The annotator of this name, made at the first call."""
    found = session.scalar(select(Annotator.id).where(Annotator.name == checked_name("annotator", name)))
    if found is not None:
        return found
    new = Annotator(name=name, kind=kind, created=now)
    session.add(new)
    session.flush()
    return new.id


def progress_of(session: Session, task: Task) -> Progress:
    """Counts of a task; without a number of its own, it wants as many labels as its items ask for."""
    query = (
        select(Annotator.kind, Presentation.state, Presentation.repeat, func.count())
        .join(Item, Item.id == Presentation.item_id)
        .join(Annotator, Annotator.id == Presentation.annotator_id)
        .where(Item.task_id == task.id)
        .group_by(Annotator.kind, Presentation.state, Presentation.repeat)
    )
    people, judged = Counter[tuple[str, bool]](), 0
    for kind, state, repeat, count in session.execute(query):
        if kind == PERSON:
            people[state, repeat > 0] += count
        else:
            judged += count * (state == SUBMITTED)
    items, asked = session.execute(
        select(func.count(), func.coalesce(func.sum(Item.annotators_wanted), 0)).where(Item.task_id == task.id)
    ).one()
    judges = (
        select(func.count(Presentation.annotator_id.distinct()))
        .join(Item, Item.id == Presentation.item_id)
        .join(Annotator, Annotator.id == Presentation.annotator_id)
        .where(Item.task_id == task.id, Presentation.state == SUBMITTED, Annotator.kind == PERSON)
    )
    return Progress(
        items=items,
        labels=people[SUBMITTED, False],
        wanted=int(asked) if task.labels_wanted is None else task.labels_wanted,
        skipped=people[SKIPPED, False],
        repeats=people[SUBMITTED, True],
        open=people[OPEN, False] + people[OPEN, True],
        annotators=session.scalar(judges) or 0,
        judged=judged,
    )
