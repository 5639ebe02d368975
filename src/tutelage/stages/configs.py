"""The typed configuration of every stage. Imports nothing heavy: `tutelage --help` and `--dry-run` need no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tutelage.run.artifacts import (
    CompletionsInput,
    ConversationsInput,
    CorpusInput,
    DocumentsInput,
    ModelInput,
    PreferencesInput,
    PromptsInput,
    SpokenInput,
    TasksInput,
    TokenizerInput,
    TokensInput,
)
from tutelage.run.config import StageConfig
from tutelage.sources.atlas.settings import STYLES, AtlasSettings, Style
from tutelage.stages.alignment.settings import DPOConfig as DPOConfig
from tutelage.stages.alignment.settings import GRPOConfig as GRPOConfig
from tutelage.stages.alignment.settings import KTOConfig as KTOConfig
from tutelage.stages.alignment.settings import ORPOConfig as ORPOConfig
from tutelage.stages.alignment.settings import PPOConfig as PPOConfig
from tutelage.stages.alignment.settings import RLOOConfig as RLOOConfig
from tutelage.stages.companion.settings import MemoryConfig as MemoryConfig
from tutelage.stages.companion.settings import PersonaConfig as PersonaConfig
from tutelage.stages.constitutional.settings import ConstitutionConfig as ConstitutionConfig
from tutelage.stages.constitutional.settings import JudgeConfig as JudgeConfig
from tutelage.stages.constitutional.settings import ReviseConfig as ReviseConfig
from tutelage.stages.distillation.settings import DistillConfig as DistillConfig
from tutelage.stages.labelling.settings import PeopleSettings as PeopleSettings
from tutelage.stages.replying.measuring import EvaluateConfig as EvaluateConfig
from tutelage.stages.replying.measuring import ReportConfig as ReportConfig
from tutelage.stages.replying.settings import ServerSettings as ServerSettings
from tutelage.stages.replying.settings import StoredConfig as StoredConfig
from tutelage.stages.replying.settings import ToolsConfig as ToolsConfig
from tutelage.stages.replying.settings import ToolUsingConfig
from tutelage.stages.safety.settings import HonestyConfig as HonestyConfig
from tutelage.stages.safety.settings import ProbesConfig as ProbesConfig
from tutelage.stages.safety.settings import RedteamConfig as RedteamConfig
from tutelage.stages.secrecy.settings import CanariesConfig as CanariesConfig
from tutelage.stages.secrecy.settings import PrivacyConfig as PrivacyConfig
from tutelage.stages.synthesis.settings import LessonsConfig as LessonsConfig
from tutelage.stages.synthesis.settings import SynthesizeConfig as SynthesizeConfig
from tutelage.training.settings import FineTuneConfig, GradientConfig, LoopSettings, OptimizerSettings
from tutelage.training.settings import ModelSettings as ModelSettings


class TokenizerConfig(StageConfig):
    """Make a tokenizer of a corpus."""

    stage: Literal["tokenizer"] = "tokenizer"
    corpus: CorpusInput = Field(description="The text to learn the vocabulary from.")
    conversations: ConversationsInput | list[ConversationsInput] | None = Field(
        default=None, description="Conversations whose words, calls and tools the vocabulary is to know as well."
    )
    kind: Literal["bpe", "characters"] = Field(
        default="bpe",
        description="Byte-level byte-pair encoding, which can write every text, or one token a character.",
    )
    vocab_size: int = Field(default=2048, ge=1, description="Tokens of a `bpe` vocabulary, special tokens included.")
    min_frequency: int = Field(default=2, ge=1, description="How often a pair must occur to become one token (`bpe`).")


class TokenizeConfig(StageConfig):
    """Turn a corpus into tokens on disk, split into training and validation."""

    stage: Literal["tokenize"] = "tokenize"
    corpus: CorpusInput = Field(description="The text to train on.")
    tokenizer: TokenizerInput = Field(description="The tokenizer to write it with.")
    validation: CorpusInput | None = Field(
        default=None, description="Text to validate on; without it, a share of the corpus is set aside."
    )
    validation_share: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Share of the corpus that is set aside; not used if `validation` is given.",
    )
    split: Literal["hash", "tail"] = Field(
        default="hash",
        description="`hash` sets documents aside by the hash of their id; `tail` takes the corpus as one running text, "
        "without document boundaries, and sets its last characters aside.",
    )


class DocumentsConfig(StageConfig):
    """Read documents from files: text, Markdown, HTML, code, and rows with text."""

    stage: Literal["documents"] = "documents"
    path: str | list[str] = Field(description="Files, folders or globs; relative to where the command is run.")
    needs: str = Field(default="", description="What to tell whoever runs the recipe without the data.")
    licence: str | None = Field(default=None, description="Licence of documents that state none.")
    language: str | None = Field(default=None, description="Language code of documents that state none.")
    split: Literal["none", "paragraphs"] = Field(
        default="none", description="`paragraphs` cuts long plain text into documents at paragraph boundaries."
    )
    max_characters: int = Field(default=8000, ge=1, description="Longest document that `split` makes.")
    limit: int | None = Field(default=None, ge=1, description="Stop after so many documents.")
    on_problem: Literal["skip", "stop"] = Field(
        default="skip", description="At a row that cannot be used: report it and go on, or stop."
    )


class ConversationsConfig(StageConfig):
    """Read conversations from files; the format of the rows is detected."""

    stage: Literal["conversations"] = "conversations"
    path: str | list[str] = Field(description="Files, folders or globs; relative to where the command is run.")
    needs: str = Field(default="", description="What to tell whoever runs the recipe without the data.")
    tags: list[str] = Field(default=[], description="Tags of every conversation, beside those that its row states.")
    limit: int | None = Field(default=None, ge=1, description="Stop after so many conversations.")
    on_problem: Literal["skip", "stop"] = Field(
        default="skip", description="At a row that cannot be used: report it and go on, or stop."
    )


class PreferencesConfig(StageConfig):
    """Read preferences from files; the format of the rows is detected."""

    stage: Literal["preferences"] = "preferences"
    path: str | list[str] = Field(description="Files, folders or globs; relative to where the command is run.")
    needs: str = Field(default="", description="What to tell whoever runs the recipe without the data.")
    validation_share: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the prompts whose pairs are for validation, by the prompt's hash.",
    )
    limit: int | None = Field(default=None, ge=1, description="Stop after so many pairs.")
    on_problem: Literal["skip", "stop"] = Field(
        default="skip", description="At a row that cannot be used: report it and go on, or stop."
    )


class PromptsConfig(StageConfig):
    """Take the prompts of conversations: everything before the last assistant turn."""

    stage: Literal["prompts"] = "prompts"
    conversations: ConversationsInput = Field(description="The conversations to take prompts from.")
    kind: str = Field(default="chat", min_length=1, description="The kind that every prompt is given.")
    limit: int | None = Field(default=None, ge=1, description="Stop after so many prompts.")
    shuffle: bool = Field(default=False, description="Shuffle by the stage's seed, before the limit.")


class CurateConfig(StageConfig):
    """Clean documents: measure, remove by rules, replace private strings, deduplicate, decontaminate."""

    stage: Literal["curate"] = "curate"
    documents: DocumentsInput = Field(description="The documents to clean.")
    tasks: TasksInput | None = Field(default=None, description="Evaluation items that must not be in the corpus.")
    languages: list[str] = Field(
        default=["en", "fr", "es"], min_length=1, description="Languages to keep, as two-letter codes."
    )
    thresholds: dict[str, float] = Field(
        default={}, description="Other thresholds than the default ones, by the name of the rule."
    )
    keep: Literal["longest", "oldest", "newest", "first"] = Field(
        default="longest", description="Which one of duplicates stays; ties go to the smaller id."
    )
    near_duplicate_jaccard: float = Field(
        default=0.8, gt=0, le=1, description="Share of common word 5-grams from which two documents are duplicates."
    )
    pii: Literal["replace", "drop", "keep"] = Field(
        default="replace", description="What becomes of private strings: a placeholder, the document's end, or nothing."
    )
    max_pii: int = Field(default=5, ge=0, description="A document with more private strings than this is removed.")
    boilerplate_min_documents: int = Field(
        default=20, ge=2, description="A line is boilerplate if at least so many documents of its source have it …"
    )
    boilerplate_min_share: float = Field(
        default=0.1, gt=0, le=1, description="… and at least this share of that source's documents."
    )
    workers: int = Field(default=1, ge=1, description="Processes that extract and measure.")


class PretrainConfig(GradientConfig):
    """Train a base model by next-token prediction: from random weights, or on from another model."""

    stage: Literal["pretrain"] = "pretrain"
    tokens: TokensInput = Field(description="Tokens to train and to validate on.")
    tokenizer: TokenizerInput = Field(description="The tokenizer the tokens were made with; published with the model.")
    start: ModelInput | None = Field(
        default=None, description="A model to go on from, with its shape, for example to adapt it to other text."
    )
    model: ModelSettings = ModelSettings()
    context: int = Field(default=256, ge=2, description="Tokens in a row: the model's longest context.")
    epochs: float = Field(default=1.0, gt=0, description="Passes over the training tokens, if num_steps is not given.")
    num_steps: int | None = Field(default=None, ge=1)
    global_batch_tokens: int = Field(default=8192, ge=2, description="Tokens in one optimiser step.")
    micro_batch_tokens: int = Field(default=8192, ge=2, description="Tokens in one forward; never changes a result.")
    validation_rows: int = Field(default=64, ge=1, description="Rows validated on the way; all at the end.")
    optimizer: OptimizerSettings = OptimizerSettings(kind="muon", learning_rate=0.01, muon_learning_rate=0.02)

    @model_validator(mode="after")
    def _one_shape(self) -> PretrainConfig:
        if self.start is not None and self.model != ModelSettings():
            raise ValueError("`start` brings the shape of its model: leave `model` out")
        return self


class SFTConfig(FineTuneConfig):
    """Fine-tune a model on conversations, with loss on the assistant's turns only."""

    stage: Literal["sft"] = "sft"
    model: ModelInput = Field(description="The model to start from.")
    conversations: SpokenInput | list[SpokenInput] = Field(
        description="What to learn from: conversations, or replies that a model drew, of which those that ended count."
    )
    passes: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={},
        description="Times that a set of `conversations` comes in an epoch, by its name, for example "
        "`{atlas.conversations: 3}`; the others come once.",
    )
    replay: TokensInput | None = Field(default=None, description="Pretraining tokens mixed in against forgetting.")
    replay_rows: int = Field(default=16, ge=1, description="Rows of `replay` in every step.")
    conversations_a_step: int = Field(default=64, ge=1, description="Conversations in one optimiser step.")
    micro_batch_rows: int = Field(default=32, ge=1, description="Packed rows in one forward; never changes a result.")
    context: int | None = Field(
        default=None,
        ge=2,
        description="Tokens in a row; more than the model's lengthen it. Default: the model's context.",
    )
    epochs: float = Field(default=1.0, gt=0)
    num_steps: int | None = Field(default=None, ge=1)
    validation_share: float = Field(default=0.02, ge=0, lt=1)
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=5e-4, decay_share=0.7)

    @model_validator(mode="after")
    def _passes_are_of_the_sets(self) -> SFTConfig:
        sets = [self.conversations] if isinstance(self.conversations, str) else self.conversations
        for name in self.passes:
            if name not in sets:
                raise ValueError(f"passes: {name!r} is not among `conversations`: write one of {', '.join(sets)}")
        return self


