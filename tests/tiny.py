"""The smallest models and artifacts that the stages can work on, shared by several test packages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tutelage.data.shards import ShardWriter
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.train_tokenizer import train_bpe
from tutelage.model.config import ModelConfig
from tutelage.model.heads import RewardModel
from tutelage.model.hub import save_model
from tutelage.model.transformer import CausalLM, initialise
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import Journal
from tutelage.run.progress import no_progress
from tutelage.run.stage import ProgressFactory, StageRun
from tutelage.sources.store import write_jsonl

CITIES = {"France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Peru": "Lima", "Japan": "Tokyo", "Egypt": "Cairo"}
TEXTS = [f"The capital of {country} is {city}. {city} is a city in {country}." for country, city in CITIES.items()]
CONTEXT = 48


@cache
def tokenizer() -> TextTokenizer:
    return train_bpe([*TEXTS, "What is the capital of it? I cannot help with that."], 300, min_frequency=1)


def config(vocab_size: int = 300, **changes: Any) -> ModelConfig:
    shape: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": CONTEXT,
        "model_type": "qwen3",
        "initializer_range": 0.3,
    }
    return ModelConfig(**{**shape, **changes})


def model(seed: int = 0, **changes: Any) -> CausalLM:
    """Random weights large enough that logits differ clearly from token to token."""
    return initialise(CausalLM(config(**changes)), seed, zero_outputs=False)


def stage_run(folder: Path, progress: ProgressFactory = no_progress, seed: int = 0) -> StageRun:
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder.parent / f"{folder.name}.scratch"
    return StageRun("test", seed, folder, scratch, Journal(folder.parent / f"{folder.name}.jsonl"), progress)


class Interrupter:
    """A progress whose bar raises KeyboardInterrupt at the end of step `at`, before the loop may checkpoint it."""

    def __init__(self, at: int, label: str) -> None:
        self.at, self.label, self.done = at, label, 0.0

    @contextmanager
    def __call__(self, label: str, total: float | None) -> Iterator[Interrupter]:
        self.counting = label == self.label
        yield self

    def advance(self, amount: float = 1, **shown: str | float) -> None:
        self.done += amount if self.counting else 0
        if self.counting and self.done >= self.at:
            raise KeyboardInterrupt


def artifact(kind: ArtifactType, path: Path) -> Artifact:
    return Artifact(path.name, kind, path, f"fingerprint of {path.name}")


def tokens_artifact(folder: Path, texts: Sequence[str] = TEXTS * 3, own: TextTokenizer | None = None) -> Artifact:
    own = own or tokenizer()
    with ShardWriter(folder, own) as out:
        for number, text in enumerate(texts):
            split = "validation" if number % 5 == 4 else "train"
            out.add(split, own.encode(text), document=str(number), source="s", num_bytes=len(text.encode()))
    return artifact(ArtifactType.TOKENS, folder)


def tokenizer_artifact(folder: Path) -> Artifact:
    tokenizer().save(folder)
    return artifact(ArtifactType.TOKENIZER, folder)


def model_artifact(folder: Path, seed: int = 0, own: TextTokenizer | None = None, **changes: Any) -> Artifact:
    own = own or tokenizer()
    own.save(folder)
    save_model(model(seed, vocab_size=own.vocab_size, **changes), folder)
    return artifact(ArtifactType.MODEL, folder)


def reward_artifact(folder: Path, seed: int = 0, own: TextTokenizer | None = None) -> Artifact:
    own = own or tokenizer()
    own.save(folder)
    judge = RewardModel(config(own.vocab_size), seed)
    judge.model.load_state_dict(model(seed, vocab_size=own.vocab_size).model.state_dict())
    save_model(judge, folder)
    return artifact(ArtifactType.REWARD_MODEL, folder)


def question(country: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is the capital of {country}?"}]


def jsonl_artifact(kind: ArtifactType, path: Path, rows: Sequence[Mapping[str, Any]]) -> Artifact:
    write_jsonl(path, rows)
    return artifact(kind, path.parent)


def conversations_artifact(folder: Path) -> Artifact:
    rows = [
        {"id": country, "messages": [*question(country), {"role": "assistant", "content": f"{city}."}], "source": "t"}
        for country, city in CITIES.items()
    ]
    return jsonl_artifact(ArtifactType.CONVERSATIONS, folder / "conversations.jsonl", rows * 3)


def prompts_artifact(folder: Path) -> Artifact:
    rows = [{"id": c, "messages": question(c), "kind": "fact", "answer": city} for c, city in CITIES.items()]
    return jsonl_artifact(ArtifactType.PROMPTS, folder / "prompts.jsonl", rows)


def preference_rows() -> list[dict[str, Any]]:
    rows = []
    for number, (country, city) in enumerate(CITIES.items()):
        for place, other in enumerate(c for c in CITIES.values() if c != city):
            rows.append(
                {
                    "id": f"{country}/{place}",
                    "prompt": question(country),
                    "kind": "fact",
                    "chosen": f"{city}.",
                    "rejected": f"{other} it is",
                    "chosen_finished": True,
                    "rejected_finished": place % 2 == 0,
                    "annotator": "t",
                    "reason": "",
                    "weight": 0.2,
                    "split": "validation" if number == 5 else "train",
                    "clean_preference": place != 3,
                }
            )
    return rows


def preferences_artifact(folder: Path) -> Artifact:
    return jsonl_artifact(ArtifactType.PREFERENCES, folder / "preferences.jsonl", preference_rows())


def tree_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def journal_without_times(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("time", "tokens_per_second")} for row in rows]


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
