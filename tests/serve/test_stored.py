"""Stored completions over HTTP: kept when asked, listed, filtered, paged, labelled, deleted; each owner's alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from serve.live import Running, running
from serve.test_chat import ASKED, together
from tutelage.serve.keys import Keys, add_key, hashed, read_keys


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("stored"), keys=Keys([hashed("a"), hashed("b")])) as found:
        yield found


@pytest.fixture
def client(own: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=own.url, api_key="a", max_retries=0) as found:
        yield found
        for stored in list(found.chat.completions.list()):
            found.chat.completions.delete(stored.id)


def keep(client: openai.OpenAI, **settings: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "instruct", "messages": ASKED, "max_tokens": 4, "store": True, **settings}
    )


def test_only_what_is_to_be_stored_is_and_it_is_what_was_answered(client: openai.OpenAI) -> None:
    keep(client, store=False)
    told = keep(client, n=2, metadata={"topic": "capitals"}, temperature=0.5, seed=3)
    (stored,) = client.chat.completions.list()
    assert (stored.id, stored.choices, stored.usage) == (told.id, told.choices, told.usage)
    assert client.chat.completions.retrieve(told.id).metadata == {"topic": "capitals"}
    assert stored.model_extra is not None
    assert (stored.model_extra["temperature"], stored.model_extra["seed"]) == (0.5, 3)
    messages = client.chat.completions.messages.list(told.id).data
    assert [(message.role, message.content) for message in messages] == [("user", ASKED[0]["content"])]


def test_a_stream_is_stored_whole(client: openai.OpenAI) -> None:
    text, reason, _ = together(keep(client, stream=True, seed=4))
    (stored,) = client.chat.completions.list()
    assert (stored.choices[0].message.content, stored.choices[0].finish_reason) == (text, reason)


def test_lists_are_filtered_ordered_and_paged(client: openai.OpenAI) -> None:
    ids = [keep(client, metadata={"even": str(n % 2 == 0), "n": str(n)}).id for n in range(5)]
    chats = client.chat.completions
    assert [stored.id for stored in chats.list()] == ids
    assert [stored.id for stored in chats.list(order="desc")] == ids[::-1]
    assert [stored.id for stored in chats.list(metadata={"even": "True"})] == ids[::2]
    assert [stored.id for stored in chats.list(metadata={"even": "True", "n": "2"})] == [ids[2]]
    assert [stored.id for stored in chats.list(model="base")] == []
    page = chats.list(limit=2)
    assert (page.data[-1].id, page.has_more) == (ids[1], True)
    assert [stored.id for stored in page] == ids  # the client turns the pages
    assert [stored.id for stored in chats.list(limit=2, order="desc", after=ids[3])] == ids[2::-1]
    with pytest.raises(openai.BadRequestError):
        chats.list(after="nobody")


def test_metadata_is_replaced_and_a_deleted_one_is_gone(client: openai.OpenAI) -> None:
    told = keep(client, metadata={"a": "1", "b": "2"})
    chats = client.chat.completions
    assert chats.update(told.id, metadata={"b": "3"}).metadata == {"b": "3"}
    assert [stored.id for stored in chats.list(metadata={"a": "1"})] == []
    with pytest.raises(openai.BadRequestError):
        chats.update(told.id, metadata={str(n): "" for n in range(17)})
    assert chats.retrieve(told.id).metadata == {"b": "3"}
    assert chats.delete(told.id).model_dump() == {"id": told.id, "object": "chat.completion.deleted", "deleted": True}
    for refused in (chats.retrieve, chats.delete):
        with pytest.raises(openai.NotFoundError):
            refused(told.id)


def test_a_repeated_request_is_answered_again_and_stored_once(client: openai.OpenAI) -> None:
    first = keep(client, extra_headers={"Idempotency-Key": "k"})
    again = keep(client, extra_headers={"Idempotency-Key": "k"})
    retried = keep(client, extra_headers={"x-stainless-retry-count": "1"})
    streamed = together(keep(client, extra_headers={"Idempotency-Key": "k"}, stream=True))
    assert first.id == again.id == retried.id
    assert streamed[0] == first.choices[0].message.content
    assert len(list(client.chat.completions.list())) == 1
    with pytest.raises(openai.BadRequestError, match="another request"):
        keep(client, extra_headers={"Idempotency-Key": "k"}, temperature=0.1)
    assert keep(client).id != first.id  # an equal request that is no repetition


def test_one_key_never_sees_what_another_stored(own: Running, client: openai.OpenAI) -> None:
    told = keep(client)
    with openai.OpenAI(base_url=own.url, api_key="b", max_retries=0) as other:
        assert list(other.chat.completions.list()) == []
        for refused in (other.chat.completions.retrieve, other.chat.completions.delete):
            with pytest.raises(openai.NotFoundError):
                refused(told.id)
        with pytest.raises(openai.NotFoundError):
            other.chat.completions.update(told.id, metadata={})
        assert keep(other, extra_headers={"x-stainless-retry-count": "1"}).id != told.id
        for stored in list(other.chat.completions.list()):
            other.chat.completions.delete(stored.id)


def test_every_route_asks_for_the_key(own: Running) -> None:
    schema = httpx2.get(f"{own.root}/openapi.json", headers={"Authorization": "Bearer a"}).json()
    routes = [(method, path) for path, methods in schema["paths"].items() for method in methods]
    assert len(routes) >= 13
    for method, path in [*routes, ("get", "/openapi.json"), ("get", "/nowhere")]:
        for headers in ({}, {"Authorization": "Bearer c"}, {"Authorization": "Basic a"}):
            answer = httpx2.request(method.upper(), f"{own.root}{path}", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), path


def test_a_key_is_shown_once_and_its_file_holds_hashes(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    tokens = [add_key(file, name) for name in ("anna", "ben")]
    assert not any(token in file.read_text() for token in tokens)
    assert file.stat().st_mode & 0o077 == 0
    keys = read_keys(file)
    assert [keys.owner(f"Bearer {token}") for token in tokens] == [hashed(token) for token in tokens]
    assert keys.owner("Bearer nobody") is None


def test_it_survives_the_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'kept.sqlite'}"
    for number in range(2):
        with (
            running(tmp_path / str(number), store=url) as server,
            openai.OpenAI(base_url=server.url, api_key="any") as client,
        ):
            assert len(list(client.chat.completions.list())) == number
            keep(client)