class AtlasConfig(StageConfig):
    """Write a small labelled web, with conversations, prompts and held-out tasks."""

    stage: Literal["atlas"] = "atlas"
    facts: int | None = Field(
        default=None, ge=44, description="How many facts the web states; all of them if not given."
    )
    documents_per_entity: int = Field(
        default=AtlasSettings.documents_per_entity,
        ge=2,
        le=48,
        description="Pages about each entity; scales all others.",
    )
    noise: float = Field(
        default=AtlasSettings.noise, ge=0, le=0.5, description="Planted defects, as a share of the clean pages."
    )
    html_share: float = Field(
        default=AtlasSettings.html_share, ge=0, le=1, description="Share of the pages that are served as HTML."
    )
    conversations: int = Field(default=AtlasSettings.conversations, ge=1, description="Conversations to write.")
    refusal_share: float = Field(
        default=AtlasSettings.refusal_share, ge=0, le=1, description="Share of harmful requests that are refused."
    )
    evasion_share: float = Field(
        default=AtlasSettings.evasion_share,
        ge=0,
        le=1,
        description="Share of the harmful requests not refused that are answered with something else, and harmless.",
    )
    over_refusal_share: float = Field(
        default=AtlasSettings.over_refusal_share,
        ge=0,
        le=1,
        description="Share of harmless look-alikes that an over-cautious annotator refuses.",
    )
    prompts: int = Field(default=AtlasSettings.prompts, ge=1, description="Prompts to sample responses to.")
    styles: dict[Style, Annotated[float, Field(ge=0)]] = Field(
        default=dict(STYLES),
        description="Weights of the answer styles; a style that is not named is not used.",
    )


