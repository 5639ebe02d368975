"""`tutelage masks`: see which tokens of a conversation are trained on."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from tutelage.data.template import Rendered, render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.sources.conversations import conversations
from tutelage.sources.files import expand
from tutelage.sources.rows import ProblemLog

TRAINED, TEMPLATE, READ = "bold green", "dim cyan", ""


def masks(
    data: Annotated[Path, typer.Argument(help="Conversations: a file in any accepted format, or a stage's folder.")],
    tokenizer: Annotated[Path, typer.Option(help="A folder with tokenizer.json: of a tokenizer or of a model.")],
    limit: Annotated[int, typer.Option(min=1, help="How many conversations to show.")] = 5,
) -> None:
    """Print conversations as the model sees them, the tokens that are trained on in green."""
    rows = read_rows(data, limit)
    show_masks(Console(highlight=False), TextTokenizer.load(tokenizer), rows)


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
    legend = Text.assemble(("trained on", TRAINED), " · ", ("read only", READ), " · ", ("template", TEMPLATE))
    console.print(legend)
    for row in rows:
        rendered = render(tokenizer, row["messages"], row.get("tools"))
        title = f"{row.get('id', '')}: {len(rendered.ids)} tokens, {rendered.num_trained} trained"
        console.print(Rule(Text(_visible(title)), align="left"))
        console.print(colour(tokenizer, rendered), soft_wrap=True)
        if not rendered.num_trained:
            console.print(Text("nothing in this conversation is trained on: it would be dropped", style="yellow"))


def colour(tokenizer: TextTokenizer, rendered: Rendered) -> Text:
    """The conversation as styled text."""
    styles = [
        TRAINED if learnt else READ if role else TEMPLATE
        for learnt, role in zip(rendered.loss_mask, rendered.roles, strict=True)
    ]
    text = Text()
    for style, group in groupby(zip(styles, rendered.ids, strict=True), key=lambda pair: pair[0]):
        piece = tokenizer.decode([token_id for _, token_id in group], skip_special_tokens=False)
        text.append(_visible(piece), style=style or None)
    return text


def _visible(text: str) -> str:
    """Control characters as their pictures, so that a text cannot steer the terminal."""
    pictures = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
    pictures |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
    return text.translate(pictures)
