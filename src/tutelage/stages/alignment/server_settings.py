"""The settings of a server that replies in place of the engine. Imports nothing heavy."""

from __future__ import annotations

from pydantic import Field, field_validator

from tutelage.run.config import Strict


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
