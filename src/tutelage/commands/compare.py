"""`tutelage compare`: the same prompts through several models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tutelage.commands.common import examples

EXAMPLES = examples(
    "tutelage compare quickstart/base quickstart/instruct quickstart/ppo",
    'tutelage compare quickstart/instruct quickstart/dpo --prompt "Who wrote Hamlet?"',
    "tutelage compare quickstart/ppo quickstart/dpo --prompts prompts.jsonl --json",
)


def command(
    models: Annotated[list[str], typer.Argument(help="Folders of models, or RUN/STAGE.", metavar="MODEL...")],
    file: Annotated[
        Path | None, typer.Option("--prompts", help="Prompts: JSON lines (messages or prompt), or one a line.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="A prompt (repeatable).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest word.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same replies.")] = 0,
) -> None:
    """Ask several models the same: what did each stage of training change?

    Without prompts: a harmful one, its look-alike, an explanation in two styles, a fact.
    """
    from tutelage.generation.sampling import Sampling
    from tutelage.talk.compare import compare, default_prompts, plain_prompts, read_prompts, to_json
    from tutelage.talk.side_by_side import show
    from tutelage.talk.speaker import find_model, short_names

    prompts = [*(read_prompts(file) if file else []), *plain_prompts(prompt or ())] or default_prompts()
    places = list({place.path.resolve(): place for place in map(find_model, models)}.values())
    sampling = Sampling(max_tokens, temperature)
    errors = Console(stderr=True)
    with errors.status("…") as status:
        named = list(zip(short_names(places), places, strict=True))
        columns = list(compare(named, prompts, sampling, seed, lambda name: status.update(Text(f"{name} …"))))
    if as_json:
        typer.echo(json.dumps(to_json(columns, prompts, sampling, seed), indent=2))
        return
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=100)  # a file or a pipe has no width
    show(console, columns, prompts)
