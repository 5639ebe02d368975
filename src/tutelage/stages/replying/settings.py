"""Settings of the stages that draw replies, or take stored ones: who gives them, which tools they may call."""

from __future__ import annotations

import difflib
import re
from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator

from tutelage.run.artifacts import ConversationsInput, CorpusInput
from tutelage.run.config import StageConfig, Strict
from tutelage.tools.toolbox import BUILT_IN


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

    tools: list[str] = Field(
        default=[],
        description="What may be called: `calculator`, `python` (sandboxed), `search`, and functions of yours as "
        "`package.module:function`.",
    )
    library: CorpusInput | None = Field(default=None, description="Where the tool `search` looks.")
    max_rounds: int = Field(default=4, ge=0, description="Rounds of tool calls in one reply.")

    @field_validator("tools")
    @classmethod
    def _are_tools(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in BUILT_IN and not re.fullmatch(r"[\w.]+:\w+", name):
                near = difflib.get_close_matches(name, BUILT_IN, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"built in are {', '.join(BUILT_IN)}"
                raise ValueError(f"there is no tool {name!r}; {hint} (one of yours: `package.module:function`)")
        return value


class ToolsConfig(StageConfig):
    """Write conversations in which tools are called, and held-out items."""

    stage: Literal["tools"] = "tools"
    arithmetic: int = Field(default=4000, ge=0, description="Conversations about sums, for the calculator.")
    digits: int = Field(default=3, ge=1, le=9, description="Of the numbers in them.")
    unaided_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of the sums without a tool, answered from memory: what a calculator is compared with.",
    )
    functions: int = Field(default=6000, ge=0, description="Conversations about many little tools with definitions.")
    most_others: int = Field(default=3, ge=1, description="Tools offered beside the right one, at most.")
    plain: ConversationsInput | None = Field(
        default=None, description="Conversations that need no tool: from them is learnt when not to call."
    )
    words: CorpusInput | None = Field(
        default=None, description="Text whose words are things and values of the little tools, beside made-up ones."
    )
    plain_items_share: float = Field(default=0.02, ge=0, lt=1, description="Share of `plain` that becomes items.")
    gsm8k: str | list[str] = Field(default=[], description="Files of GSM8K; its annotated sums become calls.")
    seal_tools: str | None = Field(default=None, description="The folder of Seal-Tools (tool.jsonl and requests).")
    seal_held_out: float = Field(default=0.2, ge=0, lt=1, description="Share of its tools that is never learnt.")
    items: int = Field(default=200, ge=1, description="Held-out items of each kind that is generated.")
    on_problem: Literal["skip", "stop"] = Field(
        default="skip", description="At a row that cannot be used: report it and go on, or stop."
    )


class StoredConfig(StageConfig):
    """Take completions that clients of `tutelage serve` had stored, as conversations."""

    stage: Literal["stored"] = "stored"
    store: str | None = Field(default=None, description="URL of the store; by default that of the run folder.")
    model: str | None = Field(default=None, description="Only what this served model said.")
    metadata: dict[str, str] = Field(default={}, description="Only completions with all of these pairs.")
    since: str | None = Field(default=None, description="Only from this time on: `2026-11-26`, `2026-11-26T10:00`.")
    until: str | None = Field(
        default=None, description="Only before this time; name a later one to take what was stored since."
    )
    unfinished: bool = Field(default=False, description="Take replies that were cut short, too.")
    tags: list[str] = Field(default=[], description="Tags of every conversation, beside its model and metadata.")
    limit: int | None = Field(default=None, ge=1, description="Stop after so many conversations.")
    on_problem: Literal["skip", "stop"] = Field(
        default="skip", description="At a completion that cannot be used: report it and go on, or stop."
    )

    @field_validator("store")
    @classmethod
    def _has_no_password(cls, value: str | None) -> str | None:
        if value is not None and "@" in value:
            raise ValueError("a URL with a name or a password in it would be written into the run: set TUTELAGE_STORE")
        return value

    @field_validator("since", "until")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        if value is not None:
            datetime.fromisoformat(value)
        return value
