"""Texts that would run if a page let them, in every field that a page shows: none does, and none is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.labels.records import NewItem, Reply, Verdict
from tutelage.store import completions
from tutelage.store.completions import Kept
from web.live import MENU, begin, serving, window

CORPUS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>",
    "</textarea></title></script><script>alert(1)</script>",
    "javascript:alert(1)//",
    "{{ 7*7 }}${alert(1)}<%= 7 %>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<a href=\"javascript:alert(1)\" hx-get='/rank' hx-trigger=load>x</a>",
    "' autofocus onfocus=alert(1) x='",
    "<style>*{display:none}</style><base href=//evil.example>",
    "\u202egnp.exe\u2028<b>\ud83d</b>\x00\x1b[31m",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
)
HOSTILE = " ".join(CORPUS)
REASON = HOSTILE.replace("\ud83d", "")  # half a character cannot be typed
NAME = "<img src=x onerror=alert(1)>\"'{{7*7}}"  # where control characters and slashes are refused


def shown(page: Any) -> None:
    """Nothing of the corpus became an element, and the page stands."""
    assert (
        page.locator("img, iframe[srcdoc], [onerror], [onload], [onfocus], base, main script, main style").count() == 0
    )
    assert page.locator("h1").is_visible()
    assert "49" not in page.locator("main").inner_text()


def test_items_names_reasons_and_guidelines_are_text(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        labels.make_task(NAME)
        labels.set_guideline(NAME, HOSTILE)
        items = [
            NewItem(
                [{"role": HOSTILE, "content": f"{n}{HOSTILE}"}],
                [Reply(HOSTILE + str(k), model=HOSTILE + str(k), sampling={"x": HOSTILE}) for k in range(2)],
                kind=HOSTILE, meta={HOSTILE: HOSTILE}, annotators_wanted=3,
            )
            for n in range(2)
        ]  # fmt: skip
        labels.add_items(NAME, items)
        for name in (NAME, f"judge {NAME}"):
            labels.record(NAME, items[0], name, Verdict(ranking=[[0], [1]], reason=REASON), shown=[0, 1])
        with window(browser, root) as page:
            begin(page, f"Eve {NAME}")
            page.fill("#reason", REASON)
            page.keyboard.press("Escape")
            page.keyboard.press("1")
            page.wait_for_selector("text=worse")
            page.reload()
            page.wait_for_selector("text=worse")
            reason = page.input_value("#reason")
            assert "</textarea></title></script><script>alert(1)</script>" in reason
            page.wait_for_selector("aside dl")
            shown(page)
            page.keyboard.press("Enter")
            page.wait_for_selector("text=Stored.")
            for path in ("/board", "/rank"):
                page.goto(path)
                shown(page)
            page.click("text=Not you?")
            page.wait_for_selector("[name=name]")
            shown(page)
        assert labels.labels(NAME)[-1].verdict.reason == reason
        assert labels.labels(NAME)[-1].annotator == f"Eve {NAME}"


def test_addresses_and_forms_are_text(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        labels.make_task("t")
        with window(browser, root) as page:
            for number, text in enumerate(CORPUS):
                text = text.replace("\ud83d", "")
                sent = {"task": text, "run": text, "stage": text, "model": text, "pair": f"{text}=1", "after": text}
                query = page.evaluate("sent => String(new URLSearchParams(sent))", sent)
                for path in (*MENU, "/rank/agreement", "/login"):
                    if number < 3 or path == "/rank":  # every address with some, one address with all
                        page.goto(f"{path}?{query}&code={number}&to=//evil.example")
                        assert page.url.startswith(root)
                        assert page.locator("img, [onerror], [onload], base, main script").count() == 0
                page.goto("/" + page.evaluate("encodeURIComponent", text))
                shown(page)


def test_stored_completions_and_their_metadata_are_text(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as (root, labels):
        body = {"choices": [{"message": {"role": "assistant", "content": HOSTILE}}]}
        messages = [{"role": HOSTILE, "content": [{"type": "text", "text": HOSTILE}]}]
        kept = Kept(f"chatcmpl-{NAME}", HOSTILE, 1, "0", body, messages, metadata={HOSTILE[:60]: HOSTILE[:500]})
        assert completions.keep(labels.store, kept)
        with window(browser, root) as page:
            page.goto("/completions")
            assert page.locator("main").inner_text().count("alert(1)") > 20
            shown(page)


def test_runs_samples_metrics_and_reports_are_text(browser: Any, tmp_path: Path) -> None:
    run = tmp_path / NAME
    (run / "base").mkdir(parents=True)
    recipe = "name: x\ndescription: DESCRIPTION\nstages:\n  atlas: {stage: atlas}\n  base: {stage: atlas}\n"
    (run / "recipe.yaml").write_text(recipe.replace("DESCRIPTION", json.dumps(HOSTILE)), encoding="utf-8")
    (run / "run.json").write_text(json.dumps({"recipe": "x", "threads": 1, "created": HOSTILE, "tutelage": HOSTILE}))
    rows = [{"step": step, "time": 1.0, f"train/{NAME}": float(step)} for step in (1, 2, 3)]
    (run / "base" / "journal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "base" / "samples.jsonl").write_text(
        json.dumps({"step": 1, "prompt": HOSTILE, "completion": HOSTILE}) + "\n"
    )
    (run / "base" / "report.html").write_text(f"<!doctype html><title>x</title>{CORPUS[0]}{CORPUS[1]}{CORPUS[6]}")
    with serving(tmp_path, run=run) as (root, _):
        with window(browser, root) as page:
            for path in ("/runs", "/runs/stage?stage=base", "/runs/stage?stage=atlas", "/data"):
                page.goto(path)
                shown(page)
        with window(browser, root, blocks=True) as page:
            page.goto("/report")
            assert page.get_attribute("iframe.report", "sandbox") == ""
            page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("chunk", CORPUS[:4])
def test_what_models_say_is_text(browser: Any, tmp_path: Path, chunk: str) -> None:
    """The server's part is played here: a tiny model says no such thing when asked."""
    line = json.dumps({"choices": [{"delta": {"content": chunk}, "text": chunk, "finish_reason": None}]})
    stream = f"data: {line}\n\ndata: [DONE]\n\n"
    with serving(tmp_path, with_models=True) as (root, labels), window(browser, root) as page:
        page.route("**/v1/**", lambda route: route.fulfill(content_type="text/event-stream", body=stream))
        page.goto("/compare")
        page.fill("#prompt", HOSTILE)
        page.click("button.main")
        page.wait_for_selector("#stop:disabled")
        assert page.locator(".answer .said").all_inner_texts() == [chunk] * 2
        shown(page)
        page.click("#to-rank")
        page.wait_for_selector("text=there is nothing to choose from")  # both said the same
        assert labels.tasks() == []