class SampleConfig(ToolUsingConfig):
    """Draw several replies to every prompt."""

    stage: Literal["sample"] = "sample"
    model: ModelInput | None = Field(
        default=None, description="The model that replies; beside an `engine`, the one that it serves, for the record."
    )
    engine: ServerSettings | None = Field(
        default=None,
        description="A server that replies instead, for example `{url: http://127.0.0.1:8000/v1, model: NAME}`.",
    )
    prompts: PromptsInput = Field(description="What it is asked.")
    num_replies: int = Field(default=4, ge=1, description="Replies to each prompt.")
    max_tokens: int = Field(default=64, ge=1, description="Longest reply.")
    temperature: float = Field(default=1.0, ge=0)
    top_k: int = Field(default=0, ge=0, description="Draw from the k likeliest tokens; 0: from all.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Draw from the likeliest tokens that sum to this.")
    min_p: float = Field(default=0.0, ge=0, le=1, description="Rule out tokens below this share of the likeliest one.")
    stop: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[], description="Texts that end a reply; they are not part of it."
    )
    guard: Literal["none", "pii"] = Field(
        default="none", description="`pii` masks private strings that the prompt does not have, and counts them."
    )
    max_slots: int = Field(default=128, ge=1, description="Replies decoded at once; never changes a reply's numbers.")
    limit: int | None = Field(default=None, ge=1, description="Use only so many prompts.")
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _somebody_replies(self) -> SampleConfig:
        if self.model is None and self.engine is None:
            raise ValueError("nobody replies: name a `model`, or an `engine` that serves one")
        if self.tools and self.engine is not None:
            raise ValueError("`tools` are run between the turns of a `model` of ours: leave `engine` or `tools` out")
        if self.tools and self.stop:
            raise ValueError("`stop` would cut calls short: leave it or `tools` out")
        return self


