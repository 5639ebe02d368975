"""Runs, Data, Completions and Report in a real browser, over a small real run with hostile texts in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tutelage.data.completions import completion_of
from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.run.journal import read_journal
from tutelage.run.lineage import published
from tutelage.sources.store import read_jsonl
from tutelage.store.completions import Kept, keep
from tutelage.store.engine import opened
from web.live import COLOURS, HOSTILE, serving, violations, window
from web.lived_run import LATER

PAGES = (
    "/runs",
    "/runs/stage?stage=base",
    "/runs/stage?stage=own",
    "/runs/stage?stage=report",
    f"/runs/stage?stage={LATER}",
    "/data",
    "/data/curation?stage=own",
    "/data/curation?stage=own&limit.spam_score=50&limit.digits=0.004",
    "/data/documents?stage=own&rule=spam_score",
    "/data/documents?stage=own&rule=duplicate",
    "/data/documents?stage=own&rule=replaced",
    "/data/documents?stage=own&change=now-removed&limit.digits=0.004",
    "/data/rows?stage=instruct&source=conversations&row=3",
    "/data/rows?stage=instruct&source=replay",
    "/data/rows?stage=base",
    "/data/rows?stage=pairs&row=2",
    "/data/rows?stage=said&row=3",
    "/completions",
    "/completions/one?id=chatcmpl-00",
    "/report",
    "/report?stage=report",
)
NOWHERE = (
    "/runs?run=..",
    "/runs?run=../lived",
    "/runs/stage?stage=../own",
    "/runs/stage?stage=own.partial",
    "/runs/curves?stage=nothing",
    "/data/curation?stage=base",
    "/data/documents?stage=own&page=99",
    "/data/rows?stage=report",
    "/data/rows?stage=instruct&source=../chats",
    "/completions/one?id=nothing",
    "/report?stage=own",
    "/report/page?stage=../report",
)
WRONG = (
    "/data/curation?stage=own&limit.spam_score=nan",
    "/data/curation?stage=own&limit.spam_score=%3Cscript%3E",
    "/data/curation?stage=own&limit.nothing=1",
    "/data/rows?stage=instruct&row=0",
    "/data/rows?stage=instruct&row=100000",
    "/completions?since=yesterday",
    "/completions?pair=nothing",
)


def store_some(folder: Path, count: int = 45) -> None:
    """Completions of two models, with hostile texts and labels."""
    with opened(f"sqlite:///{folder / 'store.sqlite'}") as store:
        for number in range(count):
            text, name = HOSTILE[number % 4], f"chatcmpl-{number:02d}"
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"{number} {text}"},
            }
            body = {"id": name, "choices": [choice], "usage": {"total_tokens": number}}
            asked = [{"role": "system", "content": text}, {"role": "user", "content": f"Question {number} {text}"}]
            labels = {"topic": text, "half": str(number % 2)}
            keep(
                store,
                Kept(name, f"m{number % 2}", 1_700_000_000 + number, f"{number}", body, asked, {"seed": 1}, labels),
            )


@pytest.fixture(scope="module")
def place(lived: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the pages of the run are."""
    folder = tmp_path_factory.mktemp("site")
    store_some(folder)
    with serving(folder, run=lived) as (root, _):
        yield root


def test_every_page_is_accessible_fits_a_telephone_and_runs_no_text(browser: Any, place: str) -> None:
    with window(browser, place) as page:
        page.set_viewport_size({"width": 360, "height": 740})
        for scheme, rules in (("light", "{}"), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme)
            for path in PAGES:
                answer = page.goto(path)
                assert answer.status == 200, path
                assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
                assert violations(page, rules) == [], (path, scheme)


def test_what_is_not_there_and_what_makes_no_sense_is_told(browser: Any, place: str) -> None:
    with window(browser, place) as page:
        for path in (*NOWHERE, *WRONG):
            answer = page.goto(path)
            assert answer.status == (404 if path in NOWHERE else 400), path
            assert page.locator("h1").count() == 1, path
            assert "Traceback" not in page.content(), path


def test_the_lifecycle_leads_through_the_lineage_by_keys(browser: Any, place: str, lived: Path) -> None:
    made = published(lived)
    with window(browser, place) as page:
        page.goto("/runs")
        nodes = page.locator(".picture.wide a.node")
        assert nodes.count() == len(made) + 1
        assert "done" in page.locator(".picture.wide a[href*='stage=base']").text_content()
        assert "not run" in page.locator(f".picture.wide a[href*='stage={LATER}']").text_content()
        assert [said.strip() for said in page.locator("table .state").all_inner_texts()].count("done") == len(made)
        page.locator(".picture.wide a[href*='stage=instruct']").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs/stage?*stage=instruct*")
        assert page.locator(".self code").get_attribute("title") == made["instruct"].fingerprint
        for stage in ("base", "tokens", "own", "raw"):  # upwards, by its inputs
            page.click(f"section[aria-labelledby=from] a[href*='stage={stage}']")
            page.wait_for_url(f"**stage={stage}")
            assert page.locator(".self code").get_attribute("title") == made[stage].fingerprint
        page.click("section[aria-labelledby=by] a[href*='stage=own']")  # and down again
        page.wait_for_url("**stage=own")
        page.click("text=Curation decisions")
        page.wait_for_url("**/data/curation*")


