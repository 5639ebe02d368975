"""`tutelage masks`: see which tokens of a conversation are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.commands.common import examples

EXAMPLES = examples(
    "tutelage masks runs/quickstart/atlas/conversations --tokenizer runs/quickstart/tokenizer",
    "tutelage masks data.jsonl --tokenizer runs/quickstart/instruct --limit 20",
)


def command(
    data: Annotated[Path, typer.Argument(help="Conversations: a file in any accepted format, or a stage's folder.")],
    tokenizer: Annotated[Path, typer.Option(help="A folder with tokenizer.json: of a tokenizer or of a model.")],
    limit: Annotated[int, typer.Option(min=1, help="How many conversations to show.")] = 5,
) -> None:
    """Print conversations as the model sees them, the tokens that are trained on in green."""
    from rich.console import Console

    from tutelage.data.tokenizer import TextTokenizer
    from tutelage.talk.masks import read_rows, show_masks

    show_masks(Console(highlight=False), TextTokenizer.load(tokenizer), read_rows(data, limit))
