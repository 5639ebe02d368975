"""A conversation with one model: nothing is dropped from it unless the user says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutelage.data.completions import prompt_ids
from tutelage.errors import DataError
from tutelage.generation.sampling import Sampling
from tutelage.memory.notes import with_notes
from tutelage.talk.guarded import GuardedSpeech
from tutelage.talk.speaker import Speaker
from tutelage.talk.stream import Speech
from tutelage.talk.tool_speech import ToolSpeech
from tutelage.tools.toolbox import Toolbox


@dataclass(frozen=True)
class Turn:
    """A message; `cut` marks a reply that the user stopped, `tool_calls` are in the OpenAI form."""

    role: str
    content: str
    cut: bool = False
    tool_calls: tuple[Mapping[str, Any], ...] = ()

    def to_message(self) -> dict[str, Any]:
        """As messages are written everywhere; `cut` and `tool_calls` only where there are."""
        calls = {"tool_calls": [dict(call) for call in self.tool_calls]} if self.tool_calls else {}
        return {"role": self.role, "content": self.content, **calls, **({"cut": True} if self.cut else {})}


@dataclass(frozen=True)
class Exchange:
    """A reply on its way, and the turns that it answers."""

    turns: tuple[Turn, ...]
    speech: Speech


class Session:
    """The turns so far, and the settings of the next reply.

    An exchange enters the history only by `keep`: a prompt that is refused, or a reply that fails, changes nothing.
    """

    def __init__(
        self,
        speaker: Speaker,
        sampling: Sampling,
        seed: int = 0,
        system: str | None = None,
        toolbox: Toolbox | None = None,
        guard: bool = False,
    ) -> None:
        self.speaker = speaker
        self.guard = guard
        self.toolbox = toolbox
        self.sampling = sampling
        self.seed = seed
        self.system: str | None = None
        self.notes: tuple[str, ...] = ()  # of earlier sessions; they stand in the system message
        self.turns: tuple[Turn, ...] = ()
        self._num_replies = 0
        self.instruct(system)

    def ask(self, text: str) -> Exchange:
        """The reply to a message of the user. Raises DataError if the whole conversation has no room."""
        return self._begin((*self.turns, Turn("user", text)))

    def retry(self) -> Exchange:
        """Another reply to the user's last message. Raises DataError if there is none."""
        if not self.turns:
            raise DataError("there is no reply to try again", hint="say something first")
        return self._begin(self.turns[: self._last_question() + 1])

    def keep(self, exchange: Exchange) -> bool:
        """Put an exchange into the history; False if it was stopped before its first word and is left out."""
        speech = exchange.speech
        cut = speech.ended == "cut"
        if cut and not speech.text:
            return False
        said = [
            Turn(message["role"], message["content"], tool_calls=tuple(message.get("tool_calls", ())))
            for message in speech.messages()
        ]
        self.turns = (*exchange.turns, *said[:-1], replace(said[-1], cut=cut))
        return True

    def undo(self) -> str:
        """Take the last message and its reply back; returns the message. Raises DataError if there is none."""
        if not self.turns:
            raise DataError("there is nothing to undo")
        place = self._last_question()
        text = self.turns[place].content
        self.turns = self.turns[:place]
        return text

    def clear(self) -> None:
        """Forget all turns; the system message stays."""
        self.turns = ()

    def instruct(self, system: str | None) -> None:
        """Set or remove the system message. Raises DataError if the chat template refuses it or it has no room."""
        self._check(self._ids((*self.turns, Turn("user", "")), system), system)
        self.system = system

    def carry(self, notes: Sequence[str]) -> None:
        """Set the notes of earlier sessions. Raises DataError if they have no room."""
        before, self.notes = self.notes, tuple(notes)
        try:
            self.instruct(self.system)
        except DataError:
            self.notes = before
            raise

    def heat(self, temperature: float) -> None:
        """Set the temperature of the replies to come."""
        self.sampling = replace(self.sampling, temperature=temperature)

    def save(self, path: Path) -> int:
        """Append the conversation to a JSONL file as one row `{messages, model}`; returns the number of messages."""
        messages = [turn.to_message() for turn in self._with_system(self.turns, self.system)]
        row = {"messages": messages, "model": str(self.speaker.place.path)}
        with path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return len(messages)

    @property
    def num_tokens(self) -> int:
        """Length of the conversation so far."""
        return len(self._ids(self.turns, self.system)) if self.turns or self.system or self.notes else 0

    def _begin(self, turns: tuple[Turn, ...]) -> Exchange:
        ids = self._ids(turns, self.system)
        self._check(ids, None)
        self._num_replies += 1
        seed = (self.seed << 32) | self._num_replies  # every reply has its own random numbers, a retry too
        speech = Speech(self.speaker, ids, self.sampling, seed)
        if self.toolbox is not None:
            speech = ToolSpeech(self.speaker, ids, self.sampling, seed, self.toolbox)
        if self.guard:
            before = [turn.to_message() for turn in self._with_system(turns, self.system)]
            speech = GuardedSpeech(speech, before)
        return Exchange(turns, speech)

    def _last_question(self) -> int:
        return max(place for place, turn in enumerate(self.turns) if turn.role == "user")

    def _check(self, ids: Sequence[int], system: str | None) -> None:
        context = self.speaker.engine.context
        if len(ids) < context:
            return
        what = "the system message" if system is not None else "your message"
        before = f" ({self.num_tokens} without it)" if self.num_tokens else ""
        hint = "shorten it" + (", or make room by /undo or /clear" if self.turns else "")
        raise DataError(
            f"with {what} the conversation has {len(ids)} tokens{before}; the model's context is {context} tokens, "
            "the reply included. Nothing was sent and nothing was dropped.",
            hint=hint,
        )

    def _ids(self, turns: tuple[Turn, ...], system: str | None) -> list[int]:
        messages = [replace(turn, cut=False).to_message() for turn in self._with_system(turns, system)]
        return prompt_ids(self.speaker.tokenizer, messages, self.toolbox.definitions if self.toolbox else None)

    def _with_system(self, turns: tuple[Turn, ...], system: str | None) -> tuple[Turn, ...]:
        carried = with_notes(system, self.notes)
        return turns if carried is None else (Turn("system", carried), *turns)
