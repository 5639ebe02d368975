"""Who is let in where keys are on: every route asks, a code works once, and pages of other sites can do nothing."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tutelage.labels.service import Labels
from tutelage.serve.app import build_app
from tutelage.serve.browsers import CODE_SECONDS, COOKIE, Browsers
from tutelage.serve.keys import Keys, add_key, hashed
from tutelage.serve.models import Limits, Models
from tutelage.stages import STAGES
from tutelage.store.engine import opened, store_url
from tutelage.web.app import build_pages
from tutelage.web.login import local
from tutelage.web.site import Site
from web.live import fill, serving, violations, window

TOKEN = "tut-anna"
OPEN = {("GET", "/login"), ("POST", "/login")}  # and /static/, where there are only this project's own files


def every_route() -> list[tuple[str, str]]:
    """(method, path) of all routes of the API and of the pages, parameters filled in."""
    models = Models([], Limits())
    pages = build_pages(Site(None, None, models, STAGES))
    found: list[tuple[str, str]] = []

    def walk(app: Any) -> None:
        if isinstance(app, FastAPI):
            for path, operations in app.openapi()["paths"].items():
                found.extend((method.upper(), re.sub(r"\{[^}]*\}", "x", path)) for method in operations)
        else:
            for part in vars(app).values():
                if hasattr(part, "__dict__") and callable(part):
                    walk(part)

    walk(build_app(models, None, pages=pages))
    return sorted(found)


ROUTES = every_route()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Keys]]:
    keys = Keys([hashed(TOKEN)])
    with serving(tmp_path_factory.mktemp("guarded"), keys=keys) as (root, labels):
        fill(labels)
        yield root, keys


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("free")) as (root, _):
        yield root


def test_the_routes_were_found() -> None:
    assert {("POST", "/v1/chat/completions"), ("GET", "/rank"), ("POST", "/rank/decide"), ("GET", "/")} <= set(ROUTES)


def test_every_route_refuses_who_has_no_key(guarded: tuple[str, Keys]) -> None:
    with httpx2.Client(base_url=guarded[0]) as client:
        for method, path in ROUTES:
            if (method, path) in OPEN or path.startswith("/static/"):
                continue
            for headers in ({}, {"Authorization": "Bearer tut-else"}, {"Cookie": f"{COOKIE}=else"}):
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path, headers)
            as_browser = client.request(method, path, headers={"Accept": "text/html"})
            led = 303 if method == "GET" else 401
            assert as_browser.status_code == led, (method, path)
            assert led == 401 or as_browser.headers["location"].startswith("/login?to=%2F")


def test_a_page_of_another_site_can_post_nothing(free: str) -> None:
    posts = [path for method, path in ROUTES if method == "POST"]
    assert len(posts) > 8
    with httpx2.Client(base_url=free) as client:
        for path in posts:
            for headers in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
                {"Host": "evil.example"},
            ):
                answer = client.post(path, content="name=Eve&task=", headers=headers)
                assert answer.status_code == 403, (path, headers)


def test_a_link_from_elsewhere_may_be_followed_and_nothing_may_be_framed_or_read(free: str) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = httpx2.get(f"{free}/rank", headers=followed)
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    for changed in ({"Sec-Fetch-Dest": "iframe"}, {"Sec-Fetch-Mode": "no-cors"}):
        assert httpx2.get(f"{free}/rank", headers=followed | changed).status_code == 403


def test_a_code_lets_one_browser_in_once(browser: Any, guarded: tuple[str, Keys]) -> None:
    root, keys = guarded
    code = keys.browsers.invite(keys.first)
    with window(browser, root) as page:
        page.goto("/board")
        assert page.url == f"{root}/login?to=%2Fboard"
        page.goto(f"/login?code={code}&to=%2Fboard")
        assert violations(page) == []
        page.goto(f"/login?code={code}&to=%2Fboard")  # looking at it does not use it
        page.wait_for_selector("[name=code]:focus")  # a browser gives autofocus after a page has loaded
        page.keyboard.press("Enter")
        page.wait_for_url(f"{root}/board")
        (cookie,) = page.context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (COOKIE, True, "Lax")
        assert page.evaluate("document.cookie") == ""
        assert page.evaluate("fetch('/v1/models').then(answer => answer.status)") == 200
        page.click("text=Log out")
        page.wait_for_url(f"{root}/login")
        again = page.request.get("/board", headers={"Cookie": f"{COOKIE}={cookie['value']}", "Accept": "*/*"})
        assert again.status == 401
        page.fill("[name=code]", code)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=no code that still works")


def test_a_key_lets_in_and_makes_codes_for_other_browsers(guarded: tuple[str, Keys]) -> None:
    root, _ = guarded
    made = httpx2.post(f"{root}/login/code", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    code = made["url"].partition("code=")[2]
    for secret in (code, TOKEN):
        answer = httpx2.post(f"{root}/login", data={"code": secret, "to": "//evil.example/"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert httpx2.post(f"{root}/login", data={"code": code}).status_code == 403


def test_the_command_prints_a_code_and_the_pages_of_tasks_that_wait(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"recipe": "x", "threads": 1, "created": "", "tutelage": ""}')
    with opened(store_url(run)) as store:
        fill(Labels(store))
    add_key(tmp_path / "keys", "anna")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = "from tutelage.cli import main; import sys; sys.argv[0] = 'tutelage'; main()"
    arguments = ["serve", "--ui", str(run), "--keys", str(tmp_path / "keys"), "--port", port]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = list(itertools.takewhile(lambda line: "Ctrl-C" not in line, process.stdout))
        assert f"people are asked: http://127.0.0.1:{port}/rank?task=help\n" in said
        address, _, given = next(line for line in said if "code=" in line).split()[-1].partition("?code=")
        assert address == f"http://127.0.0.1:{port}/login"
        with httpx2.Client() as client:
            while process.poll() is None:
                with contextlib.suppress(httpx2.ConnectError):
                    assert client.post(address, data={"code": given}).status_code == 303
                    break
            assert client.get(f"http://127.0.0.1:{port}/board").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


@pytest.mark.parametrize("target", ["//evil", "https://evil", "/\\evil", "evil", "", "/\tx", "http:/x", "//["])
def test_a_login_leads_nowhere_else(target: str) -> None:
    assert local(target) == "/"
    assert local("/rank?task=a%2Fb") == "/rank?task=a%2Fb"


def test_codes_and_sessions_end() -> None:
    now = [0.0]
    browsers = Browsers(lambda: now[0])
    code, cookie = browsers.invite("a"), browsers.admit("a")
    now[0] = CODE_SECONDS + 1
    assert browsers.redeem(code) is None
    assert browsers.owner(cookie) == "a"
    now[0] = 1e9
    assert browsers.owner(cookie) is None
