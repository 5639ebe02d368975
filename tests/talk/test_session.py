"""The conversation itself: what is kept, what is refused, what is drawn."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError, TutelageError
from tutelage.generation.sampling import Sampling
from tutelage.talk.session import Session
from tutelage.talk.speaker import Speaker
from tutelage.talk.terminal import converse
from tutelage.talk.text import one_line, visible

SAMPLING = Sampling(max_tokens=8, temperature=1.0)


def say(session: Session, text: str) -> str:
    exchange = session.ask(text)
    pieces = list(exchange.speech)
    session.keep(exchange)
    assert "".join(pieces) == exchange.speech.text
    return exchange.speech.text


def scripted(session: Session, text: str) -> tuple[list[str], str, list[TutelageError]]:
    out, err, errors = io.StringIO(), io.StringIO(), list[TutelageError]()
    refused = converse(session, text.splitlines(keepends=True), out, err, errors.append)
    assert refused == bool(errors)
    return out.getvalue().split("\n")[:-1], err.getvalue(), errors


@given(st.text())
def test_no_text_can_steer_a_terminal(text: str) -> None:
    shown = visible(text)
    assert len(shown) == len(text)
    assert not any((ord(letter) < 32 and letter not in "\n\t") or 0x7F <= ord(letter) < 0xA0 for letter in shown)
    assert "".join(map(visible, text)) == shown
    assert "\n" not in one_line(text)


def test_escapes_and_reversals_become_visible() -> None:
    assert visible("\x1b[2J\x9b31m\r\x07 ok\n") == "␛[2J�31m␍␇ ok\n"
    assert visible("safe\u202egpj.exe") == "safe�gpj.exe"


def test_the_same_seed_and_words_give_the_same_conversation(speaker: Speaker) -> None:
    first, second, other = (Session(speaker, SAMPLING, seed) for seed in (3, 3, 4))
    talk = [[say(session, text) for text in ("hello", "and Spain?")] for session in (first, second, other)]
    assert talk[0] == talk[1]
    assert talk[0] != talk[2]


def test_a_retry_takes_the_place_of_the_reply_and_draws_anew(speaker: Speaker) -> None:
    session = Session(speaker, SAMPLING)
    reply = say(session, "hello")
    exchange = session.retry()
    list(exchange.speech)
    session.keep(exchange)
    assert [turn.role for turn in session.turns] == ["user", "assistant"]
    assert session.turns[1].content != reply
    assert session.undo() == "hello"
    assert session.turns == ()
    with pytest.raises(DataError, match="nothing to undo"):
        session.undo()


def test_a_prompt_that_does_not_fit_changes_nothing(speaker: Speaker) -> None:
    session = Session(speaker, SAMPLING)
    say(session, "hello")
    before = session.turns
    with pytest.raises(DataError) as caught:
        session.ask("y" * 400)
    assert "context is 192 tokens" in caught.value.message
    assert "nothing was dropped" in caught.value.message
    assert "/undo or /clear" in caught.value.hint
    with pytest.raises(DataError, match="with the system message"):
        session.instruct("y" * 400)
    assert (session.turns, session.system) == (before, None)
    with pytest.raises(DataError):
        Session(speaker, SAMPLING, system="y" * 400)


def test_a_reply_that_fills_the_context_says_so(speaker: Speaker) -> None:
    session = Session(speaker, Sampling(max_tokens=1000, temperature=1.0))
    exchange = session.ask("hello")
    list(exchange.speech)
    assert exchange.speech.ended in ("context", "stop")


def test_a_reply_cut_before_its_first_word_leaves_no_trace(speaker: Speaker) -> None:
    session = Session(speaker, SAMPLING)
    assert not session.keep(session.ask("hello"))
    assert session.turns == ()


def test_saved_conversations_are_rows_to_train_on(speaker: Speaker, tmp_path: Path) -> None:
    from tutelage.talk.masks import read_rows

    session = Session(speaker, SAMPLING, system="Be brief.")
    say(session, "hello")
    path = tmp_path / "chat.jsonl"
    assert (session.save(path), session.save(path)) == (3, 3)
    rows = read_rows(path, 5)
    assert [message["role"] for message in rows[0]["messages"]] == ["system", "user", "assistant"]
    assert len(path.read_text().splitlines()) == 2


def test_scripts_get_one_line_for_each_line(speaker: Speaker, tmp_path: Path) -> None:
    talk = f"hello\n\n{'y' * 400}\n/temperature 0\n/nope\nhi\n/retry\n/save {tmp_path}/c.jsonl\n//etc\n/quit\nx\n"
    lines, said, errors = scripted(Session(speaker, SAMPLING), talk)
    assert len(lines) == 6  # hello, the empty one, the refused one, hi, its retry, //etc
    assert lines[1:3] == ["", ""]
    assert lines[3] == lines[4] != ""  # temperature 0
    assert all(line.isprintable() or "\t" in line for line in lines)
    assert said == f"temperature 0\n4 messages appended to {tmp_path}/c.jsonl\n"
    assert [error.message.split(";")[0] for error in errors][1] == "there is no command /nope"
    messages = json.loads((tmp_path / "c.jsonl").read_text())["messages"]
    assert [message["content"] for message in messages[::2]] == ["hello", "hi"]


@pytest.mark.parametrize(
    "command", ["/temperature hot", "/temperature -1", "/temperature nan", "/save", "/undo", "/retry"]
)
def test_commands_that_cannot_be_done_say_why(speaker: Speaker, command: str) -> None:
    _, _, errors = scripted(Session(speaker, SAMPLING), command)
    assert isinstance(errors[0], DataError)
