"""Turn a corpus into tokens on disk, split into training and validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tutelage.data.shards import SPLITS, ShardWriter, Split, TokenShard
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_documents
from tutelage.stages.configs import TokenizeConfig

_BATCH = 1_000  # documents encoded at once
_BETWEEN = "\n\n"  # joins the documents of a running text


@dataclass(frozen=True)
class _Document:
    id: str
    source: str
    text: str
    split: Split


def run(config: TokenizeConfig, inputs: Inputs, run: StageRun) -> None:
    """Write token files, document offsets, spans and the manifest of both splits."""
    tokenizer = TextTokenizer.load(inputs["tokenizer"].path)
    documents = _read(inputs["corpus"].path, "train")
    if config.validation is not None:
        validation = _read(inputs["validation"].path, "validation")
    else:
        validation = []
        _require_several(documents, config)
    if config.split == "tail":
        documents, validation = _join(documents), _join(validation)
        if config.validation is None:
            documents = _cut_tail(documents, config.validation_share)
    elif config.validation is None:
        documents = _set_aside(documents, config.validation_share)
    documents += validation

    with (
        ShardWriter(run.directory, tokenizer, boundaries=config.split == "hash") as writer,
        run.progress("tokens", len(documents)) as bar,
    ):
        for batch in _batches(documents):
            for document, ids in zip(batch, tokenizer.encode_batch([each.text for each in batch]), strict=True):
                num_bytes = len(document.text.encode())
                writer.add(document.split, ids, document=document.id, source=document.source, num_bytes=num_bytes)
            bar.advance(len(batch))
    _measure(run)


def _read(folder: Path, split: Split) -> list[_Document]:
    table = read_documents(folder).select(["id", "source", "text"])
    columns = (table.column(name).to_pylist() for name in table.column_names)
    documents = [_Document(id_, source, text, split) for id_, source, text in zip(*columns, strict=True) if text]
    if not documents:
        raise DataError(f"{folder} has no document with text", hint="look at what the stage before dropped, and why")
    return documents


def _require_several(documents: list[_Document], config: TokenizeConfig) -> None:
    if config.split == "hash" and config.validation_share and len(documents) < 2:
        raise DataError(
            "the corpus is a single document, so none can be set aside for validation",
            hint="set split: tail, or give a `validation` corpus",
        )


def _set_aside(documents: list[_Document], share: float) -> list[_Document]:
    """Choose validation documents by the hash of their id, so that the choice outlives changes to the corpus.

    At least one document is chosen, and at least one left; equal ids go the same way.
    """
    if share == 0:
        return documents
    fractions = {each.id: int(hashlib.sha256(each.id.encode()).hexdigest()[:16], 16) / 2**64 for each in documents}
    least, greatest = min(fractions.values()), max(fractions.values())
    chosen = {
        id_ for id_, fraction in fractions.items() if fraction == least or (fraction < share and fraction < greatest)
    }
    return [replace(each, split="validation") if each.id in chosen else each for each in documents]


def _join(documents: list[_Document]) -> list[_Document]:
    """The documents as parts of one running text: each but the first begins with an empty line."""
    return [replace(each, text=_BETWEEN + each.text) if index else each for index, each in enumerate(documents)]


def _cut_tail(documents: list[_Document], share: float) -> list[_Document]:
    """Cut the running text at character ⌊(1 - share) · length⌋; the document that it falls into becomes two parts."""
    total = sum(len(each.text) for each in documents)
    # rounded first, since 1 - 0.1 is not quite 0.9
    left = int(round((1 - share) * total, 6))
    parts = []
    for each in documents:
        if each.text[:left]:
            parts.append(replace(each, text=each.text[:left], split="train"))
        if each.text[left:]:
            parts.append(replace(each, text=each.text[left:], split="validation"))
        left = max(0, left - len(each.text))
    return parts


def _batches(documents: list[_Document]) -> Iterator[list[_Document]]:
    for start in range(0, len(documents), _BATCH):
        yield documents[start : start + _BATCH]


def _measure(run: StageRun) -> None:
    shards = {split: TokenShard(run.directory, split) for split in SPLITS}
    num_ends = sum(2 * len(shard) for shard in shards.values() if shard.boundaries)
    num_tokens = sum(shard.num_tokens for shard in shards.values()) - num_ends
    for split, shard in shards.items():
        run.metrics[f"tokens/{split}"] = shard.num_tokens
        run.metrics[f"documents/{split}"] = len(shard)
    run.metrics["documents"] = sum(len(shard) for shard in shards.values())
    run.metrics["tokens/bytes_per_token"] = sum(shard.num_bytes for shard in shards.values()) / max(num_tokens, 1)
