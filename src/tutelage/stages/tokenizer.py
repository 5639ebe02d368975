"""Make a tokenizer of a corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from tutelage.data.jinja import to_json
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.train_tokenizer import train_bpe, train_characters
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_documents
from tutelage.stages.configs import TokenizerConfig
from tutelage.stages.replying.inputs import conversations_of

_MEASURED = 2_000  # documents, taken evenly from the corpus, on which the compression is measured


def run(config: TokenizerConfig, inputs: Inputs, run: StageRun) -> None:
    """Write tokenizer.json and tokenizer_config.json, with the chat template inside."""
    texts: list[str] = read_documents(inputs["corpus"].path).column("text").to_pylist()
    texts += chain.from_iterable(map(_texts_of, conversations_of(inputs)))
    if config.kind == "characters":
        tokenizer = train_characters(texts)
    else:
        tokenizer = train_bpe(texts, config.vocab_size, config.min_frequency)
        if tokenizer.vocab_size < config.vocab_size:
            run.notes.append(
                f"the vocabulary has {tokenizer.vocab_size} tokens instead of {config.vocab_size}: "
                f"no more pairs occur {config.min_frequency} times"
            )
    tokenizer.save(run.directory)
    run.metrics["tokenizer/vocab_size"] = tokenizer.vocab_size
    run.metrics["tokenizer/bytes_per_token"] = _bytes_per_token(tokenizer, texts)


def _texts_of(row: Mapping[str, Any]) -> Iterator[str]:
    """What a template writes of a conversation: definitions, contents, calls."""
    for tool in row.get("tools", ()):
        yield to_json(tool)
    for message in row["messages"]:
        yield message["content"]
        for call in message.get("tool_calls", ()):
            yield to_json(call["function"])


def _bytes_per_token(tokenizer: TextTokenizer, texts: list[str]) -> float:
    sample = texts[:: max(1, len(texts) // _MEASURED)]
    num_tokens = sum(len(ids) for ids in tokenizer.encode_batch(sample))
    return sum(len(text.encode()) for text in sample) / num_tokens
