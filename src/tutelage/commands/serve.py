"""`tutelage serve`: models of a run over the OpenAI protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from tutelage.commands.common import examples, stages

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tutelage.serve.keys import Keys
    from tutelage.serve.models import Models
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

    from tutelage.serve.app import build_app
    from tutelage.serve.models import Limits, Models, find_models, run_of, store_of
    from tutelage.store.engine import open_store, store_url
    from tutelage.web.app import build_pages
    from tutelage.web.site import Site

    run = run_of(names)
    if ui and run is None:
        raise DataError("--ui needs one run", hint="tutelage serve --ui quickstart")
    places = [] if ui else find_models(names)
    url = store or (store_url(run) if run is not None else store_of(places))
    opened = None if url == "none" else open_store(url)
    models = Models(places, Limits(slots, queue, context, max_body))
    pages = build_pages(Site(run, opened, models, stages(), known))
    app = build_app(models, opened, known, tuple(allow_host or ()), address.is_public, pages)
    _tell(models, address, "none" if opened is None else opened.engine.url.render_as_string(hide_password=True), known)
    _run(app, address, log, models, opened)


def _run(app: ASGIApp, address: Address, log: bool, models: Models, opened: Store | None) -> None:
    from tutelage.errors import ResourceError
    from tutelage.serve.running import server_of

    server = server_of(app, address, "info" if log else "warning")
    try:
        server.run()
    finally:
        models.stop()
        if opened is not None:
            opened.close()
    if not server.started:
        raise ResourceError(f"{address.url} cannot be opened", hint="another program may use the port: try --port")


def _tell(models: Models, address: Address, store: str, keys: Keys) -> None:
    console = Console(highlight=False)
    for served in models.by_name.values():
        kind = "chat and completions" if served.chats else "completions only: a base model"
        console.print(Text(f"{served.name:<16} context {served.context:>6}   {kind}", "dim"), soft_wrap=True)
    console.print(Text(f"stored completions: {store}", "dim"), soft_wrap=True)
    root = address.url.removesuffix("/v1")
    console.print(Text(f"pages {root}/", "bold"), soft_wrap=True)
    if keys:
        code = keys.browsers.invite(keys.first)
        console.print(Text(f"one browser may enter, once, within an hour: {root}/login?code={code}"), soft_wrap=True)
    console.print(Text(f"serving {address.url}  (Ctrl-C ends it)", "bold"), soft_wrap=True)
