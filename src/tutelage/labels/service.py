"""What a page, a command or a judge does with labels: plain calls, each one transaction. Web routes call these.

Every method may be repeated after a lost answer. NotFoundError is a 404, OutdatedError a 409, other DataErrors a 400.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tutelage.errors import NotFoundError
from tutelage.labels import judging, tasks
from tutelage.labels.queue import next_presentation
from tutelage.labels.reading import labels_of
from tutelage.labels.records import Label, NewItem, Progress, Receipt, Sheet, Verdict
from tutelage.labels.summary import Board, Statistics, board_of, statistics_of
from tutelage.store.engine import Store
from tutelage.store.label_tables import OPEN, PERSON, SUBMITTED, Draft, Guideline, Item, Presentation, Task

LEASE = 900.0  # seconds that an item is kept for who was given it, from the last sign of life


@dataclass(frozen=True)
class Labels:
    """The service. `clock` gives seconds since 1970."""

    store: Store
    clock: Callable[[], float] = time.time
    lease: float = LEASE

    def make_task(
        self, name: str, *, seed: int = 0, repeat_share: float = 0.0, labels_wanted: int | None = None
    ) -> None:
        """Make a task, or change the settings of one that there is; its seed stays."""
        tasks.make_task(
            self.store, name, self.clock(), seed=seed, repeat_share=repeat_share, labels_wanted=labels_wanted
        )

    def tasks(self) -> list[str]:
        """Names, the newest last."""
        return tasks.task_names(self.store)

    def set_guideline(self, task: str, text: str) -> int:
        """The text shown with new sheets from now on; returns its version."""
        return tasks.set_guideline(self.store, task, text, self.clock())

    def add_items(self, task: str, items: Iterable[NewItem]) -> int:
        """Put items in; those that are there are not put in twice. Returns how many are new."""
        return tasks.add_items(self.store, task, items, self.clock())

    def items(self, task: str) -> list[NewItem]:
        """All items, those of the highest priority first."""
        with self.store.read() as session:
            return tasks.items_of(session, tasks.find_task(session, task))

    def next_item(self, task: str, annotator: str) -> Sheet | None:
        """The sheet that an annotator is to judge now: after a reload the same one; None when nothing is left."""
        now = self.clock()
        with self.store.write() as session:
            own = tasks.find_task(session, task, lock=True)
            who = tasks.annotator_id(session, annotator, now), annotator
            found = next_presentation(session, own, who, now, self.lease)
            return None if found is None else _sheet(session, own, found)

    def save_draft(self, presentation: int, annotator: str, body: Mapping[str, Any], revision: int) -> int:
        """Keep what stands on the screen, and the item for this annotator. Returns the revision that is kept."""
        now = self.clock()
        with self.store.write() as session:
            own = judging.held(session, presentation, annotator, lock=True)
            kept = judging.save_draft(session, own, body, revision, now)
            own.leased_until = now + self.lease
            return kept

    def submit(
        self, presentation: int, annotator: str, verdict: Verdict, client_id: str, supersedes: int | None = None
    ) -> Receipt:
        """Store a verdict; its places are those of the sheet. The same client_id again stores nothing."""
        with self.store.write() as session:
            own = judging.held(session, presentation, annotator, lock=True)
            verdict.check(len(own.shown))
            return judging.submit(session, own, verdict.moved(own.shown), client_id, self.clock(), supersedes)

    def skip(
        self, presentation: int, annotator: str, client_id: str, reason: str = "", seconds: float | None = None
    ) -> Receipt:
        """Leave an item to others."""
        with self.store.write() as session:
            own = judging.held(session, presentation, annotator, lock=True)
            return judging.skip(session, own, client_id, reason, seconds, self.clock())

    def undo(self, task: str, annotator: str, client_id: str) -> Sheet | None:
        """The annotator's last sheet again, what they had said as its draft; None when there is nothing to undo."""
        now = self.clock()
        with self.store.write() as session:
            own = tasks.find_task(session, task, lock=True)
            found = judging.undo(session, own, annotator, client_id, now)
            if found is None:
                return None
            found.leased_until = now + self.lease
            return _sheet(session, own, found)

    def record(
        self, task: str, item: NewItem, annotator: str, verdict: Verdict, *,
        shown: Sequence[int] = (), kind: str = PERSON, repeat: int = 0,
    ) -> bool:  # fmt: skip
        """Store a verdict that was made elsewhere, by a file or a judge; False if it stands already.

        Places are those of `item.replies`, which may be stored in another order. A changed verdict supersedes.
        """
        verdict.check(len(item.replies))
        now = self.clock()
        with self.store.write() as session:
            own = tasks.find_task(session, task, lock=True)
            stored = tasks.existing(session, own.id, [item.key]).get(item.key)
            if stored is None:
                raise NotFoundError(f"task {task!r} has no such item", hint="add the item first")
            who = tasks.annotator_id(session, annotator, now, kind)
            at = {candidate.text: candidate.place for candidate in stored.candidates}
            places = [at[reply.text] for reply in item.replies]
            look = Presentation(
                item_id=stored.id, annotator_id=who, repeat=repeat, shown=[places[n] for n in shown], seed="",
                leased_until=now, state=OPEN, created=now,
            )  # fmt: skip
            return _recorded(session, look, verdict.moved(places), now)

    def progress(self, task: str) -> Progress:
        """Counts, cheap enough to ask every second."""
        with self.store.read() as session:
            return tasks.progress_of(session, tasks.find_task(session, task))

    def labels(self, task: str) -> list[Label]:
        """All judgements that stand, repeats included, in the order of the items."""
        with self.store.read() as session:
            return labels_of(session, tasks.find_task(session, task))

    def stats(self, task: str) -> Statistics:
        """Agreement, position bias, constancy, time."""
        return statistics_of(self.labels(task), self.progress(task))

    def board(self, task: str, seed: int = 0) -> Board:
        """Which model's replies are preferred."""
        return board_of(self.labels(task), seed)


def _sheet(session: Session, task: Task, own: Presentation) -> Sheet:
    item = session.get_one(Item, own.item_id)
    texts = {candidate.place: candidate.text for candidate in item.candidates}
    guideline = session.get(Guideline, own.guideline_id) if own.guideline_id is not None else None
    draft = session.get(Draft, own.id)
    return Sheet(
        presentation=own.id,
        task=task.name,
        prompt=item.prompt,
        replies=[texts[place] for place in own.shown],
        guideline=guideline.text if guideline else "",
        guideline_version=guideline.version if guideline else None,
        draft=draft.body if draft else None,
        draft_revision=draft.revision if draft else 0,
        leased_until=own.leased_until,
    )


def _recorded(session: Session, new: Presentation, verdict: Verdict, now: float) -> bool:
    """Submit on `new`, or on the look at the same item that is stored already; False if it says the same."""
    same = (Presentation.item_id == new.item_id, Presentation.annotator_id == new.annotator_id)
    own = session.scalar(select(Presentation).where(*same, Presentation.repeat == new.repeat))
    if own is None:
        own = new
        session.add(own)
        session.flush()
    last = judging.standing(session, own.id)
    if last is not None and own.state == SUBMITTED and _content(judging.verdict_of(last)) == _content(verdict):
        return False
    content = json.dumps([own.id, last.id if last else None, _content(verdict)], sort_keys=True)
    client_id = hashlib.sha256(content.encode()).hexdigest()
    return not judging.submit(session, own, verdict, client_id, now, last.id if last else None).again


def _content(verdict: Verdict) -> Any:
    return json.loads(json.dumps(verdict.model_dump(mode="json"), sort_keys=True))
