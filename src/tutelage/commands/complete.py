"""`tutelage complete`: what a model writes after the beginning of a document."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from tutelage.commands.common import examples

EXAMPLES = examples(
    'tutelage complete runs/quickstart/base "The capital of France is"',
    'tutelage complete quickstart/base "Once upon a time" -n 3 --temperature 1',
    "tutelage complete quickstart/base - < beginning.txt",
)


def command(
    model: Annotated[str, typer.Argument(help="A model's folder, or RUN/STAGE.", metavar="MODEL")],
    prompt: Annotated[str, typer.Argument(help="The beginning of a document; - reads it from stdin.")],
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest word.")] = 0.7,
    top_p: Annotated[float, typer.Option(min=0.001, max=1.0, help="Draw from the likeliest that sum to this.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest continuation.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 0,
    number: Annotated[int, typer.Option("-n", min=1, help="How many continuations.")] = 1,
) -> None:
    """Continue a text: no chat template, only the beginning of a document and what follows."""
    from tutelage.errors import DataError
    from tutelage.generation.sampling import Sampling
    from tutelage.talk.speaker import Speaker, find_model
    from tutelage.talk.stream import Speech, speak
    from tutelage.talk.terminal import write_now

    text = _stdin() if prompt == "-" else prompt
    speaker = Speaker(find_model(model))
    ids, context = speaker.document(text), speaker.engine.context
    if len(ids) >= context:
        message = f"the prompt has {len(ids)} tokens; the model's context is {context}, the continuation included"
        raise DataError(message, hint="shorten the prompt")
    console = Console(highlight=False)
    for sample in range(number):
        if number > 1:
            console.print(Rule(f"{sample + 1}", style="dim"))
        if console.is_terminal:
            from tutelage.talk.text import visible

            console.print(Text(visible(text), "dim"), end="", soft_wrap=True)
        speech = Speech(speaker, ids, Sampling(max_tokens, temperature, 0, top_p), (seed << 32) | sample)
        cut = speak(speech, write_now)
        write_now("\n")
        if cut:
            raise KeyboardInterrupt


def _stdin() -> str:
    """All of it, without the one line break that `echo` and editors put at the end."""
    return sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
