"""Settings of the stages that draw replies: the server that may give them, the tools that they may call."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from tutelage.run.artifacts import CorpusInput
from tutelage.run.config import StageConfig, Strict

ToolName = Annotated[str, Field(pattern=r"^(calculator|python|search|[\w.]+:\w+)$")]


class ServerSettings(Strict):
    """A server of the OpenAI protocol, such as vLLM, that takes the place of the engine."""

    url: str = Field(default="http://127.0.0.1:8000/v1", description="Its address, with `/v1` where it has that.")
    model: str = Field(min_length=1, description="The name that it gives the model.")
    api_key_env: str = Field(
        default="OPENAI_API_KEY", description="Environment variable with the key; nothing is sent if it is not set."
    )
    concurrency: int = Field(default=16, ge=1, description="Requests under way at once.")
    n: int = Field(default=1, ge=1, description="Replies asked for in one request, which share its seed.")
    timeout: float = Field(default=120.0, gt=0, description="Seconds to wait for an answer.")
    attempts: int = Field(
        default=6, ge=1, description="How often a request is made if the server is busy, fails or keeps silent."
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no address: write one such as http://127.0.0.1:8000/v1")
        if "@" in value:
            raise ValueError("an address with a name or a key in it would be written into the run: use `api_key_env`")
        return value


class ToolUsingConfig(StageConfig):
    """A stage whose model may call tools."""

    tools: list[ToolName] = Field(
        default=[],
        description="What may be called: `calculator`, `python` (sandboxed), `search`, and functions of yours as "
        "`package.module:function`.",
    )
    library: CorpusInput | None = Field(default=None, description="Where the tool `search` looks.")
    max_rounds: int = Field(default=4, ge=0, description="Rounds of tool calls in one reply.")
