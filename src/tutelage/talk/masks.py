"""Conversations as a model sees them, the tokens that are trained on in colour."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from tutelage.data.template import Rendered, render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.sources.conversations import conversations
from tutelage.sources.files import expand
from tutelage.sources.rows import ProblemLog
from tutelage.talk.text import visible

TRAINED, READ, TEMPLATE = "trained", "read", "template"
STYLES = {TRAINED: "bold green", READ: "", TEMPLATE: "dim cyan"}


def read_rows(data: Path, limit: int) -> list[dict[str, Any]]:
    """The first `limit` conversations of a file or folder; `DataError` if it has none."""
    own = data / "conversations.jsonl"
    path = str(own if own.is_file() else data)
    log = ProblemLog(io.BytesIO(), "skip")
    rows = list(islice(conversations(expand(path), [], log), limit))
    log.require(len(rows), path)
    return rows


def show_masks(console: Console, tokenizer: TextTokenizer, rows: Iterable[Mapping[str, Any]]) -> None:
    """Print each conversation with its counts; texts are shown as they are, never taken for markup."""
    said = {TRAINED: "trained on", READ: "read only", TEMPLATE: "template"}
    legend = Text(" · ").join(Text(said[kind], STYLES[kind]) for kind in said)
    console.print(legend)
    for row in rows:
        rendered = render(tokenizer, row["messages"], row.get("tools"))
        title = f"{row.get('id', '')}: {len(rendered.ids)} tokens, {rendered.num_trained} trained"
        console.print(Rule(Text(visible(title)), align="left"))
        console.print(colour(tokenizer, rendered), soft_wrap=True)
        if not rendered.num_trained:
            console.print(Text("nothing in this conversation is trained on: it would be dropped", style="yellow"))


def colour(tokenizer: TextTokenizer, rendered: Rendered) -> Text:
    """The conversation as styled text."""
    text = Text()
    for kind, group in groupby(zip(kinds(rendered), rendered.ids, strict=True), key=lambda pair: pair[0]):
        piece = tokenizer.decode([token_id for _, token_id in group], skip_special_tokens=False)
        text.append(visible(piece), style=STYLES[kind] or None)
    return text


def kinds(rendered: Rendered) -> list[str]:
    """What each token is: trained on, somebody's words that are only read, or the template's own."""
    return [
        TRAINED if learnt else READ if role else TEMPLATE
        for learnt, role in zip(rendered.loss_mask, rendered.roles, strict=True)
    ]