def test_a_reply_that_a_model_drew_is_shown_after_its_prompt(browser: Any, place: str, lived: Path) -> None:
    tokenizer = TextTokenizer.load(lived / "base")
    with window(browser, place) as page:
        for number, row in enumerate(read_jsonl(lived / "said" / "completions.jsonl"), start=1):
            page.goto(f"/data/rows?stage=said&row={number}")
            own = completion_of(tokenizer, row["prompt"], row["completion"], row["finish_reason"] == "stop")
            tokens = page.locator(".tokens .tok")
            assert [int(title) for title in tokens.evaluate_all("all => all.map(one => one.title)")] == own.ids
            assert "Replies from said" in page.locator("main").inner_text()


def test_a_stage_shows_its_curves_claims_settings_and_resources(browser: Any, place: str, lived: Path) -> None:
    with window(browser, place) as page:
        page.goto("/runs/stage?stage=base")
        page.wait_for_selector("#curves[data-ready] canvas")
        rows = read_journal(lived / "base" / "journal.jsonl")
        titles = page.locator("#curves figcaption strong").all_inner_texts()
        metrics = {name for row in rows for name in row} - {"step", "time"}
        assert set(titles) == {name.removeprefix("train/").removeprefix("validation/") for name in metrics}
        assert f"{rows[-1]['train/loss']:.3f}"[:4] in page.locator("figcaption", has_text="train").inner_text()
        text = page.locator("main").inner_text()
        assert "Claims of report" in text
        assert "num_steps\n4" in text
        assert "Most memory" in text
        page.goto("/runs/stage?stage=report")
        verdicts = json.loads((lived / "report" / "report.json").read_text())["claims"]
        assert verdicts
        assert page.locator(".claims > li").count() == len(verdicts)


def test_a_page_that_waits_gets_only_what_is_new(browser: Any, place: str) -> None:
    with window(browser, place) as page:
        page.goto("/runs")
        asked = "async path => (await fetch(path)).json()"
        first = page.evaluate(asked, "/runs/curves?stage=base")
        assert first["fresh"]
        assert not first["running"]
        again = page.evaluate(asked, f"/runs/curves?stage=base&cursor={quote(first['cursor'])}")
        assert again["curves"] == []
        assert not again["fresh"]


def test_what_if_by_typing_leads_to_the_documents_that_change_sides(browser: Any, place: str) -> None:
    with window(browser, place) as page:
        page.goto("/data/curation?stage=own")
        before = page.locator(".answer-bar .big").inner_text()
        page.fill("[name='limit.spam_score']", "50")
        page.keyboard.press("Tab")
        page.wait_for_selector("text=was 1")
        assert "limit.spam_score=50" in page.url
        page.locator("summary", has_text="rules that no document fails").click()
        page.fill("[name='limit.digits']", "0.004")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=would be removed")
        assert page.locator(".answer-bar .big").inner_text() != before
        page.click("text=would be removed")
        page.wait_for_selector("article.document")
        assert "digits" in page.locator(".reason").first.inner_text()
        page.go_back()
        page.click("text=Back to the stage's thresholds")
        page.wait_for_url("**/data/curation?run=lived&stage=own")
        assert page.locator(".answer-bar .big").inner_text() == before


def test_documents_say_why_and_where(browser: Any, place: str) -> None:
    with window(browser, place) as page:
        page.goto("/data/documents?stage=own&rule=spam_score")
        assert page.locator("article.document").count() == 10
        assert "spam_score is" in page.locator(".reason").first.inner_text()
        assert "http://best.example/win" in page.locator("mark").all_inner_texts()
        page.click("a[rel=next]")
        page.wait_for_url("**page=2")
        page.goto("/data/documents?stage=own&rule=replaced")
        assert page.locator("mark").first.inner_text() == "ana@mail.example.org"
        assert page.locator("mark").first.get_attribute("title") == "email → <EMAIL>"
        page.goto("/data/documents?stage=own&rule=duplicate")
        assert page.locator("text=kept in its place").count() == page.locator("article.document").count()


