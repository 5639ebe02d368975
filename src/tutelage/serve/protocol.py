"""Requests as clients send them. Null means absent; a field that is not here is ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_N, MAX_TOPS, MAX_COMPLETION_TOPS = 128, 20, 5
MAX_STOPS, MAX_MESSAGES = 64, 4096
MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512

Name = Annotated[str, Field(min_length=1, max_length=256)]
Key = Annotated[str, Field(max_length=MAX_KEY)]
Value = Annotated[str, Field(max_length=MAX_VALUE)]
Metadata = Annotated[dict[Key, Value], Field(max_length=MAX_PAIRS)]
TokenIds = list[Annotated[int, Field(ge=0, lt=2**31)]]


class Body(BaseModel):
    """The parent of all bodies."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        return {key: entry for key, entry in value.items() if entry is not None} if isinstance(value, dict) else value


class Part(Body):
    """A piece of a message; of the kinds, only text is known here."""

    type: str
    text: str = ""


class Message(Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class StreamOptions(Body):
    """How a stream ends."""

    include_usage: bool = False


class Drawing(Body):
    """What chats and completions share: how much is drawn, and how."""

    model: Name
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, ge=0, le=1)
    top_k: int = Field(default=0, ge=-1, lt=2**31)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    n: int = Field(default=1, ge=1, le=MAX_N)
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> list[str]:
        """Strings at which a reply ends."""
        found = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in dict.fromkeys(found) if text]


class ChatBody(Drawing):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOPS)
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool = True
    response_format: dict[str, Any] | None = None
    store: bool = False
    metadata: Metadata | None = None
    modalities: list[str] | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None
    reasoning_effort: str | None = None


class CompletionBody(Drawing):
    """POST /v1/completions."""

    prompt: str | TokenIds | list[str] | list[TokenIds]
    max_tokens: int = Field(default=16, ge=0)
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=MAX_COMPLETION_TOPS)
    suffix: str | None = None
    best_of: int | None = Field(default=None, ge=1, le=MAX_N)


class UpdateBody(Body):
    """POST /v1/chat/completions/{id}: new metadata in place of the old."""

    metadata: Metadata


class TokenizeBody(Body):
    """POST /tokenize: a text or a conversation."""

    model: Name | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(default=None, max_length=MAX_MESSAGES)
    add_special_tokens: bool = True
    add_generation_prompt: bool = True


class DetokenizeBody(Body):
    """POST /detokenize."""

    model: Name | None = None
    tokens: TokenIds
