"""64 clients that stream at once: no error, none left behind, memory that does not grow."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

import tiny
from serve.live import CONTEXT, free_port, serve, wait_for

CLIENTS, MEBI = 64, 2**20
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clients of the benchmark."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "serve"))
    return importlib.import_module("load")


def test_a_crowd_is_served_without_errors_fairly_and_in_bounded_memory(tmp_path: Path, load: Any) -> None:
    tiny.model_artifact(tmp_path / "instruct", max_position_embeddings=CONTEXT)
    port = free_port()
    with serve(tmp_path / "instruct", port) as process, httpx2.Client(base_url=f"http://127.0.0.1:{port}/v1") as client:
        wait_for(client, process)
        place = load.Place(f"http://127.0.0.1:{port}/v1", "instruct", process.pid)

        def until_all_have(count: int) -> Any:
            prompt = [{"role": "user", "content": "What is the capital of France?"}]
            return load.crowded(place, prompt, 48, CLIENTS, lambda crowd: min(crowd.replies) >= count)

        until_all_have(2)
        before = load.memory_bytes(process.pid)
        crowd = until_all_have(6)
        grown = load.memory_bytes(process.pid) - before
        process.terminate()
        _, said = process.communicate()
    assert (process.returncode, said) == (0, "")
    assert crowd.fairness > 0.4
    assert grown < 48 * MEBI
    assert len(crowd.first_tokens) == sum(crowd.replies)
