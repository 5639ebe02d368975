"""Make a tokenizer of a corpus."""

from __future__ import annotations

from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.train_tokenizer import train_bpe, train_characters
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_documents
from tutelage.stages.configs import TokenizerConfig

_MEASURED = 2_000  # documents, taken evenly from the corpus, on which the compression is measured


def run(config: TokenizerConfig, inputs: Inputs, run: StageRun) -> None:
    """Write tokenizer.json and tokenizer_config.json, with the chat template inside."""
    texts: list[str] = read_documents(inputs["corpus"].path).column("text").to_pylist()
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


def _bytes_per_token(tokenizer: TextTokenizer, texts: list[str]) -> float:
    sample = texts[:: max(1, len(texts) // _MEASURED)]
    num_tokens = sum(len(ids) for ids in tokenizer.encode_batch(sample))
    return sum(len(text.encode()) for text in sample) / num_tokens
