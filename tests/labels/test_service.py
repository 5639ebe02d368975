"""Who is given which item, and what becomes of drafts, submissions, skips and undo; on SQLite and PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from people import TASK, Clock, by_order, item, new_id, places, service
from sqlalchemy import func, select

from tutelage.errors import DataError, NotFoundError, OutdatedError
from tutelage.labels.records import NewItem, Reply, Sheet, Verdict
from tutelage.labels.service import Labels
from tutelage.store.engine import Store, opened
from tutelage.store.label_tables import Judgement, Presentation

BEST_FIRST = [[0], [1], [2]]


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with opened(store_url) as store:
        yield store


@pytest.fixture
def clock() -> Clock:
    return Clock()


def given(labels: Labels, annotator: str) -> Sheet:
    sheet = labels.next_item(TASK, annotator)
    assert sheet is not None
    return sheet


def judge(labels: Labels, annotator: str) -> Sheet:
    sheet = given(labels, annotator)
    labels.submit(sheet.presentation, annotator, by_order(sheet, BEST_FIRST), new_id())
    return sheet


def test_no_two_annotators_get_one_item_unless_it_wants_several(store: Store, clock: Clock) -> None:
    labels = service(store, clock, num_items=2)
    ada, bob = given(labels, "ada"), given(labels, "bob")
    assert ada.prompt != bob.prompt
    assert labels.next_item(TASK, "cy") is None
    assert given(labels, "ada") == ada  # a reload
    labels.add_items(TASK, [item(0, annotators_wanted=2)])
    assert given(labels, "cy").prompt == ada.prompt


def test_an_item_that_is_left_goes_to_others_and_late_work_is_kept(store: Store, clock: Clock) -> None:
    labels = service(store, clock, num_items=1)
    ada = given(labels, "ada")
    clock.now += 61
    bob = given(labels, "bob")
    assert bob.prompt == ada.prompt
    assert labels.next_item(TASK, "ada") is None
    labels.submit(ada.presentation, "ada", by_order(ada, BEST_FIRST), new_id())
    labels.submit(bob.presentation, "bob", by_order(bob, BEST_FIRST), new_id())
    assert labels.progress(TASK).labels == 2


def test_replies_are_shuffled_for_each_annotator_by_seed_and_shown_blind(store: Store, clock: Clock) -> None:
    labels = service(store, clock, num_items=20, annotators_wanted=3)
    orders = {name: [tuple(places(judge(labels, name))) for _ in range(20)] for name in ("ada", "bob")}
    assert orders["ada"] != orders["bob"]
    firsts = Counter(order[0] for own in orders.values() for order in own)
    assert min(firsts.values()) > 3  # of 40, a third each: 3 or fewer has a probability of 10⁻⁴
    assert "instruct" not in repr(given(labels, "cy"))
    assert [label.ranks for label in labels.labels(TASK)] == [[1, 2, 3]] * 40
    assert [list(label.shown) for label in labels.labels(TASK) if label.annotator == "ada"] == [
        list(order) for order in orders["ada"]
    ]


def test_a_double_enter_stores_one_and_a_second_window_nothing(store: Store, clock: Clock) -> None:
    labels = service(store, clock)
    sheet = given(labels, "ada")
    verdict, client = by_order(sheet, BEST_FIRST), new_id()
    first = labels.submit(sheet.presentation, "ada", verdict, client)
    assert labels.submit(sheet.presentation, "ada", verdict, client) == type(first)(first.judgement, again=True)
    with pytest.raises(OutdatedError, match="submitted already"):
        labels.submit(sheet.presentation, "ada", verdict, new_id())
    with pytest.raises(OutdatedError):
        labels.skip(sheet.presentation, "ada", new_id())
    with pytest.raises(DataError, match="used for another sheet"):
        labels.submit(given(labels, "ada").presentation, "ada", Verdict(all_bad=True), client)
    with pytest.raises(NotFoundError, match="bob has none of this number"):
        labels.submit(sheet.presentation, "bob", verdict, new_id())
    changed = labels.submit(sheet.presentation, "ada", Verdict(all_bad=True), new_id(), supersedes=first.judgement)
    assert [(label.id, label.verdict.all_bad) for label in labels.labels(TASK)] == [(changed.judgement, True)]
    assert labels.progress(TASK).labels == 1


def test_drafts_survive_a_reload_and_a_late_one_does_not_overwrite(store: Store, clock: Clock) -> None:
    labels = service(store, clock)
    sheet = given(labels, "ada")
    assert labels.save_draft(sheet.presentation, "ada", {"reason": "beca"}, 2) == 2
    assert labels.save_draft(sheet.presentation, "ada", {"reason": "b"}, 1) == 2
    clock.now += 1e6  # the lease is over, the draft is not
    again = given(labels, "ada")
    assert (again.presentation, again.draft, again.draft_revision) == (sheet.presentation, {"reason": "beca"}, 2)
    labels.submit(sheet.presentation, "ada", by_order(sheet, BEST_FIRST), new_id())
    assert given(labels, "ada").draft is None
    with pytest.raises(OutdatedError):
        labels.save_draft(sheet.presentation, "ada", {}, 3)
    with pytest.raises(DataError, match="more than"):
        labels.save_draft(given(labels, "ada").presentation, "ada", {"reason": "x" * 200_000}, 1)


def test_undo_opens_the_last_one_with_what_was_said_and_nothing_is_deleted(store: Store, clock: Clock) -> None:
    labels = service(store, clock)
    judge(labels, "ada")
    sheet = given(labels, "ada")
    labels.skip(sheet.presentation, "ada", new_id(), "cannot read it")
    client = new_id()
    reopened = labels.undo(TASK, "ada", client)
    assert reopened == labels.undo(TASK, "ada", client)  # sent twice, done once
    assert reopened is not None
    assert (reopened.presentation, reopened.draft) == (sheet.presentation, None)
    before = labels.undo(TASK, "ada", new_id())
    assert before is not None
    assert Verdict.model_validate(before.draft) == by_order(before, BEST_FIRST)
    assert labels.undo(TASK, "ada", new_id()) is None
    assert labels.progress(TASK).labels == 0
    labels.submit(before.presentation, "ada", Verdict(flags={0: ["unsafe"]}), new_id())
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(Judgement)) == 5
        states = {row.id: row.state for row in session.scalars(select(Presentation))}
        for own in states:  # the state of a presentation is that of its last judgement
            last = session.scalars(
                select(Judgement).where(Judgement.presentation_id == own).order_by(Judgement.id.desc())
            ).first()
            assert last is not None
            assert states[own] == {"discarded": "open"}.get(last.status, last.status)


def test_skipped_items_go_to_others_and_do_not_come_back(store: Store, clock: Clock) -> None:
    labels = service(store, clock, num_items=1)
    sheet = given(labels, "ada")
    labels.skip(sheet.presentation, "ada", new_id())
    assert labels.next_item(TASK, "ada") is None
    assert given(labels, "bob").prompt == sheet.prompt
    assert labels.progress(TASK).skipped == 1


def test_a_share_of_items_comes_back_in_another_order_and_is_not_counted(store: Store, clock: Clock) -> None:
    labels = service(store, clock, num_items=20, repeat_share=0.2)
    seen = [judge(labels, "ada") for _ in range(18)]
    prompts = [sheet.prompt[0]["content"] for sheet in seen]
    again = [n for n, prompt in enumerate(prompts) if prompt in prompts[:n]]
    assert len(again) == 3  # of 15 judged
    assert all(n - prompts.index(prompts[n]) > 5 for n in again)
    progress = labels.progress(TASK)
    assert (progress.labels, progress.repeats, progress.annotators) == (15, 3, 1)
    stats = labels.stats(TASK)
    assert [(own.items, own.same, own.tau_b) for own in stats.self_agreement] == [(3, 1.0, pytest.approx(1.0))]


def test_higher_priority_comes_first_and_items_are_put_in_once(store: Store, clock: Clock) -> None:
    labels = service(store, clock)
    turned = NewItem(item(9).prompt, item(9).replies[::-1], priority=2.0)
    assert labels.add_items(TASK, [item(9, priority=1.0), turned, item(2)]) == 1
    assert given(labels, "ada").prompt == item(9).prompt
    assert labels.progress(TASK).items == 5


def test_guidelines_have_versions_and_a_sheet_keeps_its_own(store: Store, clock: Clock) -> None:
    labels = service(store, clock)
    assert [labels.set_guideline(TASK, text) for text in ("be kind", "be kind", "be right")] == [1, 1, 2]
    sheet = given(labels, "ada")
    assert (sheet.guideline, sheet.guideline_version) == ("be right", 2)
    labels.set_guideline(TASK, "be brief")
    assert given(labels, "ada").guideline == "be right"
    judge(labels, "ada")
    assert [label.guideline_version for label in labels.labels(TASK)] == [2]


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (Verdict(), "says nothing"),
        (Verdict(reason="because"), "says nothing"),
        (Verdict(ranking=[[0], [1]]), "reply 2 has no rank"),
        (Verdict(ranking=[[0], [1], [2, 0]]), "reply 0 has two ranks"),
        (Verdict(ranking=[[0, 1], [2], [3]]), "reply 3 is not on the sheet"),
        (Verdict(ranking=[[0, 1, 2], []]), "empty group"),
        (Verdict(flags={5: ["bad"]}), "reply 5 is not on the sheet"),
        (Verdict(flags={0: ["good", "unsafe"]}), "reply 0 is good and unsafe"),
        (Verdict(all_bad=True, flags={1: ["good"]}), "reply 1 is flagged as good"),
    ],
)
def test_verdicts_that_cannot_be_are_refused_in_words(tmp_path: object, verdict: Verdict, message: str) -> None:
    with opened("sqlite://") as store:
        labels = service(store, Clock())
        with pytest.raises(DataError, match=message):
            labels.submit(given(labels, "ada").presentation, "ada", verdict, new_id())
        assert labels.progress(TASK).labels == 0


@pytest.mark.parametrize("replies", [["one"], ["one", "one "], [str(n) for n in range(9)]])
def test_items_that_cannot_be_compared_are_refused(replies: list[str]) -> None:
    with opened("sqlite://") as store:
        labels = service(store, Clock())
        with pytest.raises(DataError, match="an item has"):
            labels.add_items(TASK, [NewItem(item(0).prompt, [Reply(text) for text in replies])])


def test_unknown_names_are_explained() -> None:
    with opened("sqlite://") as store:
        labels = service(store, Clock())
        with pytest.raises(NotFoundError, match="did you mean colours"):
            labels.next_item("colour", "ada")
        with pytest.raises(DataError, match="cannot be a name"):
            labels.next_item(TASK, "a\x00da")
        with pytest.raises(DataError, match="client_id"):
            labels.submit(given(labels, "ada").presentation, "ada", Verdict(all_bad=True), "")


def test_a_recorded_verdict_is_stored_once_and_a_changed_one_supersedes(store: Store, clock: Clock) -> None:
    labels = service(store, clock, num_items=1)
    turned = NewItem(item(0).prompt, item(0).replies[::-1])
    first, second = Verdict(ranking=[[0], [1], [2]]), Verdict(ranking=[[0, 1], [2]])
    steps = [(first, True), (first, False), (second, True), (first, True), (first, False)]
    for verdict, stored in steps:
        assert labels.record(TASK, turned, "file", verdict, shown=[2, 0, 1]) is stored
    (label,) = labels.labels(TASK)
    assert (label.ranks, label.shown) == ([3, 2, 1], (0, 2, 1))  # of the stored item, whose order is the other one
    assert labels.next_item(TASK, "ada") is None
    labels.record(TASK, item(0), "unknown order", first)
    sheet = labels.undo(TASK, "unknown order", new_id())
    assert sheet is not None
    assert places(sheet) == [0, 1, 2]
