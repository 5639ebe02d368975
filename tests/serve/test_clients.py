"""Clients of others, unchanged: llm and LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from serve.live import Running

langchain_openai = pytest.importorskip("langchain_openai")
llm = pytest.importorskip("llm")


def test_langchain_talks_streams_and_calls_tools(server: Running) -> None:
    from langchain_core.tools import tool

    @tool
    def look_up(country: Literal["France", "Spain"]) -> str:  # any text would be as long as this model likes
        """Look a country up."""
        return country

    chat = langchain_openai.ChatOpenAI(
        base_url=server.url, api_key="any", model="instruct", max_tokens=12, seed=1, max_retries=0
    )
    said = chat.invoke("What is the capital of France?")
    assert said.content
    assert said.response_metadata["finish_reason"] in ("stop", "length")
    pieces = list(chat.stream("What is the capital of France?"))
    assert "".join(piece.content for piece in pieces) == said.content
    calling = chat.bind_tools([look_up], tool_choice="look_up").invoke("France", max_tokens=400)
    assert [call["name"] for call in calling.tool_calls] == ["look_up"]
    assert calling.tool_calls[0]["args"]["country"] in ("France", "Spain")


def test_llm_talks_and_streams(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: tiny\n  model_name: instruct\n  api_base: {server.url}\n", encoding="utf-8"
    )
    model = llm.get_model("tiny")
    model.key = "any"
    whole = model.prompt("What is the capital of France?", stream=False, max_tokens=8, seed=1).text()
    assert whole
    assert "".join(model.prompt("What is the capital of France?", stream=True, max_tokens=8, seed=1)) == whole
