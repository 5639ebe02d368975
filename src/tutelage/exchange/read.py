"""A model and its tokenizer from a Hugging Face folder or a GGUF file."""

from __future__ import annotations

from pathlib import Path

from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import ArtifactError
from tutelage.exchange.gguf_file import open_gguf
from tutelage.exchange.gguf_model import read_model
from tutelage.exchange.gguf_tokenizer import read_tokenizer
from tutelage.model.hub import load_causal_lm
from tutelage.model.transformer import CausalLM


def read_source(source: Path) -> tuple[CausalLM, TextTokenizer]:
    """Raises ArtifactError for what is neither, and for a tokenizer with more tokens than the model has."""
    if source.is_dir():
        model, tokenizer = load_causal_lm(source), TextTokenizer.load(source)
    elif source.is_file():
        file = open_gguf(source)
        model, tokenizer = read_model(file), read_tokenizer(file)
    else:
        raise ArtifactError(
            f"{source} does not exist", hint="name a GGUF file or a Hugging Face folder; download a hub model first"
        )
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ArtifactError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {model.config.vocab_size}",
            hint="the folder mixes files of two models",
        )
    return model, tokenizer
