"""A chat that remembers: notes are carried, struck, and written by the model itself."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tutelage.errors import DataError
from tutelage.generation.sampling import Sampling
from tutelage.memory.file import read_notes, write_notes
from tutelage.talk.remembering import Remembering
from tutelage.talk.session import Session
from tutelage.talk.speaker import Place, Speaker
from tutelage.talk.terminal import converse


def chat(speaker: Speaker, path: Path) -> Remembering:
    return Remembering(Session(speaker, Sampling(4, 0.0), system="Be brief."), path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_notes(tmp_path / "me.json", ["Name: Mira.", "Town: Bern."])
    return tmp_path / "me.json"


def brief(model: Path) -> Speaker:
    """A speaker whose every reply ends by itself after one token."""
    speaker = Speaker(Place(model))
    speaker.engine.stop_ids = frozenset(range(speaker.tokenizer.vocab_size + 4))
    return speaker


def test_notes_stand_in_the_system_message_and_take_room(speaker: Speaker, file: Path) -> None:
    without = Session(speaker, Sampling(4, 0.0), system="Be brief.").num_tokens
    memory = chat(speaker, file)
    assert memory.session.num_tokens > without
    assert memory.shown() == "Name: Mira.\nTown: Bern."
    write_notes(file, ["x " * 400])
    with pytest.raises(DataError, match="context"):
        chat(speaker, file)


def test_forgetting_strikes_notes_from_the_file_at_once(speaker: Speaker, file: Path) -> None:
    kept = file.with_name("me.json.before")
    write_notes(kept, ["Name: Mira."])
    memory = chat(speaker, file)
    memory.forget("mira")
    assert not kept.exists()
    assert memory.shown() == "Town: Bern."
    assert read_notes(file) == ["Town: Bern."]
    with pytest.raises(DataError, match="no note has it"):
        memory.forget("Otto")
    with pytest.raises(DataError, match="what is to be forgotten"):
        memory.forget("")


def test_a_session_in_which_nothing_was_said_changes_nothing(speaker: Speaker, file: Path) -> None:
    before = file.read_bytes()
    assert chat(speaker, file).close() == ""
    assert file.read_bytes() == before


def test_notes_stay_when_the_model_does_not_come_to_an_end(speaker: Speaker, file: Path) -> None:
    memory = chat(speaker, file)
    converse(memory.session, ["hello"], io.StringIO(), io.StringIO(), lambda error: None, memory)
    assert "stay as they were" in memory.close()
    assert read_notes(file) == ["Name: Mira.", "Town: Bern."]


def test_what_the_model_writes_is_kept_and_what_was_forgotten_is_not(model: Path, file: Path) -> None:
    memory = chat(brief(model), file)
    converse(memory.session, ["hello"], io.StringIO(), io.StringIO(), lambda error: None, memory)
    said = memory.close()
    kept = file.with_name("me.json.before")
    assert said.endswith(f"notes in {file}; 2 are gone, those before are in {kept}")
    assert read_notes(kept) == ["Name: Mira.", "Town: Bern."]
    assert json.loads(file.read_text(encoding="utf-8")).keys() == {"notes"}
    assert memory.session.turns[-1].role == "assistant"  # the request for notes is no part of the conversation
    assert len(memory.session.turns) == 2


def test_commands_of_memory_need_a_file(speaker: Speaker, file: Path) -> None:
    out, err, refused = io.StringIO(), io.StringIO(), []
    session = Session(speaker, Sampling(2, 0.0))
    assert converse(session, ["/memory", "/forget Mira"], out, err, refused.append)
    assert [error.hint for error in refused] == ["begin it with --memory FILE"] * 2
    memory = chat(speaker, file)
    assert not converse(memory.session, ["/forget Bern", "/memory"], out, err, refused.append, memory)
    assert "Name: Mira." in err.getvalue()
    assert "Bern" not in err.getvalue().splitlines()[-1]
