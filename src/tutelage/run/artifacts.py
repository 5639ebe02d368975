"""Artifacts: typed folders that stages hand to one another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class ArtifactType(StrEnum):
    """What a folder holds; a stage states which types it takes and gives."""

    DOCUMENTS = "Documents"  # documents.parquet: raw documents with their source
    CORPUS = "Corpus"  # documents.parquet (kept, cleaned), decisions.parquet, metrics.parquet, pairs.parquet
    TOKENIZER = "Tokenizer"  # tokenizer.json, tokenizer_config.json with the chat template
    TOKENS = "Tokens"  # train.bin, validation.bin, offsets, spans.parquet, tokens.json
    MODEL = "Model"  # config.json, model.safetensors, tokenizer files
    REWARD_MODEL = "RewardModel"  # as Model, with a scalar head
    CONVERSATIONS = "Conversations"  # conversations.jsonl
    PROMPTS = "Prompts"  # prompts.jsonl
    COMPLETIONS = "Completions"  # completions.jsonl
    PREFERENCES = "Preferences"  # preferences.jsonl
    CRITIQUES = "Critiques"  # principles.jsonl: what replies are criticised and revised by
    QUESTIONS = "Questions"  # principles.jsonl: what pairs of replies are compared by
    TASKS = "Tasks"  # tasks.jsonl: held-out evaluation items
    RESULTS = "Results"  # results.json, samples.json
    REPORT = "Report"  # report.html, report.json


@dataclass(frozen=True)
class Artifact:
    """A published artifact: `name` is how recipes refer to it (`stage` or `stage.output`)."""

    name: str
    type: ArtifactType
    path: Path
    fingerprint: str


@dataclass(frozen=True)
class Takes:
    """Marks a config field as a reference to another stage's artifact of one of these types."""

    types: tuple[ArtifactType, ...]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Editors show what may stand here."""
        schema = handler(core)
        schema["description"] = f"a stage (or stage.output) that gives {' or '.join(self.types)}"
        return schema


DocumentsInput = Annotated[str, Takes((ArtifactType.DOCUMENTS, ArtifactType.CORPUS))]
CorpusInput = Annotated[str, Takes((ArtifactType.CORPUS, ArtifactType.DOCUMENTS))]
TokenizerInput = Annotated[str, Takes((ArtifactType.TOKENIZER,))]
TokensInput = Annotated[str, Takes((ArtifactType.TOKENS,))]
ModelInput = Annotated[str, Takes((ArtifactType.MODEL,))]
RewardModelInput = Annotated[str, Takes((ArtifactType.REWARD_MODEL,))]
ConversationsInput = Annotated[str, Takes((ArtifactType.CONVERSATIONS,))]
SpokenInput = Annotated[str, Takes((ArtifactType.CONVERSATIONS, ArtifactType.COMPLETIONS))]
PromptsInput = Annotated[str, Takes((ArtifactType.PROMPTS,))]
CompletionsInput = Annotated[str, Takes((ArtifactType.COMPLETIONS,))]
PreferencesInput = Annotated[str, Takes((ArtifactType.PREFERENCES,))]
CritiquesInput = Annotated[str, Takes((ArtifactType.CRITIQUES,))]
QuestionsInput = Annotated[str, Takes((ArtifactType.QUESTIONS,))]
TasksInput = Annotated[str, Takes((ArtifactType.TASKS,))]
ResultsInput = Annotated[str, Takes((ArtifactType.RESULTS,))]
ReportInput = Annotated[str, Takes((ArtifactType.REPORT,))]
AnyInput = Annotated[str, Takes(tuple(ArtifactType))]
