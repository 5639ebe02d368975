"""Tokenizer routes, at the root as lm-eval expects them: which special tokens, text to ids, ids to text."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest

from tutelage.data.completions import prompt_ids
from tutelage.serve.models import Served
from tutelage.serve.prompts import plain_messages, require_chat, without_ids
from tutelage.serve.protocol import DetokenizeBody, TokenizeBody
from tutelage.serve.refusal import invalid

ROUTER = APIRouter()


@ROUTER.get("/tokenizer_info")
def _info(request: HttpRequest, model: str | None = None) -> dict[str, Any]:
    """The special tokens and the chat template."""
    tokenizer = request.app.state.models.get(model).tokenizer
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.token(tokenizer.bos_id),
        "eos_token": tokenizer.token(tokenizer.eos_id),
        "pad_token": tokenizer.token(tokenizer.pad_id),
        "chat_template": tokenizer.chat_template,
    }


@ROUTER.post("/tokenize")
def _tokenize(request: HttpRequest, body: TokenizeBody) -> dict[str, Any]:
    """Ids of a text, in which names of special tokens are those tokens, or of a conversation."""
    served: Served = request.app.state.models.get(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise invalid("give either `prompt` or `messages`", "prompt")
    if body.messages is not None:
        require_chat(served)
        ids = prompt_ids(served.tokenizer, without_ids(plain_messages(body.messages)))
    else:
        first = [served.tokenizer.bos_id] if body.add_special_tokens else []
        ids = [*first, *served.tokenizer.encode_markup(body.prompt or "")]
    return {"tokens": ids, "count": len(ids), "max_model_len": served.context}


@ROUTER.post("/detokenize")
def _detokenize(request: HttpRequest, body: DetokenizeBody) -> dict[str, Any]:
    """The text of ids, special tokens by their names."""
    served: Served = request.app.state.models.get(body.model)
    size = served.tokenizer.vocab_size
    if body.tokens and max(body.tokens) >= size:
        raise invalid(f"tokens: there is no token {max(body.tokens)}; {served.name} has {size}", "tokens")
    return {"prompt": served.tokenizer.decode(body.tokens, skip_special_tokens=False)}
