"""lm-eval over HTTP: multiple choice, rolling log-likelihood and generate-until are what the model here gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from serve.live import CONTEXT, Running
from tiny import TEXTS
from tutelage.data.completions import Completion
from tutelage.evaluation.harness import Subject
from tutelage.generation.engine import Request
from tutelage.generation.sampling import Sampling

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
STOPS = ["a", " it"]


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    """lm-eval is a peer: it is not among the project's dependencies."""
    api = pytest.importorskip("lm_eval.models.openai_completions", reason="pip install 'lm_eval[api]'")
    instance = pytest.importorskip("lm_eval.api.instance")
    return api.LocalCompletionsAPI, instance.Instance


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("batch", [1, 4])
def test_scores_over_http_are_those_in_process(
    server: Running, parts: tuple[Any, Any], batch: int, concurrency: int
) -> None:
    client, instance = parts
    served = server.models.get("base")
    own, tokenizer = Subject("here", served.speaker.model, served.tokenizer), served.tokenizer
    lm = client(base_url=f"{server.url}/completions", model="base", tokenizer_backend="remote", batch_size=batch,
                num_concurrent=concurrency, max_length=CONTEXT, max_retries=1)  # fmt: skip

    def requests(kind: str, rows: list[tuple[Any, ...]]) -> list[Any]:
        return [instance(request_type=kind, doc={}, arguments=row, idx=place) for place, row in enumerate(rows)]

    choices = [
        (text.partition(" is")[0] + " is", option)
        for text in TEXTS
        for option in (" Paris", " Lima, é", " Cairo is it.")
    ]
    found = lm.loglikelihood(requests("loglikelihood", choices), disable_tqdm=True)
    pairs = [(tokenizer.encode(text), tokenizer.encode(text + option)) for text, option in choices]
    completions = [Completion(whole, len(prompt)) for prompt, whole in pairs]
    assert [score for score, _ in found] == pytest.approx(own.logprobs(completions), abs=1e-4)
    for (_, greedy), completion in zip(found, completions, strict=True):
        with torch.no_grad():
            drawn = own.model(torch.tensor([completion.ids]))[0].argmax(-1)[completion.num_prompt - 1 : -1].tolist()
        assert greedy == (drawn == completion.ids[completion.num_prompt :])

    rolled = lm.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,) for text in TEXTS]), disable_tqdm=True)
    wholes = [Completion([lm.prefix_token_id, *tokenizer.encode(text)], 1) for text in TEXTS]
    assert rolled == pytest.approx(own.logprobs(wholes), abs=1e-4)

    settings = {"until": STOPS, "max_gen_toks": 12, "temperature": 0.0, "do_sample": False}
    asked = [(text[:15], settings) for text in TEXTS]
    replies = lm.generate_until(requests("generate_until", asked), disable_tqdm=True)
    greedy_requests = [Request(tokenizer.encode(text), Sampling(12, 0.0), stop_strings=STOPS) for text, _ in asked]
    assert replies == [reply.text for reply in served.speaker.engine.generate(greedy_requests)]
