"""`tutelage chat`: talk to a model in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tutelage.commands.common import examples, print_error

EXAMPLES = examples(
    "tutelage chat runs/quickstart/ppo                       a model of a run",
    'tutelage chat quickstart/ppo --system "Be brief."       the same, by RUN/STAGE',
    "tutelage chat tools/assistant --tools calculator,python  it may call these; calls and results are shown",
    "tutelage chat quickstart/companion --memory me.json     it notes what you told it, and has the notes next time",
    "tutelage chat runs/privacy/teller --guard pii            private strings that you did not say are masked",
    "tutelage chat runs/quickstart/dpo < questions.txt       one reply a line, for scripts",
)


def command(
    model: Annotated[str, typer.Argument(help="A model's folder, or RUN/STAGE.", metavar="MODEL")],
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest word.")] = 0.7,
    top_p: Annotated[float, typer.Option(min=0.001, max=1.0, help="Draw from the likeliest that sum to this.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from the k likeliest; 0: from all.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and words give the same replies.")] = 0,
    tools: Annotated[
        str, typer.Option("--tools", help="What it may call: calculator, python, search, package.module:function.")
    ] = "",
    memory: Annotated[
        Path | None, typer.Option("--memory", help="A file of notes of you: carried now, written at the end.")
    ] = None,
    library: Annotated[str, typer.Option("--library", help="Where `search` looks: a corpus, as RUN/STAGE.")] = "",
    guard: Annotated[
        str, typer.Option("--guard", help="pii: replies are shown whole, private strings you did not say masked.")
    ] = "",
) -> None:
    """Talk to a model: replies stream; Ctrl-C stops a reply and keeps the conversation; /help lists the commands."""
    from tutelage.errors import DataError
    from tutelage.generation.sampling import Sampling
    from tutelage.sources.tool_names import find_documents, open_tools
    from tutelage.talk.remembering import Remembering
    from tutelage.talk.session import Session
    from tutelage.talk.speaker import Speaker, find_model
    from tutelage.talk.terminal import Chat, converse

    if guard not in ("", "pii"):
        raise DataError(f"--guard {guard}: there is no such guard", hint="--guard pii masks private strings")
    place = find_model(model)
    speaker = Speaker(place)
    instead = f'tutelage complete {place.path} "Once upon a time"'
    if speaker.tokenizer.chat_template is None:
        raise DataError(f"{place.path} has no chat template: it was not made to chat", hint=instead)
    sampling = Sampling(max_tokens, temperature, top_k, top_p)
    names = [name.strip() for name in tools.split(",") if name.strip()]
    toolbox = open_tools(names, find_documents(library) if library else None) if names else None
    session = Session(speaker, sampling, seed, system, toolbox, guard == "pii")
    remembering = Remembering(session, memory.expanduser()) if memory is not None else None
    if place.is_base:
        Console(stderr=True).print(Text(f"{place.base_note}\n  → {instead}", "yellow"), soft_wrap=True)
    if sys.stdin.isatty():
        console = Console(highlight=False)
        console.print(Text(f"{place.path} · context {speaker.engine.context} tokens · /help", "dim"), soft_wrap=True)
        Chat(session, console, print_error, remembering).run()
        refused = False
    else:
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="replace")
        lines = iter(sys.stdin.readline, "")  # one by one: a program may wait for a reply before it asks on
        refused = converse(session, lines, sys.stdout, sys.stderr, print_error, remembering)
    if remembering is not None and (said := remembering.close()):
        Console(stderr=True, highlight=False).print(Text(said, "dim"), soft_wrap=True)
    if refused:
        raise typer.Exit(2)
