"""`tutelage serve`: models of a run over the OpenAI protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from tutelage.commands.common import examples, stages

if TYPE_CHECKING:
    from tutelage.serve.keys import Keys
    from tutelage.serve.models import Limits, Served
    from tutelage.serve.running import Address
    from tutelage.store.engine import Store

EXAMPLES = examples(
    "tutelage serve quickstart                          all models of a run, on this machine only",
    "tutelage serve --ui quickstart                     its pages alone, without models",
    "tutelage serve quickstart/base quickstart/ppo      these two",
    "tutelage serve --keys keys.txt --new-key anna      make a key; it is shown once",
    "tutelage serve quickstart --host 0.0.0.0 --keys keys.txt --allow-host lm.example.org",
)


def command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Runs, models' folders, or RUN/STAGE.", metavar="RUN|MODEL…")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen; 0.0.0.0 needs --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Its port.")] = 8000,
    slots: Annotated[int, typer.Option("--slots", min=1, max=1024, help="Replies of a model drawn at once.")] = 32,
    queue: Annotated[int, typer.Option("--queue", min=0, help="Requests that may wait for a model; then 429.")] = 256,
    context: Annotated[
        int | None, typer.Option("--context", min=2, help="Longest prompt and reply together; else the model's.")
    ] = None,
    max_body: Annotated[int, typer.Option("--max-body", min=1024, help="Largest request in bytes.")] = 8 << 20,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Database of stored completions, a URL; else the run's; `none`: store nothing."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="File of keys (also: TUTELAGE_API_KEYS); browsers get a code.")
    ] = None,
    new_key: Annotated[str | None, typer.Option("--new-key", help="Add a key of this name to --keys, and end.")] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name under which clients reach this server.")
    ] = None,
    ui: Annotated[bool, typer.Option("--ui", help="Only the pages of a run: no model is loaded.")] = False,
    grace: Annotated[
        float, typer.Option("--grace", min=0, help="Seconds for what is under way when the server is told to end.")
    ] = 30.0,
    log: Annotated[bool, typer.Option("--log", help="A line for every request.")] = False,
) -> None:
    """Serve models over HTTP as OpenAI does, and the web app: rank, compare, runs, completions, board, report."""
    from tutelage.errors import DataError, ResourceError
    from tutelage.serve.keys import add_key, read_keys
    from tutelage.serve.running import Address

    if new_key is not None:
        if keys is None:
            raise ResourceError("--new-key needs --keys FILE, where its hash is put", hint="add --keys keys.txt")
        print(add_key(keys, new_key))
        return
    if not names:
        raise DataError("nothing to serve", hint="name a run or models: tutelage serve quickstart")
    known, address = read_keys(keys), Address(host, port)
    address.check(known)

    from tutelage.serve.models import Limits, run_of

    folder, limits = run_of(names), Limits(slots, queue, context, max_body)
    if ui and folder is None:
        raise DataError("--ui needs one run", hint="tutelage serve --ui quickstart")
    _serve([] if ui else names, folder, limits, store, known, address, tuple(allow_host or ()), log, grace)


def _serve(
    names: list[str], folder: Path | None, limits: Limits, store: str | None, known: Keys, address: Address,
    hosts: tuple[str, ...], log: bool, grace: float,
) -> None:  # fmt: skip
    from tutelage.serve.app import build_app
    from tutelage.serve.models import Models, find_models, store_of
    from tutelage.serve.running import run, server_of
    from tutelage.store.engine import open_store, store_url
    from tutelage.web.app import build_pages
    from tutelage.web.site import Site

    places = find_models(names) if names else []
    url = store or (store_url(folder) if folder is not None else store_of(places))
    opened = None if url == "none" else open_store(url)
    models = Models(places, limits, loaded=False)
    pages = build_pages(Site(folder, opened, models, stages(), known))
    app = build_app(models, opened, known, hosts, address.is_public, pages)
    server = server_of(app, address, "info" if log else "warning", models.stop, grace)
    _tell(address, opened, known)
    try:
        run(server, models, address, _tell_of)
    finally:
        if opened is not None:
            opened.close()


def _waiting(opened: Store | None) -> list[str]:
    """The pages of tasks that want more labels, the newest last."""
    from tutelage.labels.service import Labels
    from tutelage.labels.tasks import page_of

    labels = Labels(opened) if opened is not None else None
    return [page_of(task) for task in labels.tasks() if not labels.progress(task).done] if labels else []


def _tell(address: Address, opened: Store | None, keys: Keys) -> None:
    root = address.url.removesuffix("/v1")
    store = "none" if opened is None else opened.engine.url.render_as_string(hide_password=True)
    _print(f"stored completions: {store}", "dim")
    _print(f"pages {root}/", "bold")
    for page in _waiting(opened):
        _print(f"people are asked: {root}{page}")
    if keys:
        code = keys.browsers.invite(keys.first)
        _print(f"one browser may enter, once, within an hour: {root}/login?code={code}")
    _print(f"serving {address.url}  (Ctrl-C ends it)", "bold")


def _tell_of(served: Served) -> None:
    kind = "chat and completions" if served.chats else "completions only: a base model"
    _print(f"{served.name:<16} context {served.context:>6}   {kind}", "dim")


def _print(line: str, style: str = "") -> None:
    Console(highlight=False).print(Text(line, style), soft_wrap=True)
