"""A chat that masks private strings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tutelage.commands.chat import command
from tutelage.errors import DataError
from tutelage.generation.sampling import Sampling
from tutelage.stages.replying.guarding import guarded
from tutelage.talk.guarded import GuardedSpeech
from tutelage.talk.session import Session
from tutelage.talk.speaker import Speaker
from tutelage.talk.stream import Speech

BEFORE = [{"role": "user", "content": "Call me at 212-555-0147. Who else is there?"}]


class Told(Speech):
    """A speech that says what it is told, in pieces."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.told, self.text, self.num_tokens = list(messages), "", 3

    def __iter__(self) -> Iterator[str]:
        for message in self.told:
            for letter in message["content"]:
                yield from self._add(letter)
        self.ended = "stop"

    def messages(self) -> list[dict[str, Any]]:
        return self.told


def test_a_reply_is_shown_at_once_and_masked_everywhere() -> None:
    speech = GuardedSpeech(Told({"role": "assistant", "content": "Not 212-555-0147: ask ada@example.org."}), BEFORE)
    assert list(speech) == ["Not 212-555-0147: ask <EMAIL>."]
    assert speech.text == speech.reply == speech.messages()[0]["content"] == "Not 212-555-0147: ask <EMAIL>."
    assert (speech.ended, speech.num_tokens, speech.leaks) == ("stop", 3, 1)


def test_what_a_tool_found_may_be_said_afterwards_but_not_before() -> None:
    turns = [
        {"role": "assistant", "content": "I look for ada@example.org."},
        {"role": "tool", "content": "ada@example.org"},
        {"role": "assistant", "content": "It is ada@example.org."},
    ]
    speech = GuardedSpeech(Told(*turns), BEFORE)
    list(speech)
    assert [message["content"] for message in speech.messages()] == [
        "I look for <EMAIL>.", "ada@example.org", "It is ada@example.org.",
    ]  # fmt: skip
    text, clean, count = guarded(turns[-1]["content"], turns, BEFORE)
    assert (text, count) == ("It is ada@example.org.", 1)
    assert clean is not None
    assert clean[0]["content"] == "I look for <EMAIL>."


def test_a_speech_that_was_stopped_shows_nothing() -> None:
    speech = GuardedSpeech(Told({"role": "assistant", "content": "ada@example.org"}), BEFORE)
    assert (speech.ended, speech.text, speech.reply) == ("cut", "", "")


def test_a_guarded_session_says_the_same_where_nothing_is_private(speaker: Speaker) -> None:
    said = []
    for guard in (False, True):
        session = Session(speaker, Sampling(8, 1.0), 3, guard=guard)
        exchange = session.ask("hello")
        said.append("".join(exchange.speech))
        assert session.keep(exchange)
    assert said[0] == said[1]


def test_there_is_no_other_guard() -> None:
    with pytest.raises(DataError, match="no such guard"):
        command("nowhere", guard="poi")
