"""The pages in a real browser: ranking by keys alone, drafts, hostile texts, accessibility; nothing from elsewhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve.live import make_models
from tutelage.labels.records import NewItem, Reply
from tutelage.labels.service import Labels
from tutelage.serve.app import build_app
from tutelage.serve.models import Limits, Models
from tutelage.serve.running import Address, server_of
from tutelage.stages import STAGES
from tutelage.store.engine import opened
from tutelage.web.app import build_pages
from tutelage.web.site import Site

playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[dev]' brings Playwright")

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{7*7}}</textarea>",
)
PAGES = ("/rank", "/compare", "/runs", "/completions", "/board", "/report", "/nothing")


@contextmanager
def serving(folder: Path, with_models: bool = False) -> Iterator[tuple[str, Labels]]:
    with ExitStack() as stack:
        store = stack.enter_context(opened(f"sqlite:///{folder / 'store.sqlite'}"))
        models = Models(make_models(folder) if with_models else [], Limits())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pages = build_pages(Site(None, store, models, STAGES))
        server = server_of(build_app(models, store, pages=pages), Address(port=port))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
        thread.start()
        stack.callback(thread.join)
        stack.callback(setattr, server, "should_exit", True)
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}", Labels(store)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if shutil.which(CHROMIUM) is None and os.geteuid() == 0:
        subprocess.run(["sh", "-c", "apt-get update -qq && apt-get install -y -qq chromium"], capture_output=True)
    if shutil.which(CHROMIUM) is None:
        pytest.skip("Debian's chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened_browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened_browser
        opened_browser.close()


@contextmanager
def window(browser: Any, root: str, name: str = "") -> Iterator[Any]:
    """A person's window: what it asks elsewhere is aborted; a dialog, an error or a violation of the policy fails."""
    context, wrong = browser.new_context(base_url=root), []
    context.route("**/*", lambda route: route.continue_() if route.request.url.startswith(root) else route.abort())
    page = context.new_page()
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)
    if name:
        page.goto("/rank")
        page.fill("[name=name]", name)
        page.keyboard.press("Enter")
        page.wait_for_selector("#desk[data-ready]")
    yield page
    context.close()
    assert wrong == []


def fill(labels: Labels, count: int = 3, replies: int = 3, wanted: int = 2) -> None:
    labels.make_task("help")
    labels.set_guideline("help", "Be kind. " + HOSTILE[0])
    labels.add_items("help", [
        NewItem([{"role": "user", "content": f"Question {n}? {HOSTILE[1]}"}],
                [Reply(f"reply {k} to {n} {HOSTILE[k % 4]}", model=f"m{k}") for k in range(replies)],
                annotators_wanted=wanted)
        for n in range(count)
    ])  # fmt: skip


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


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
            page.wait_for_selector("text=rank 1, tied")
            assert page.locator(".rank .place").all_inner_texts() == ["rank 1, tied"] * 2
            assert page.input_value("#reason") == "sux 12 " + HOSTILE[3]
            press(page, "Enter")
            page.wait_for_selector("text=Stored.")
        assert labels.labels("help")[0].verdict.ranking == [[0, 1]]


def test_models_answer_side_by_side_and_go_to_ranking(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path, with_models=True) as (root, labels):
        with window(browser, root) as page:
            page.goto("/compare")
            page.fill("#tokens", "12")
            page.click("text=for a child")
            page.click("button.main")
            page.click("#to-rank")
            page.wait_for_selector("text=It is in the task")
        item = labels.items("compare")[0]
        assert {reply.model for reply in item.replies} == {"instruct", "base"}
        assert "five-year-old" in item.prompt[0]["content"]


def test_pages_are_accessible_in_light_and_dark_and_fit_a_telephone(browser: Any, tmp_path: Path) -> None:
    axe = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
    with serving(tmp_path) as (root, labels):
        fill(labels)
        with window(browser, root, "Ann") as page:
            page.set_viewport_size({"width": 360, "height": 740})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                for path in PAGES:
                    page.goto(path)
                    assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
                    page.evaluate(axe)
                    found = page.evaluate(
                        "axe.run().then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html)]))"
                    )
                    assert found == [], (path, scheme)
