"""transformers `generate` behind `/v1/completions`: a server as one writes it. Arguments: folder, dtype, batch, port.

A request is generated with those that wait with it, `batch` at most; others wait until all of these are done, as
`generate` takes batches, not arrivals. With a batch of 1 it serves one after the other.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from transformers import LlamaForCausalLM

Waiting = tuple[list[int], int, asyncio.Future[list[int]]]


def generate(net: LlamaForCausalLM, asked: list[Waiting]) -> list[list[int]]:
    """Greedy replies to a batch, padded on the left."""
    longest, pad = max(len(ids) for ids, _, _ in asked), net.config.pad_token_id
    rows = torch.tensor([[pad] * (longest - len(ids)) + ids for ids, _, _ in asked])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids, _, _ in asked])
    with torch.inference_mode():
        new = net.generate(rows, attention_mask=mask, max_new_tokens=max(most for _, most, _ in asked), do_sample=False)
    replies = new[:, longest:].tolist()
    return [_ended(reply[:most], net.config.eos_token_id) for reply, (_, most, _) in zip(replies, asked, strict=True)]


def _ended(ids: list[int], eos: int) -> list[int]:
    return ids[: ids.index(eos) + 1] if eos in ids else ids


def build(net: LlamaForCausalLM, batch: int) -> FastAPI:
    queue: asyncio.Queue[Waiting] = asyncio.Queue()

    async def work() -> None:
        while True:
            asked = [await queue.get()]
            while len(asked) < batch and not queue.empty():
                asked.append(queue.get_nowait())
            replies = await asyncio.to_thread(generate, net, asked)
            for (_, _, future), reply in zip(asked, replies, strict=True):
                future.set_result(reply)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        task = asyncio.create_task(work())
        yield
        task.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "peer", "object": "model"}]}

    @app.post("/v1/completions")
    async def completions(body: dict[str, Any]) -> dict[str, Any]:
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        queue.put_nowait((body["prompt"], body["max_tokens"], future))
        reply = await future
        text = " ".join(f"w{token}" for token in reply)
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(reply)}
        return {"object": "text_completion", "choices": [{"index": 0, "text": text}], "usage": usage}

    return app


def main() -> None:
    folder, dtype, batch, port = sys.argv[1:]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    net = LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    uvicorn.run(build(net, int(batch)), port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
