"""Completions over HTTP: echoed log-probs as lm-eval reads them, texts and ids, streams, tokenizer routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
import torch

import tiny
from serve.live import CONTEXT, Running

IDS = tiny.tokenizer().encode("The capital of France is Paris.")


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as found:
        yield found


def complete(client: openai.OpenAI, prompt: Any, **settings: Any) -> Any:
    return client.completions.create(**{"model": "base", "prompt": prompt, "seed": 1, **settings})


def forward(ids: list[int]) -> torch.Tensor:
    model = tiny.model(1, vocab_size=tiny.tokenizer().vocab_size, max_position_embeddings=CONTEXT)
    with torch.no_grad():
        return model(torch.tensor([ids])).log_softmax(-1)[0]


def test_echoed_log_probs_are_those_of_a_forward_pass(client: openai.OpenAI) -> None:
    answer = complete(client, [IDS, IDS[:3], IDS[2:]], echo=True, max_tokens=1, logprobs=1, temperature=0)
    for choice, ids in zip(answer.choices, (IDS, IDS[:3], IDS[2:]), strict=True):
        expected, given = forward(ids), choice.logprobs
        lengths = {len(given.tokens), len(given.token_logprobs), len(given.top_logprobs), len(given.text_offset)}
        assert lengths == {len(ids) + 1}
        assert given.token_logprobs[0] is given.top_logprobs[0] is None
        told = [float(row[token]) for row, token in zip(expected, ids[1:], strict=False)]
        assert given.token_logprobs[1:-1] == pytest.approx(told, abs=1e-4)
        assert given.token_logprobs[-1] == pytest.approx(float(expected[-1].max()), abs=1e-4)
        for place, row in enumerate(expected[:-1], start=1):
            top = max(given.top_logprobs[place], key=given.top_logprobs[place].get)
            assert (top == given.tokens[place]) == (int(row.argmax()) == ids[place])
            assert given.top_logprobs[place][top] == pytest.approx(float(row.max()), abs=1e-4)


def test_an_end_of_text_that_is_sampled_is_among_the_log_probs(client: openai.OpenAI) -> None:
    tokenizer = tiny.tokenizer()
    answer = complete(client, [IDS], echo=True, max_tokens=1, logprobs=1, logit_bias={str(tokenizer.eos_id): 100})
    choice = answer.choices[0]
    assert len(choice.logprobs.tokens) == len(IDS) + 1
    assert choice.logprobs.tokens[-1] == tokenizer.token(tokenizer.eos_id)
    assert (choice.text, choice.finish_reason) == ("The capital of France is Paris.", "stop")
    assert answer.usage.completion_tokens == 1


def test_a_text_begins_a_document_and_ids_stay_as_they_are(client: openai.OpenAI) -> None:
    text, tokenizer = "The capital of France is Paris.", tiny.tokenizer()
    by_text, by_ids = complete(client, text), complete(client, [tokenizer.bos_id, *IDS])
    assert by_text.choices[0].text == by_ids.choices[0].text
    assert by_text.usage == by_ids.usage
    assert complete(client, IDS).usage.prompt_tokens == len(IDS)
    scored = complete(client, text, echo=True, max_tokens=0, logprobs=0).choices[0]
    expected = forward([tokenizer.bos_id, *IDS])
    told = [float(row[token]) for row, token in zip(expected, IDS, strict=False)]
    assert scored.text == text
    assert scored.logprobs.token_logprobs == pytest.approx(told, abs=1e-4)
    for offset, token in zip(scored.logprobs.text_offset, scored.logprobs.tokens, strict=True):
        assert text[offset:].startswith(token)


def test_several_prompts_give_n_choices_each_in_their_order(client: openai.OpenAI) -> None:
    both = complete(client, ["The capital", "Paris is"], n=2, temperature=0).choices
    assert [choice.index for choice in both] == [0, 1, 2, 3]
    assert both[0].text == both[1].text == complete(client, "The capital", temperature=0).choices[0].text
    assert both[2].text == complete(client, "Paris is", temperature=0).choices[0].text


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    for settings in ({}, {"echo": True, "logprobs": 2}, {"n": 2, "stop": ["a", "t"]}):
        whole = complete(client, "The capital", max_tokens=20, **settings)
        told = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = list(complete(client, "The capital", max_tokens=20, **told, **settings))
        assert chunks[-1].usage == whole.usage
        for choice in whole.choices:
            parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
            assert "".join(part.text for part in parts) == choice.text
            assert parts[-1].finish_reason == choice.finish_reason
            if choice.logprobs:
                tokens = [token for part in parts if part.logprobs for token in part.logprobs.tokens]
                assert tokens == choice.logprobs.tokens


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [[10**6]]}, "prompt"),
        ({"prompt": [[-1]]}, None),
        ({"prompt": [[20] * (CONTEXT + 1)]}, "prompt"),
        ({"logprobs": 6}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"n": 129}, "n"),
        ({"prompt": ["x"] * 300}, "n"),
    ],
)
def test_what_cannot_be_honoured_is_refused(client: openai.OpenAI, settings: dict[str, Any], param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        complete(client, **{"prompt": "x", **settings})
    assert param is None or refused.value.param == param


def test_the_tokenizer_is_there_for_clients(server: Running) -> None:
    tokenizer = tiny.tokenizer()
    with httpx2.Client(base_url=server.root) as client:
        info = client.get("/tokenizer_info").json()
        assert info["eos_token"] == tokenizer.token(tokenizer.eos_id)
        told = {"prompt": "Paris<|end|>", "add_special_tokens": False}
        ids = client.post("/tokenize", json=told).json()["tokens"]
        assert ids == [*tokenizer.encode("Paris"), tokenizer.end_of_turn_id]
        assert client.post("/detokenize", json={"tokens": ids}).json() == {"prompt": "Paris<|end|>"}
        chat = {"messages": [{"role": "user", "content": "<|end|>"}]}
        assert client.post("/tokenize", json=chat).json()["tokens"].count(tokenizer.end_of_turn_id) == 1
        assert client.post("/tokenize", json={}).status_code == 400
        assert client.post("/detokenize", json={"tokens": [10**6]}).status_code == 400
