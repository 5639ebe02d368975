"""The pages in a real browser: a server over a store, and windows of people in which nothing may go wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from debian import NotAvailableError, install
from serve.live import listening, make_models
from tutelage.labels.records import NewItem, Reply
from tutelage.labels.service import Labels
from tutelage.serve.app import build_app
from tutelage.serve.keys import Keys
from tutelage.serve.models import Limits, Models
from tutelage.stages import STAGES
from tutelage.store.engine import opened
from tutelage.web.app import build_pages
from tutelage.web.site import NAVIGATION, Site

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
CHROMIUM = "/usr/bin/chromium"
MENU = tuple(path for _, path in NAVIGATION)
COLOURS = "{runOnly: ['color-contrast']}"  # what another colour scheme can change
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{7*7}}</textarea>",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium, installed if it is missing; NotAvailableError where it cannot be."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NotAvailableError("Playwright is missing: pip install -e '.[dev]' brings it") from error
    if shutil.which(CHROMIUM) is None:
        install("chromium")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def serving(
    folder: Path, with_models: bool = False, run: Path | None = None, keys: Keys | None = None
) -> Iterator[tuple[str, Labels]]:
    """The pages and the API over one store: where they are, and the labels they show."""
    with ExitStack() as stack:
        store = stack.enter_context(opened(f"sqlite:///{folder / 'store.sqlite'}"))
        models = Models(make_models(folder) if with_models else [], Limits())
        stack.callback(models.stop)
        pages = build_pages(Site(run, store, models, STAGES, keys or Keys()))
        port, _ = stack.enter_context(listening(build_app(models, store, keys, pages=pages)))
        yield f"http://127.0.0.1:{port}", Labels(store)


@contextmanager
def window(browser: Any, root: str, name: str = "", blocks: bool = False) -> Iterator[Any]:
    """A person's window: what it asks elsewhere is aborted; a dialog, an error or a violation of the policy fails.

    With `blocks` the policy is to have something to block, as in a frame of a hostile file.
    """
    context, wrong = browser.new_context(base_url=root), []
    context.route("**/*", lambda route: route.continue_() if route.request.url.startswith(root) else route.abort())
    page = context.new_page()
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    blocked: list[str] = []
    page.on("console", lambda said: blocked.append(said.text) if "Content Security" in said.text else None)
    try:
        if name:
            begin(page, name)
        yield page
    finally:
        context.close()
    assert wrong == []
    assert bool(blocked) == blocks, blocked


def begin(page: Any, name: str) -> None:
    """Say who ranks, by keys alone."""
    page.goto("/rank")
    page.fill("[name=name]", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#desk[data-ready]")


def fill(labels: Labels, count: int = 3, replies: int = 3, wanted: int = 2, **settings: Any) -> None:
    """A task with a guideline and items whose texts would run if a page let them."""
    labels.make_task("help", **settings)
    labels.set_guideline("help", "Be kind. " + HOSTILE[0])
    labels.add_items("help", [
        NewItem([{"role": "user", "content": f"Question {n}? {HOSTILE[1]}"}],
                [Reply(f"reply {k} to {n} {HOSTILE[k % 4]}", model=f"m{k}") for k in range(replies)],
                annotators_wanted=wanted)
        for n in range(count)
    ])  # fmt: skip


def violations(page: Any, rules: str = "{}") -> list[Any]:
    """What axe says is not accessible: [rule, elements] of each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[Any] = page.evaluate(
        f"axe.run({rules}).then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html)]))"
    )
    return found


def press(page: Any, *keys: str) -> None:
    """One key after another."""
    for key in keys:
        page.keyboard.press(key)
