"""Completions that are stored: which answers are kept, and an answer given before to a request that is repeated."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from tutelage.serve.chat import Chat, call_deltas
from tutelage.serve.protocol import ChatBody
from tutelage.serve.refusal import invalid
from tutelage.serve.saying import Said
from tutelage.store import completions
from tutelage.store.completions import Kept
from tutelage.store.engine import Store

RETRY_SECONDS = 600  # clients give up before
MAX_IDEMPOTENCY_KEY = 255


class Asked:
    """A request to be stored: whose, under which key of its own, and whether the client says that it repeats it."""

    def __init__(self, body: ChatBody, owner: str, headers: Mapping[str, str]) -> None:
        self.body, self.owner = body, owner
        self.key = headers.get("idempotency-key") or None
        if self.key is not None and len(self.key) > MAX_IDEMPOTENCY_KEY:
            raise invalid(f"Idempotency-Key is longer than {MAX_IDEMPOTENCY_KEY}", None)
        self._repeats = headers.get("x-stainless-retry-count", "0") != "0"
        text = json.dumps(body.model_dump(mode="json", exclude={"stream", "stream_options"}), sort_keys=True)
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()

    def before(self, store: Store) -> Kept | None:
        """The answer that was given before, if the request is a repetition."""
        if self.key is None and not self._repeats:
            return None
        found = completions.same_request(store, self.owner, self.key, self.sha256, time.time() - RETRY_SECONDS)
        if found is not None and found.request_sha256 != self.sha256:
            raise invalid("this Idempotency-Key belongs to another request", None, "idempotency_key_reused")
        return found

    def keep(self, store: Store, chat: Chat, completion: Mapping[str, Any]) -> None:
        """Store an answer, once."""
        settings = {"tools", "tool_choice", "response_format", "temperature", "top_p", "seed", "stop", "n"}
        request = self.body.model_dump(mode="json", include=settings, exclude_none=True)
        kept = Kept(
            id=chat.id,
            model=chat.served.name,
            created=chat.created,
            request_sha256=self.sha256,
            body=dict(completion),
            messages=chat.messages,
            request=request,
            metadata=dict(self.body.metadata or {}),
            owner=self.owner,
            idempotency_key=self.key,
        )
        completions.keep(store, kept)


def shown(kept: Kept) -> dict[str, Any]:
    """A stored completion as it is answered."""
    return {**kept.body, **kept.request, "metadata": kept.metadata}


async def replay(kept: Kept, includes_usage: bool) -> AsyncGenerator[dict[str, Any]]:
    """A stored answer as a stream."""
    head = {key: kept.body[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    told = {"usage": None} if includes_usage else {}
    for choice in kept.body["choices"]:
        message, index = choice["message"], choice["index"]
        said = Said(message["content"] or "", choice["finish_reason"], message.get("tool_calls", []))
        deltas = [{"role": "assistant", "content": ""}, {"content": said.text}, *call_deltas(said), {}]
        for place, delta in enumerate(deltas):
            reason = said.finish_reason if place == len(deltas) - 1 else None
            part = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
            yield {**head, "choices": [part], **told}
    if includes_usage:
        yield {**head, "choices": [], "usage": kept.body["usage"]}
