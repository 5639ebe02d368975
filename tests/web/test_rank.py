"""Ranking in a real browser: two to eight replies, ties, flags, reasons, skips, second looks, drafts, the board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.labels.records import NewItem, Reply
from tutelage.labels.service import Labels
from web.live import begin, fill, press, serving, window


def by_text(page: Any) -> list[int]:
    """Places on the sheet in the order of their replies' texts, which is the order in which these were stored."""
    texts = page.locator("li.reply .said").all_inner_texts()
    return sorted(range(len(texts)), key=lambda place: texts[place])


def submit_in_order(page: Any) -> None:
    """Rank by keys as the replies are stored, and wait for the next sheet."""
    was = page.get_attribute("#sheet", "data-presentation")
    press(page, *(str(place + 1) for place in by_text(page)[:-1]), "Enter")
    page.wait_for_function("was => document.querySelector('#sheet')?.dataset.presentation !== was", arg=was)


def test_eight_replies_are_ranked_with_ties_and_several_people_see_other_orders(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        fill(labels, count=1, replies=8, wanted=3)
        orders = []
        for name in ("Ann", "Bob", "Cy"):
            with window(browser, root, name) as page:
                assert "m7" not in page.content()  # blind
                own = by_text(page)
                orders.append(own)
                best, second, third, *others = (str(place + 1) for place in own)
                press(page, best, second, "t", third, *others[:-1])  # the last one is last without being named
                page.wait_for_selector("text=rank 2, tied")
                press(page, "Enter")
                page.wait_for_selector("text=Nothing is left for you")
        assert len({tuple(order) for order in orders}) > 1
        found = labels.labels("help")
        assert [label.annotator for label in found] == ["Ann", "Bob", "Cy"]
        assert {tuple(map(tuple, label.verdict.ranking)) for label in found} == {
            ((0,), (1, 2), (3,), (4,), (5,), (6,), (7,))
        }


def test_of_two_one_is_better_for_a_reason_and_the_guideline_is_there(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        fill(labels, count=2, replies=2, wanted=1)
        with window(browser, root, "Ann") as page:
            assert page.locator("details.guideline[open]").inner_text().endswith("Be kind. <script>alert(1)</script>")
            assert page.locator(".rank .place").all_inner_texts() == ["choose as better"] * 2
            first = by_text(page)[0]
            press(page, str(first + 1), "r")
            page.keyboard.type("It is kind? 1 t x s u")
            press(page, "Escape", "Enter")
            page.wait_for_selector("text=Stored.")
            press(page, "Enter")
            page.wait_for_selector("text=the verdict says nothing")
        (label,) = labels.labels("help")
        assert (label.verdict.ranking, label.verdict.reason) == ([[0], [1]], "It is kind? 1 t x s u")


def test_flags_help_and_all_bad_by_keys(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        fill(labels, count=1, replies=3, wanted=1)
        with window(browser, root, "Ann") as page:
            press(page, "?")
            assert page.locator("#help").is_visible()
            press(page, "x", "1", "Escape")  # no key works behind the help
            assert page.locator("[aria-pressed=true]").count() == 0
            press(page, "ArrowDown", "g", "b", "i", "ArrowDown", "d")  # good goes when bad comes
            press(page, "ArrowUp", "x", "Enter")
            page.wait_for_selector("text=Stored.")
        (label,) = labels.labels("help")
        assert label.verdict.all_bad
        assert sorted(map(tuple, label.verdict.flags.values())) == [("bad", "inaccurate"), ("unsafe",)]


def test_a_draft_and_a_decision_of_two_windows_do_not_fight(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        fill(labels, count=2, replies=2, wanted=1)
        with window(browser, root, "Ann") as page, window(browser, root, "Ann") as other:
            assert page.get_attribute("#sheet", "data-presentation") == other.get_attribute(
                "#sheet", "data-presentation"
            )
            submit_in_order(page)
            press(other, "1", "Enter")
            other.wait_for_selector("text=submitted already")
            assert page.get_attribute("#sheet", "data-presentation") == other.get_attribute(
                "#sheet", "data-presentation"
            )
        assert labels.progress("help").labels == 1


def test_items_come_back_and_the_page_and_the_board_say_how_constant_people_are(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        fill(labels, count=8, replies=2, wanted=1, repeat_share=0.2)
        with window(browser, root, "Ann") as page:
            for _ in range(8):
                submit_in_order(page)
            page.wait_for_selector("aside >> text=100 % the same")
            assert labels.progress("help").repeats == 1
            page.goto("/board")
            for words in ("Ann, seen again", "Order on the screen", "of 7 judgements, 95 % interval", "m0"):
                assert page.locator(f"text={words}").count(), words


def test_the_board_warns_where_no_comparison_connects(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        put(labels, "pairs", [("base", "instruct"), ("dpo", "ppo")])
        with window(browser, root, "Ann") as page:
            for _ in range(2):
                submit_in_order(page)
            page.goto("/board")
            warning = page.locator("p.warn").inner_text()
            assert "base, instruct; dpo, ppo" in warning
            marks = page.locator("svg.interval").all()
            assert len(marks) == 4
            assert all(" to " in (mark.get_attribute("aria-label") or "") for mark in marks)


def test_work_goes_on_after_the_server_was_away(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        fill(labels, count=1, replies=3, wanted=1)
        with window(browser, root) as page:
            begin(page, "Ann")
            page.context.set_offline(True)
            press(page, "1", "2", "Enter")
            page.wait_for_selector("text=The server cannot be reached")
            page.context.set_offline(False)
            press(page, "Enter")
            page.wait_for_selector("text=Nothing is left for you")
        assert labels.progress("help").labels == 1


def put(labels: Labels, task: str, pairs: list[tuple[str, str]]) -> None:
    labels.make_task(task)
    labels.add_items(task, [
        NewItem([{"role": "user", "content": f"Question {n}?"}], [Reply(f"{name} of {n}", name) for name in pair])
        for n, pair in enumerate(pairs)
    ])  # fmt: skip
