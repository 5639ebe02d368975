"""`tutelage completions`: what clients of `tutelage serve` had stored, listed or written out as conversations."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.commands.common import examples, print_table

if TYPE_CHECKING:
    from tutelage.sources.stored import Selection

EXAMPLES = examples(
    "tutelage completions list quickstart",
    "tutelage completions list quickstart --model ppo --metadata topic=capitals --since 2026-11-26",
    "tutelage completions export quickstart --out replies.jsonl    conversations, for sft and distill",
    "tutelage completions list sqlite:///store.sqlite",
)
_SHOWN = 60


class Action(StrEnum):
    """What is done."""

    list = "list"
    export = "export"


def command(
    action: Annotated[Action, typer.Argument(help="List them, or write them as conversations.")],
    where: Annotated[str, typer.Argument(help="A run, or the URL of a store.", metavar="RUN|URL")],
    model: Annotated[str | None, typer.Option("--model", help="Of this model only.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="KEY=VALUE that they have (repeatable).")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="From this time on, such as 2026-11-26.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Before this time.")] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Export replies that were cut short, too.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where `export` writes; stdout by default.")] = None,
) -> None:
    """Stored completions by model, metadata and time: a table, or conversations in JSON lines."""
    from tutelage.sources.stored import Selection, stored

    pairs = [_pair(text) for text in metadata or ()]
    selection = Selection(model, dict(pairs), _time(since, "--since"), _time(until, "--until"), unfinished)
    url = where if "://" in where else _store_of(where)
    if action == Action.export:
        _export(url, selection, out)
        return
    rows = []
    for kept in stored(url, selection):
        when = datetime.fromtimestamp(kept.created, UTC).strftime("%Y-%m-%d %H:%M:%S")
        said = kept.body["choices"][0]["message"]
        text = str(said["content"] or json.dumps(said.get("tool_calls"))).replace("\n", " ")
        asked = str(kept.messages[-1]["content"]).replace("\n", " ")
        labels = " ".join(f"{key}={value}" for key, value in kept.metadata.items())
        rows.append([kept.id, when, kept.model, labels, asked[:_SHOWN], text[:_SHOWN]])
    print_table(["id", "time (UTC)", "model", "metadata", "asked", "said"], rows)


def _export(url: str, selection: Selection, out: Path | None) -> None:
    from tempfile import TemporaryDirectory

    from tutelage.sources.rows import problem_log
    from tutelage.sources.store import write_jsonl
    from tutelage.sources.stored import stored, stored_conversations

    with TemporaryDirectory() as folder, problem_log(Path(folder), "skip") as log:
        rows = stored_conversations(stored(url, selection), selection.unfinished, [], log)
        if out is not None:
            count = write_jsonl(out, rows)
        else:
            count = 0
            for row in rows:
                print(json.dumps(row, ensure_ascii=False))
                count += 1
    for note in log.notes(count):
        print(note, file=sys.stderr)
    print(f"{count} conversations" + (f" → {out}" if out is not None else ""), file=sys.stderr)


def _pair(text: str) -> tuple[str, str]:
    from tutelage.errors import DataError

    key, separator, value = text.partition("=")
    if not separator:
        raise DataError(f"--metadata {text!r} is no KEY=VALUE", hint="write for example --metadata topic=capitals")
    return key, value


def _time(text: str | None, option: str) -> str | None:
    from tutelage.errors import DataError
    from tutelage.sources.stored import moment

    try:
        return None if text is None else (moment(text), text)[1]
    except ValueError as error:
        raise DataError(f"{option} {text!r} is no time", hint="write 2026-11-26 or 2026-11-26T10:00") from error


def _store_of(run: str) -> str:
    from tutelage.errors import ArtifactError
    from tutelage.store.engine import FILE, VARIABLE, store_url

    folder = next((path for path in (Path(run), Path("runs") / run) if path.is_dir()), None)
    if folder is None:
        raise ArtifactError(f"there is no run {run!r}", hint="name a run's folder, or a URL such as sqlite:///FILE")
    if VARIABLE not in os.environ and not (folder / FILE).is_file():
        raise ArtifactError(f"{folder} has no {FILE}: nothing was stored", hint="clients store by `store: true`")
    return store_url(folder)
