"""The chat in a terminal, and the same session for scripts: one line in, one line out."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text

from tutelage.errors import DataError, TutelageError
from tutelage.run.words import did_you_mean
from tutelage.talk.remembering import Remembering
from tutelage.talk.session import Exchange, Session
from tutelage.talk.stream import Ending, speak
from tutelage.talk.text import one_line, visible

Complain = Callable[[TutelageError], None]
Answer = str | Exchange | None  # what a command says, what it asks the model, or: leave

HELP = {
    "/help": "this list",
    "/clear": "forget the conversation; the system message stays",
    "/undo": "take back the last message and its reply",
    "/retry": "another reply to the last message",
    "/system TEXT": "set the system message; without TEXT: remove it",
    "/temperature X": "0 takes the likeliest word, 1 draws as the model would",
    "/memory": "what is remembered of you (with --memory)",
    "/forget TEXT": "strike every note that holds TEXT, from the file too (with --memory)",
    "/save FILE": "append the conversation to FILE as a JSON line",
    "/quit": "leave (also Ctrl-D, or Ctrl-C at the prompt)",
}
_HINTS = "Ctrl-C stops a reply. A line that begins with // is sent with one slash."


class Commands:
    """What lines that begin with `/` do to a session."""

    def __init__(self, session: Session, memory: Remembering | None = None) -> None:
        self.session = session
        self.memory = memory
        self.actions: dict[str, Callable[[str], Answer]] = {
            "/help": self._help,
            "/clear": self._clear,
            "/undo": self._undo,
            "/retry": lambda text: self.session.retry(),
            "/system": self._system,
            "/temperature": self._temperature,
            "/memory": lambda text: self._remembering().shown(),
            "/forget": lambda text: self._remembering().forget(text),
            "/save": self._save,
            "/quit": lambda text: None,
        }

    def do(self, line: str) -> Answer:
        """Do what a line says: a command, or a message to the model. Raises DataError."""
        if not line.startswith("/") or line.startswith("//"):
            return self.session.ask(line[1:] if line.startswith("//") else line)
        name, _, text = line.partition(" ")
        if name not in self.actions:
            raise DataError(
                f"there is no command {name}; {did_you_mean(name, list(self.actions))}",
                hint="/help lists them; // at the beginning sends a line that begins with /",
            )
        return self.actions[name](text.strip())

    def _help(self, text: str) -> Answer:
        width = max(map(len, HELP))
        return "\n".join([*(f"{name:<{width}}  {what}" for name, what in HELP.items()), _HINTS])

    def _clear(self, text: str) -> Answer:
        self.session.clear()
        return "the conversation is forgotten"

    def _undo(self, text: str) -> Answer:
        return f"taken back: {one_line(self.session.undo())}"

    def _system(self, text: str) -> Answer:
        self.session.instruct(text or None)
        return f"system message: {one_line(text)}" if text else "no system message"

    def _temperature(self, text: str) -> Answer:
        with contextlib.suppress(ValueError):
            value = float(text)
            if math.isfinite(value) and value >= 0:
                self.session.heat(value)
                return f"temperature {value:g}"
        raise DataError(f"/temperature {text}: expected a number, 0 or more", hint="for example /temperature 0.7")

    def _remembering(self) -> Remembering:
        if self.memory is None:
            raise DataError("this chat remembers nothing", hint="begin it with --memory FILE")
        return self.memory

    def _save(self, text: str) -> Answer:
        if not text:
            raise DataError("/save: no file named", hint="for example /save chat.jsonl")
        if not self.session.turns:
            raise DataError("there is nothing to save yet")
        try:
            count = self.session.save(Path(text).expanduser())
        except OSError as error:
            raise DataError(f"/save {text}: {error.strerror or error}", hint="name another file") from error
        return f"{count} messages appended to {text}"


class Chat:
    """The loop of an interactive chat."""

    def __init__(
        self, session: Session, console: Console, complain: Complain, memory: Remembering | None = None
    ) -> None:
        self.session = session
        self.commands = Commands(session, memory)
        self.console = console
        self.complain = complain

    def run(self) -> None:
        """Until the user leaves."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (line editing and history for `input`)
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            while self._turn(input(self._prompt("you", "36"))):
                pass
        self.console.print()

    def _turn(self, line: str) -> bool:
        if not line.strip():
            return True
        try:
            answer = self.commands.do(line)
        except TutelageError as error:
            self.complain(error)
            return True
        if isinstance(answer, Exchange):
            self._reply(answer)
        elif answer is not None:
            self.note(answer)
        return answer is not None

    def _reply(self, exchange: Exchange) -> None:
        name = visible(self.session.speaker.place.path.resolve().name)
        self.console.print(Text(f"{name} › ", "bold green"), end="")
        speak(exchange.speech, write_now)
        write_now("\n")
        kept = self.session.keep(exchange)
        remark = _REMARKS[exchange.speech.ended] if kept else "stopped before the first word: nothing is kept"
        if kept and not exchange.speech.text:
            remark = "an empty reply"
        if remark:
            self.note(remark)
        if exchange.speech.leaks:
            self.note(f"{exchange.speech.leaks} private strings were masked")

    def note(self, text: str) -> None:
        """A remark of the program, told apart from the model's words by its style and brackets."""
        self.console.print(Text(f"[{text}]" if "\n" not in text else text, "dim"), soft_wrap=True)

    def _prompt(self, name: str, colour: str) -> str:
        if self.console.color_system is None:
            return f"{name} › "
        # readline must know which characters take no room: \1 … \2
        return f"\1\x1b[1;{colour}m\2{name} ›\1\x1b[0m\2 "


_REMARKS: dict[Ending, str] = {
    "stop": "",
    "cut": "stopped; what was said stays in the conversation",
    "length": "cut at --max-tokens",
    "rounds": "it called tools again and again; no more were run",
    "context": "the model's context is full: /undo or /clear makes room",
}


def write_now(text: str) -> None:
    """Model text to stdout at once, neutralised."""
    sys.stdout.write(visible(text))
    sys.stdout.flush()


def converse(
    session: Session,
    lines: Iterable[str],
    out: TextIO,
    err: TextIO,
    complain: Complain,
    memory: Remembering | None = None,
) -> bool:
    r"""For scripts: the reply to every line of input as one line of output, line breaks as `\n`.

    Commands work and say what they did on `err`. An empty or refused line gives an empty line, so that lines still
    match; returns whether any was refused.
    """
    commands = Commands(session, memory)
    refused = False
    for line in lines:
        text = line.rstrip("\r\n")
        is_command = text.startswith("/") and not text.startswith("//")
        answer: Answer = ""
        try:
            answer = commands.do(text) if text.strip() else ""
        except TutelageError as error:
            complain(error)
            refused = True
        if answer is None:
            break
        if isinstance(answer, Exchange):
            answer = _whole(session, answer)
            is_command = False  # /retry has a reply too
        if is_command:
            err.write(answer + "\n" if answer else "")
        else:
            out.write(one_line(answer) + "\n")
            out.flush()
    return refused


def _whole(session: Session, exchange: Exchange) -> str:
    for _ in exchange.speech:
        pass
    session.keep(exchange)
    return exchange.speech.reply
