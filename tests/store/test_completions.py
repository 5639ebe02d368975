"""Stored completions in every database: paged in one order, filtered, labelled anew, each owner's alone."""

from __future__ import annotations

from typing import Any

from tutelage.store import completions
from tutelage.store.completions import Kept, Wanted
from tutelage.store.engine import opened


def kept(number: int, **changes: Any) -> Kept:
    """Three completions a second, so that the id decides among them."""
    row: dict[str, Any] = {
        "id": f"c-{number:03}",
        "model": "a" if number % 2 else "b",
        "created": 100 + number // 3,
        "request_sha256": "0",
        "body": {"choices": [], "text": "half \ud83d and zero \x00"},
        "messages": [{"role": "user", "content": "\x00"}],
        "metadata": {"n": str(number), "odd": str(number % 2), "text": "\ud83d\x00"},
        "owner": "anna",
    }
    return Kept(**{**row, **changes})


def test_pages_follow_one_order_and_filters_hold(store_url: str) -> None:
    with opened(store_url) as store:
        rows = [kept(number) for number in range(8)]
        for row in reversed(rows):
            assert completions.keep(store, row)
        for descending in (False, True):
            found: list[Kept] = []
            more = True
            while more:
                page, more = completions.page(store, Wanted("anna"), found[-1] if found else None, 3, descending)
                found += page
            assert found == (rows[::-1] if descending else rows)
        assert list(completions.every(store, Wanted())) == rows
        assert list(completions.every(store, Wanted(metadata={"odd": "1"}))) == rows[1::2]
        assert list(completions.every(store, Wanted(metadata={"odd": "1", "n": "2"}))) == []
        assert list(completions.every(store, Wanted(model="b", since=101, until=102))) == [rows[4]]
        assert list(completions.every(store, Wanted(owner="ben"))) == []


def test_a_key_is_kept_once_and_labels_are_replaced(store_url: str) -> None:
    with opened(store_url) as store:
        first = kept(0, idempotency_key="k")
        assert completions.keep(store, first)
        assert not completions.keep(store, kept(1, idempotency_key="k"))
        assert completions.keep(store, kept(2, idempotency_key="k", owner="ben"))
        assert completions.same_request(store, "anna", "k", "0", 0) == first
        assert completions.same_request(store, "anna", None, "0", 101) is None
        relabelled = completions.relabel(store, "anna", first.id, {"new": "1"})
        assert relabelled is not None
        assert completions.get(store, "anna", first.id) == relabelled
        assert relabelled.metadata == {"new": "1"}
        assert completions.relabel(store, "ben", first.id, {}) is None
        assert not completions.delete(store, "ben", first.id)
        assert completions.delete(store, "anna", first.id)
        assert completions.get(store, "anna", first.id) is None
