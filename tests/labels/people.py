"""What tests of labels share: items, a clock, verdicts by what is on the sheet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from tutelage.labels.records import NewItem, Reply, Sheet, Verdict
from tutelage.labels.service import Labels
from tutelage.store.engine import Store

MODELS = ("base", "instruct", "aligned", "other")
TASK = "colours"
_ids = count()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def item(number: int, num_replies: int = 3, **changes: Any) -> NewItem:
    prompt = [{"role": "user", "content": f"Question {number}?"}]
    replies = [Reply(f"reply {place} to {number}", MODELS[place]) for place in range(num_replies)]
    return NewItem(**{"prompt": prompt, "replies": replies, "prompt_id": f"p{number}", "kind": "fact", **changes})


def service(store: Store, clock: Clock, num_items: int = 4, num_replies: int = 3, **changes: Any) -> Labels:
    labels = Labels(store, clock, lease=60)
    labels.make_task(TASK, seed=7, **{name: changes.pop(name) for name in ("repeat_share",) if name in changes})
    labels.add_items(TASK, [item(number, num_replies, **changes) for number in range(num_items)])
    return labels


def places(sheet: Sheet) -> list[int]:
    """The stored place of each reply on the sheet."""
    return [int(reply.split()[1]) for reply in sheet.replies]


def by_order(sheet: Sheet, order: Sequence[Sequence[int]], **changes: Any) -> Verdict:
    """The verdict that ranks stored places as given."""
    at = {place: shown for shown, place in enumerate(places(sheet))}
    return Verdict(ranking=[[at[place] for place in group] for group in order], **changes)


def new_id() -> str:
    return f"client-{next(_ids)}"
