"""Requests and tokens a second over HTTP at 1, 8 and 64 clients: `tutelage serve` beside llama.cpp's server.

The quickstart's `instruct`, which `TUTELAGE_SERVED_MODEL` or `runs/quickstart/instruct` is: the same weights in float32
as GGUF, and the same texts, greedily. llama.cpp's server is that of llama-cpp-python, built from source.
"""

from __future__ import annotations

import os
import random
import statistics
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from gguf_model import write_gguf
from load import Cost, asked, started
from sides import arguments, report
from small import SERVE

CLIENTS = {1: 16, 8: 64, 64: 192}  # clients at once → requests in all
NEW = 48
WORDS = [
    "What",
    "is",
    "the",
    "capital",
    "of",
    "France",
    "and",
    "why",
    "do",
    "people",
    "in",
    "Peru",
    "like",
    "to",
    "read",
    "about",
    "old",
    "rivers",
]
PEER_NAME = f"llama-cpp-python {version('llama-cpp-python')}"
PEER = (
    "import sys; import uvicorn; from llama_cpp.server.app import create_app; "
    "from llama_cpp.server.settings import ModelSettings, ServerSettings; "
    "model = ModelSettings(model=sys.argv[1], model_alias='peer', n_ctx=256, n_threads=int(sys.argv[2]), "
    "n_threads_batch=int(sys.argv[2]), type_k=0, type_v=0, verbose=False); "
    "app = create_app(server_settings=ServerSettings(interrupt_requests=False), model_settings=[model]); "
    "uvicorn.run(app, port=int(sys.argv[3]), log_level='warning')"
)


def texts_of(count: int, seed: int) -> list[str]:
    """No two alike."""
    numbers = random.Random(seed)
    return [" ".join(numbers.choice(WORDS) for _ in range(24)) for _ in range(count)]


def rate(costs: list[Cost], threads: int) -> float:
    return statistics.median(cost.tokens / cost.seconds(threads) for cost in costs[1:])


def main() -> None:
    chosen = arguments(__doc__)
    folder = Path(os.environ.get("TUTELAGE_SERVED_MODEL", "runs/quickstart/instruct"))
    if not (folder / "config.json").is_file():
        print(f"  left out: {folder} is no model; name one in TUTELAGE_SERVED_MODEL", flush=True)
        return
    environment = {"OMP_NUM_THREADS": str(chosen.threads)}
    with TemporaryDirectory() as temporary, ExitStack() as stack:
        file = Path(temporary) / "model.gguf"
        write_gguf(folder, file)
        command = ["-c", SERVE, "serve", str(folder), "--store", "none", "--slots", "64", "--port"]
        ours = stack.enter_context(started(command, folder.name, environment))
        peer = stack.enter_context(started(["-c", PEER, str(file), str(chosen.threads)], "peer", environment))
        for clients, count in CLIENTS.items():
            count = max(2, count // 8) if chosen.quick else count
            costs: tuple[list[Cost], list[Cost]] = ([], [])
            for turn in range(chosen.rounds + 1):  # the first warms up
                texts = texts_of(count, 1 + turn)
                for side, place in zip(costs, (ours, peer), strict=True):
                    side.append(asked(place, texts, NEW, clients))
            mine, theirs = (rate(side, chosen.threads) for side in costs)
            pairs = list(zip(costs[0][-1].texts, costs[1][-1].texts, strict=True))
            answered = [
                round(count / statistics.median(cost.seconds(chosen.threads) for cost in side[1:]), 2) for side in costs
            ]
            report(f"serving, {folder.name}, float32, {clients} clients", PEER_NAME, "one request after the other",
                   mine, theirs, "tokens/s", 0.0, same_replies=round(sum(a == b for a, b in pairs) / len(pairs), 3),
                   requests_per_second=answered)  # fmt: skip


if __name__ == "__main__":
    main()
