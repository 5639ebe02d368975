"""The pages in a real browser: ranking by keys alone, drafts, hostile texts, accessibility; nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.labels.records import Verdict
from web.live import HOSTILE, MENU, fill, press, serving, violations, window

PAGES = (*MENU, "/nothing")


def test_two_people_rank_by_keys_alone_and_agreement_follows(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        fill(labels)
        with window(browser, root, "Ann <b>") as ann, window(browser, root, "Bob") as bob:
            assert ann.locator("li.reply .said").all_inner_texts() is not None
            assert "m0" not in ann.content()  # blind
            for page in (ann, bob):
                by_text = page.locator("li.reply .said").all_inner_texts()
                order = sorted(range(3), key=lambda place: by_text[place])
                press(page, *(str(place + 1) for place in order[:2]), "Enter", "Enter")
                page.wait_for_selector("text=Stored.")
            assert labels.progress("help").labels == 2  # a double Enter stores one
            bob.wait_for_selector("aside >> text=κ 1.00")
            press(bob, "u")
            bob.wait_for_selector("text=The last one again.")
            assert "rank 1" in bob.locator("li.reply").nth(order[0]).inner_text()
            press(bob, "x", "ArrowDown", "d", "Enter")
            bob.wait_for_selector("text=Stored.")
            press(bob, "s")
            bob.wait_for_selector("text=Skipped.")
        verdict = next(label.verdict for label in labels.labels("help") if label.annotator == "Bob")
        assert verdict.all_bad
        assert list(verdict.flags.values()) == [["unsafe"]]


def test_a_draft_survives_a_reload_and_keys_do_nothing_while_typing(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        fill(labels, replies=2)
        with window(browser, root, "Ann") as page:
            press(page, "1", "t", "r")
            page.keyboard.type("sux 12 " + HOSTILE[3])
            page.reload()
            page.wait_for_selector("text=equal")
            assert page.locator(".rank .place").all_inner_texts() == ["equal"] * 2
            assert page.input_value("#reason") == "sux 12 " + HOSTILE[3]
            press(page, "Enter")
            page.wait_for_selector("text=Stored.")
        assert labels.labels("help")[0].verdict.ranking == [[0, 1]]


# In the page itself: a tiny model may be done before a browser is told from outside to press anything
STOP_AT_THE_FIRST_WORDS = """() => new MutationObserver((_, own) => {
  const begun = [...document.querySelectorAll(".answer .said")].some(said => said.textContent);
  if (!begun || !document.getElementById("to-rank").disabled) return;
  own.disconnect();
  document.getElementById("stop").click();
}).observe(document.getElementById("replies"), { childList: true, subtree: true, characterData: true })"""


def test_models_answer_side_by_side_and_go_to_ranking(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path, with_models=True) as (root, labels):
        with window(browser, root) as page:
            page.goto("/compare")
            page.fill("#tokens", "700")
            page.evaluate(STOP_AT_THE_FIRST_WORDS)
            page.press("#prompt", "Control+Enter")
            page.wait_for_selector(".answer .soft >> text=/^stopped$/")  # it streams: there is text before the end
            page.fill("#tokens", "12")
            page.click("text=for a child")
            page.click("button.main")
            page.click("#to-rank")
            page.wait_for_selector("text=It is in the task")
        item = labels.items("compare")[0]
        assert {reply.model for reply in item.replies} == {"instruct", "base"}
        assert all(reply.sampling["max_tokens"] == 12 for reply in item.replies)
        assert "five-year-old" in item.prompt[0]["content"]


def test_pages_are_accessible_in_light_and_dark_and_fit_a_telephone(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path, with_models=True) as (root, labels):
        fill(labels)
        for name, order in (("Bo", [[0], [1], [2]]), ("Di", [[1], [0, 2]])):
            labels.record("help", labels.items("help")[0], name, Verdict(ranking=order), shown=[2, 1, 0])
        with window(browser, root, "Ann") as page:
            page.set_viewport_size({"width": 360, "height": 740})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                for path in PAGES:
                    page.goto(path)
                    assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
                    assert violations(page) == [], (path, scheme)
                page.goto("/rank")
                press(page, "1", "?")
                assert violations(page) == [], ("help", scheme)
                page.goto("/compare")
                page.fill("#tokens", "4")
                page.click("button.main")
                page.wait_for_selector("#stop:disabled")
                assert violations(page) == [], ("compared", scheme)
            page.context.clear_cookies()
            page.goto("/rank")
            assert violations(page) == []
