from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from tutelage.commands.masks import command as masks
from tutelage.data.shards import TokenShard
from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import Journal
from tutelage.run.stage import ProgressBar, StageRun
from tutelage.sources.store import write_documents, write_jsonl
from tutelage.stages import tokenize, tokenizer
from tutelage.stages.configs import TokenizeConfig, TokenizerConfig
from tutelage.talk.masks import colour, show_masks

from .conftest import TEXTS


class _Bar:
    def advance(self, amount: float = 1, **shown: str | float) -> None: ...


@contextmanager
def _progress(title: str, total: float | None) -> Iterator[ProgressBar]:
    yield _Bar()


def stage_run(folder: Path) -> StageRun:
    folder.mkdir()
    return StageRun("test", 0, folder, folder / "scratch", Journal(folder / "journal.jsonl"), _progress)


def corpus(folder: Path, texts: list[str]) -> Artifact:
    rows = [{"id": hashlib.sha256(text.encode()).hexdigest(), "text": text, "source": "s"} for text in texts]
    write_documents(folder, rows)
    return Artifact("corpus", ArtifactType.CORPUS, folder, "")


def make_tokenizer(tmp_path: Path, kind: str, texts: list[str]) -> Artifact:
    run = stage_run(tmp_path / f"tokenizer-{kind}")
    config = TokenizerConfig.model_validate({"corpus": "corpus", "kind": kind, "vocab_size": 300})
    tokenizer.run(config, {"corpus": corpus(tmp_path / "tokenizer-corpus", texts)}, run)
    assert run.metrics["tokenizer/vocab_size"] == TextTokenizer.load(run.directory).vocab_size
    assert run.metrics["tokenizer/bytes_per_token"] >= 1
    return Artifact("tokenizer", ArtifactType.TOKENIZER, run.directory, "")


def test_hash_split_keeps_documents_whole_and_their_choice_stable(tmp_path: Path) -> None:
    texts = [f"Document {index} of {text}" for index in range(100) for text in TEXTS[:3]]
    artifact = make_tokenizer(tmp_path, "bpe", texts)
    own = TextTokenizer.load(artifact.path)
    chosen = []
    for name, part in (("all", texts), ("fewer", texts[:250])):
        run = stage_run(tmp_path / name)
        config = TokenizeConfig(corpus="corpus", tokenizer="tokenizer", validation_share=0.1)
        tokenize.run(config, {"corpus": corpus(tmp_path / f"c-{name}", part), "tokenizer": artifact}, run)
        train, validation = TokenShard(tmp_path / name, "train"), TokenShard(tmp_path / name, "validation")
        assert run.metrics["documents"] == len(part) == len(train) + len(validation)
        assert run.metrics["tokens/train"] == train.num_tokens
        assert 0.05 < len(validation) / len(part) < 0.2
        found = [own.decode(shard.document(i).tolist()) for shard in (train, validation) for i in range(len(shard))]
        assert sorted(found) == sorted(part)
        assert train.num_bytes + validation.num_bytes == sum(len(text.encode()) for text in part)
        spans = pq.read_table(tmp_path / name / "spans.parquet").to_pylist()
        chosen.append({span["document"] for span in spans if span["split"] == "validation"})
    assert chosen[1] <= chosen[0]


def test_tail_split_cuts_the_running_text_exactly(tmp_path: Path) -> None:
    texts = ["abc " * 30, "defg\n" * 37, "hij " * 10]
    artifact = make_tokenizer(tmp_path, "characters", [*texts, "\n"])
    run = stage_run(tmp_path / "tail")
    config = TokenizeConfig(corpus="corpus", tokenizer="tokenizer", validation_share=0.1, split="tail")
    tokenize.run(config, {"corpus": corpus(tmp_path / "c", texts), "tokenizer": artifact}, run)
    own, whole = TextTokenizer.load(artifact.path), "\n\n".join(texts)
    train, validation = (
        own.decode(TokenShard(run.directory, split).tokens.tolist()) for split in ("train", "validation")
    )
    assert train + validation == whole
    assert len(train) == int(0.9 * len(whole))
    assert run.metrics["tokens/bytes_per_token"] == 1


def test_an_explicit_validation_corpus_is_used_as_it_is(tmp_path: Path) -> None:
    inputs = {
        "corpus": corpus(tmp_path / "c", TEXTS[:2]),
        "validation": corpus(tmp_path / "v", TEXTS[2:3]),
        "tokenizer": make_tokenizer(tmp_path, "bpe", TEXTS),
    }
    config = TokenizeConfig(corpus="corpus", tokenizer="tokenizer", validation="held")
    run = stage_run(tmp_path / "out")
    tokenize.run(config, inputs, run)
    own = TextTokenizer.load(inputs["tokenizer"].path)
    assert own.decode(TokenShard(run.directory, "validation").tokens.tolist()) == TEXTS[2]
    assert len(TokenShard(run.directory, "train")) == 2


def test_a_corpus_that_cannot_be_split_or_is_empty(tmp_path: Path) -> None:
    artifact = make_tokenizer(tmp_path, "bpe", TEXTS)
    config = TokenizeConfig(corpus="corpus", tokenizer="tokenizer")
    with pytest.raises(DataError, match="single document"):
        tokenize.run(
            config, {"corpus": corpus(tmp_path / "one", ["a"]), "tokenizer": artifact}, stage_run(tmp_path / "x")
        )
    with pytest.raises(DataError, match="no document"):
        tokenize.run(
            config, {"corpus": corpus(tmp_path / "none", []), "tokenizer": artifact}, stage_run(tmp_path / "y")
        )


MESSAGES = [{"role": "user", "content": "[red]x[/red] \x1b[31m<|end|>"}, {"role": "assistant", "content": "[bold]"}]


def test_masks_colours_what_is_trained_and_nothing_else(tmp_path: Path) -> None:
    own = TextTokenizer.load(make_tokenizer(tmp_path, "bpe", TEXTS).path)
    text = colour(own, render(own, MESSAGES))
    assert text.plain == "<|bos|><|user|>[red]x[/red] ␛[31m<|end|><|end|><|assistant|>[bold]<|end|>"
    trained = [text.plain[span.start : span.end] for span in text.spans if span.style == "bold green"]
    assert trained == ["[bold]<|end|>"]
    out = io.StringIO()
    show_masks(Console(file=out, width=200), own, [{"id": "[b]", "messages": MESSAGES}])
    assert "[b]: " in out.getvalue()
    assert text.plain in out.getvalue()


def test_masks_command(tmp_path: Path) -> None:
    artifact = make_tokenizer(tmp_path, "bpe", TEXTS)
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"id": f"row{index}", "messages": MESSAGES, "source": "s", "tags": []} for index in range(9)]
    write_jsonl(data / "conversations.jsonl", rows)
    app = Typer()
    app.command()(masks)
    result = CliRunner().invoke(app, [str(data), "--tokenizer", str(artifact.path), "--limit", "2"])
    assert result.exit_code == 0, result.output
    assert result.output.count("trained\n") + result.output.count("trained ─") == 2
    alpaca = tmp_path / "alpaca.jsonl"
    write_jsonl(alpaca, [{"instruction": "Hi?", "input": "", "output": "Paris."}])
    result = CliRunner().invoke(app, [str(alpaca), "--tokenizer", str(artifact.path)])
    assert "<|user|>Hi?<|end|><|assistant|>Paris.<|end|>" in result.output
