"""`tutelage import`: a model from elsewhere as a folder of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.commands.common import examples

EXAMPLES = examples(
    "tutelage import SmolLM2-135M-Instruct.Q4_1.gguf --to models/smollm2",
    "tutelage import ~/models/Qwen2.5-0.5B --to models/qwen",
)


def command(
    source: Annotated[Path, typer.Argument(help="A GGUF file or a Hugging Face folder.", metavar="SOURCE")],
    to: Annotated[Path | None, typer.Option(help="The new folder; by default models/NAME.")] = None,
) -> None:
    """Read weights, tokenizer and chat template; write a folder that every command and recipe can open."""
    from tutelage.errors import ArtifactError
    from tutelage.exchange.read import read_source
    from tutelage.stages.models import publish_model

    folder = to or Path("models") / (source.name.removesuffix(".gguf"))
    if folder.exists():
        raise ArtifactError(f"{folder} exists", hint="remove it, or name another folder with --to")
    model, tokenizer = read_source(source)
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    publish_model(model, tokenizer, partial)
    partial.rename(folder)
    size = sum(parameter.numel() for parameter in model.parameters())
    typer.echo(f"{folder}: {size:,} parameters, {tokenizer.vocab_size:,} tokens")
    typer.echo(f"→ tutelage {'chat' if tokenizer.chat_template else 'complete'} {folder}")