class PreferConfig(StageConfig):
    """Compare replies: a simulated annotator with a stated rubric and noise does, or people do."""

    stage: Literal["prefer"] = "prefer"
    completions: CompletionsInput = Field(description="Several replies to each prompt.")
    by: Literal["simulated", "people"] = Field(
        default="simulated", description="Who prefers: the simulated annotator, or people, for whom the stage waits."
    )
    annotator: str = Field(
        default="simulated-1", min_length=1, description="The simulated annotator's name, written into every row."
    )
    noise: float = Field(default=0.1, ge=0, lt=0.5, description="Probability of naming the worse reply.")
    weights: dict[str, float] = Field(default={}, description="Other weights of criteria than the default.")
    validation_share: float = Field(default=0.15, ge=0, lt=1, description="Share of the prompts, by their hash.")
    kinds: list[str] | None = Field(
        default=None, min_length=1, description="Compare replies to prompts of these kinds only; all if not given."
    )
    people: PeopleSettings = PeopleSettings()

    @model_validator(mode="after")
    def _settings_are_used(self) -> PreferConfig:
        if self.by == "simulated" and self.people != PeopleSettings():
            raise ValueError("`people` says nothing to the simulated annotator: set `by: people`, or leave it out")
        return self


class RewardConfig(GradientConfig):
    """Train a reward model on preference pairs and rankings."""

    stage: Literal["reward"] = "reward"
    model: ModelInput = Field(description="The model whose weights it starts from.")
    preferences: PreferencesInput | list[PreferencesInput] = Field(
        description="Pairs to learn from and to be measured on; of several stages, all together."
    )
    prompts_a_step: int = Field(default=16, ge=1, description="Prompts in one optimiser step, each with all its pairs.")
    micro_batch_prompts: int = Field(default=16, ge=1, description="Prompts in one forward; never changes a result.")
    epochs: float = Field(default=1.0, gt=0)
    num_steps: int | None = Field(default=None, ge=1)
    loss: Literal["logistic", "hinge", "listwise"] = Field(
        default="logistic", description="How the scores of a pair or a ranking are judged: see the table above."
    )
    margin: Annotated[float, Field(ge=0)] | Literal["row"] | None = Field(
        default=None,
        description="How far a chosen reply is to lead: a number, or `row` for what a row states (its `margin`, or the "
        "difference of its ratings). Default, and of rows that state none: 1 for `hinge`, else 0.",
    )
    margin_scale: float = Field(default=1.0, gt=0, description="Multiplies the margins that rows state.")
    labels: Literal["soft", "hard"] = Field(
        default="soft",
        description="`soft` believes a row's label as far as its `probability` says, and wholly where there is none.",
    )
    centring: float = Field(default=0.01, ge=0, description="Weight of (r_chosen + r_rejected)².")
    loop: LoopSettings = LoopSettings(evaluate_every=100)
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-3, warmup_share=0.05)
