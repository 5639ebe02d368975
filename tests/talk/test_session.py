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
from tutelage.generation.tool_loop import MAX_ROUNDS
from tutelage.talk.session import Session
from tutelage.talk.speaker import Speaker
from tutelage.talk.terminal import converse
from tutelage.talk.text import one_line, visible
from tutelage.tools.calls import ToolCall
from tutelage.tools.toolbox import Toolbox, calculator

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


def scripted_speaker(speaker: Speaker, monkeypatch: pytest.MonkeyPatch, turns: list[list[int]]) -> None:
    """The model says these tokens, turn by turn."""
    left = iter(turns)
    monkeypatch.setattr(type(speaker.engine), "stream", lambda self, request: iter(next(left)))


def test_calls_are_run_shown_and_kept(speaker: Speaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tokenizer = speaker.tokenizer
    end, begin = [tokenizer.end_of_turn_id], [tokenizer.begin_call_id or -1]
    call = ToolCall("calculator", {"expression": "2 + 2"})
    first = [
        *tokenizer.encode("Let me see."),
        *begin,
        *tokenizer.encode(call.text),
        *begin,
        *tokenizer.encode("x"),
        *end,
    ]
    last = [*tokenizer.encode("It is 4."), *end]
    scripted_speaker(speaker, monkeypatch, [first, last, last, first])
    monkeypatch.setattr(type(speaker.engine), "context", 1000)
    session = Session(speaker, SAMPLING, toolbox=Toolbox([calculator()]))
    text = say(session, "2 + 2?")
    shown = text.splitlines()
    assert shown[:2] == ["Let me see.", '⚙ calculator(expression="2 + 2") → 4']
    assert shown[2].startswith("⚙ x → error: the call is not JSON")
    assert shown[3:] == ["It is 4."]
    assert [turn.role for turn in session.turns] == ["user", "assistant", "tool", "tool", "assistant"]
    assert session.turns[1].tool_calls == (call.to_json(),)
    assert session.turns[-1].content == "It is 4."
    say(session, "Sure?")  # the history with its calls can be rendered again
    session.save(tmp_path / "chat.jsonl")
    (row,) = (json.loads(line) for line in (tmp_path / "chat.jsonl").read_text().splitlines())
    assert row["messages"][1]["tool_calls"] == [call.to_json()]
    assert (session.undo(), len(session.turns)) == ("Sure?", 5)

    exchange = session.ask("Again?")  # and stopped after its first call
    pieces = iter(exchange.speech)
    while "→" not in next(pieces):
        pass
    assert exchange.speech.ended == "cut"
    assert session.keep(exchange)
    assert session.turns[-1].cut
    assert session.undo() == "Again?"
    assert session.undo() == "2 + 2?"
    assert session.turns == ()


def test_scripts_get_the_answer_without_the_calls(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = speaker.tokenizer
    end, begin = [tokenizer.end_of_turn_id], [tokenizer.begin_call_id or -1]
    call = ToolCall("calculator", {"expression": "2 + 2"})
    turns = [[*begin, *tokenizer.encode(call.text), *end], [*tokenizer.encode("4"), *end]]
    monkeypatch.setattr(type(speaker.engine), "context", 1000)
    scripted_speaker(speaker, monkeypatch, turns)
    lines, _, _ = scripted(Session(speaker, SAMPLING, toolbox=Toolbox([calculator()])), "2 + 2?\n")
    assert lines == ["4"]
    scripted_speaker(speaker, monkeypatch, [turns[0]] * 9)
    exchange = Session(speaker, SAMPLING, toolbox=Toolbox([calculator()])).ask("2 + 2?")
    assert list(exchange.speech).count('⚙ calculator(expression="2 + 2") → 4\n') == MAX_ROUNDS
    assert exchange.speech.ended == "rounds"