def test_masks_are_those_of_training(browser: Any, place: str, lived: Path) -> None:
    tokenizer = TextTokenizer.load(lived / "base")
    row = list(read_jsonl(lived / "chats" / "conversations.jsonl"))[2]
    rendered = render(tokenizer, row["messages"])
    with window(browser, place) as page:
        page.goto("/data/rows?stage=instruct&source=conversations&row=3")
        tokens = page.locator(".tokens .tok")
        assert [int(title) for title in tokens.evaluate_all("all => all.map(one => one.title)")] == rendered.ids
        learnt = tokens.evaluate_all("all => all.map(one => one.classList.contains('trained'))")
        assert learnt == rendered.loss_mask
        shown = "".join(page.locator(".tokens .tok").all_text_contents()).replace("↵\n", "\n")
        assert shown == tokenizer.decode(rendered.ids, skip_special_tokens=False)
        page.goto("/data/rows?stage=base")  # packed: of every document all but the first token
        strips = page.locator(".strip")
        assert page.locator(".tokens .tok:not(.trained)").count() == strips.count()
        page.goto("/data/rows?stage=pairs")
        assert page.locator(".strip h2").all_inner_texts()[0].startswith("chosen")
        assert page.locator(".strip").count() == 2


def test_completions_are_filtered_looked_at_exported_and_deleted(browser: Any, place: str) -> None:
    with window(browser, place) as page:
        page.goto("/completions")
        assert page.locator("article.kept").count() == 20
        page.click("a[rel=next]")
        page.click("a[rel=next]")
        assert page.locator("article.kept").count() == 5
        page.goto("/completions")
        page.select_option("[name=model]", "m1")
        page.fill("[name=pair]", f"topic={HOSTILE[1]}")
        page.fill("[name=since]", "2023-11-14T22:13:25")
        page.click("text=Filter")
        page.wait_for_url("**model=m1*")
        replies = page.locator("p.reply .said").all_inner_texts()
        assert replies == [f"{number} {HOSTILE[1]}" for number in range(41, 4, -4)]
        command = page.locator("pre").inner_text()
        assert "--model m1" in command
        assert "--since 2023-11-14T22:13:25" in command
        with page.expect_download() as download:
            page.click("text=Export as JSON lines")
        lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["choices"][0]["message"]["content"] for line in lines] == replies[::-1]
        page.locator("article.kept header a").first.click()
        page.wait_for_url("**/completions/one*")
        assert replies[0] in page.locator("p.reply").inner_text()
        page.click("summary:text-is('Delete')")
        page.click("text=Delete for good")
        page.wait_for_url("**/completions")
        assert page.goto("/completions/one?id=chatcmpl-41").status == 404


def test_a_report_is_framed_and_can_run_nothing(browser: Any, place: str) -> None:
    with window(browser, place) as page:
        page.goto("/report")
        frame = page.frame_locator("iframe.report")
        assert frame.locator("h1").inner_text() == "lived"
        answer = page.goto("/report/page?stage=report")
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


@contextmanager
def training(folder: Path, recipe: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tutelage run` in a process of its own, killed at the end."""
    code = "import sys; from tutelage.cli import main; sys.argv = ['tutelage', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", code, "run", str(recipe), "--run-dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stop_beyond_a_checkpoint(process: subprocess.Popen[bytes], partial: Path) -> int:
    """Hold the process at a moment at which the journal is ahead of the last checkpoint; how far the journal is."""
    while True:
        os.kill(process.pid, signal.SIGSTOP)
        saved = [int(path.name.split("-")[1]) for path in partial.glob("scratch/checkpoint-*")]
        journal = partial / "journal.jsonl"
        reached = read_journal(journal)[-1]["step"] if journal.exists() and journal.stat().st_size else 0
        if saved and reached > max(saved):
            return int(reached)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.02)


def test_a_run_is_followed_live_and_resumed_as_a_branch(browser: Any, lived: Path, tmp_path: Path) -> None:
    shutil.copytree(lived, tmp_path / "lived")
    recipe = tmp_path / "lived.yaml"
    text = (lived / "recipe.yaml").read_text(encoding="utf-8")
    recipe.write_text(
        text.replace("num_steps: 4", "num_steps: 100000").replace("checkpoint_seconds: 0.0", "checkpoint_seconds: 0.3")
    )
    folder = tmp_path / "lived"
    with serving(tmp_path, run=folder) as (root, _), window(browser, root) as page:
        with training(folder, recipe) as process:
            while not (folder / "base.partial" / "journal.jsonl").exists():
                assert process.poll() is None
                time.sleep(0.05)
            page.goto("/runs/stage?stage=base")
            page.wait_for_selector(".state.running")
            page.wait_for_selector("#curves[data-ready='3']")  # asked for anew twice
            page.goto("/runs")
            assert "runs now" in page.locator("#live").inner_text()
            reached = stop_beyond_a_checkpoint(process, folder / "base.partial")
        page.goto("/runs/stage?stage=base")
        assert f"stopped after step {reached}" in page.locator(".stated").inner_text()
        with training(folder, recipe) as process:
            branches = folder / "base.partial" / "journal.branches.jsonl"
            while not branches.exists():
                assert process.poll() is None
                time.sleep(0.05)
            page.goto("/runs/stage?stage=base")
            page.wait_for_selector("figcaption >> text=left behind")
