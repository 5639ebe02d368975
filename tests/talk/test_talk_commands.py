"""`compare`, `complete`, `chat` and `doctor` as a user calls them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tutelage.cli import build_app
from tutelage.errors import DataError
from tutelage.talk.compare import default_prompts, read_prompts


def call(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(build_app(), list(arguments), input=stdin)


def test_compare_as_json(model: Path, long_model: Path) -> None:
    arguments = ("compare", str(model), str(long_model), "--json", "--max-tokens", "6")
    done = call(*arguments)
    found = json.loads(done.stdout)
    assert [one["name"] for one in found["models"]] == ["tiny", "long"]
    assert [row["kind"] for row in found["prompts"]] == ["harmful", "lookalike", "explain", "explain", "fact"]
    for row in found["prompts"]:
        assert set(row["replies"]) == {"tiny", "long"}
        assert row["replies"]["tiny"]["num_tokens"] <= 6
    assert done.stdout.isascii()  # control characters of a model are escapes
    assert call(*arguments).stdout == done.stdout
    warm = call(*arguments, "--temperature", "1", "--seed", "5").stdout
    assert warm != done.stdout
    assert call(*arguments, "--temperature", "1", "--seed", "5").stdout == warm


@pytest.mark.parametrize(("columns", "stacked"), [("120", False), ("50", True)])
def test_compare_fits_the_width(
    model: Path, long_model: Path, monkeypatch: pytest.MonkeyPatch, columns: str, stacked: bool
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = call("compare", str(model), str(long_model), "--prompt", "[red]hi", "--max-tokens", "6").output
    assert all(len(line) <= int(columns) for line in shown.splitlines())
    assert any("tiny" in line and "long" in line for line in shown.splitlines()) != stacked
    assert "[red]hi" in shown
    assert "\x1b" not in shown


def test_models_of_one_name_are_told_apart(model: Path, tmp_path: Path) -> None:
    for run in ("one", "two"):
        shutil.copytree(model, tmp_path / run / "base")
    places = [str(tmp_path / run / "base") for run in ("one", "two")]
    found = json.loads(call("compare", *places, "--prompt", "hi", "--json", "--max-tokens", "2").stdout)
    assert [one["name"] for one in found["models"]] == ["one/base", "two/base"]


def test_prompts_from_files(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "kind": "fact", "messages": [{"role": "user", "content": "x"}]},
        {"prompt": "y"},
        {"messages": [{"role": "user", "content": "z"}, {"role": "assistant", "content": "no"}]},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [(one.id, one.kind, one.text) for one in read_prompts(path)] == [
        ("a", "fact", "x"),
        ("line-2", "chat", "y"),
        ("line-3", "chat", "z"),
    ]
    assert read_prompts(tmp_path) == read_prompts(path)
    plain = tmp_path / "plain.txt"
    plain.write_text("first\n\n  second \n")
    assert [one.text for one in read_prompts(plain)] == ["first", "second"]
    path.write_text('{"prompt": "x"}\n{"text": 3}\n')
    with pytest.raises(DataError, match=r"prompts.jsonl, line 2: neither"):
        read_prompts(path)
    path.write_text('{"prompt": "x"}\nhello\n')
    with pytest.raises(DataError, match=r"line 2: not JSON"):
        read_prompts(path)
    plain.write_text("")
    with pytest.raises(DataError, match="has no prompts"):
        read_prompts(plain)
    assert len({prompt.id for prompt in default_prompts()}) == 5


def test_complete(model: Path) -> None:
    greedy = ("complete", str(model), "--temperature", "0", "--max-tokens", "12")
    first = call(*greedy, "The capital")
    assert first.exit_code == 0
    assert call(*greedy, "-", stdin="The capital\n").stdout == first.stdout
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in first.stdout)
    warm = ("complete", str(model), "The capital", "--temperature", "1", "--max-tokens", "12")
    several = call(*warm, "-n", "3").stdout
    assert several == call(*warm, "-n", "3").stdout
    assert len(set(several.splitlines())) >= 6
    assert "the model's context is 192" in call("complete", str(model), "y" * 400).stderr


def test_models_that_cannot_talk_say_why(model: Path, tmp_path: Path) -> None:
    assert "there is no model 'nowhere/base'" in call("chat", "nowhere/base").stderr
    assert "holds no model" in call("chat", str(tmp_path)).stderr
    mute = shutil.copytree(model, tmp_path / "mute")
    config = json.loads((mute / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (mute / "tokenizer_config.json").write_text(json.dumps(config))
    done = call("chat", str(mute), stdin="hi\n")
    assert "has no chat template" in done.stderr
    assert "tutelage complete" in done.stderr
    compared = json.loads(call("compare", str(mute), "--prompt", "hi", "--json", "--max-tokens", "2").stdout)
    assert "no chat template" in compared["models"][0]["notes"][0]
    scorer = shutil.copytree(model, tmp_path / "scorer")
    config = json.loads((scorer / "config.json").read_text())
    (scorer / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForSequenceClassification"]}))
    assert "is a reward model" in call("chat", str(scorer)).stderr
    mixed = shutil.copytree(model, tmp_path / "mixed")
    weights = mixed / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cannot be read" in call("chat", str(mixed)).stderr


def test_chat_for_scripts(model: Path) -> None:
    done = call("chat", str(model), "--max-tokens", "5", stdin="hello\nagain\n")
    assert done.exit_code == 0
    assert done.stdout.count("\n") == 2
    assert "you ›" not in done.output
    assert call("chat", str(model), stdin="y" * 400).exit_code == 2


def test_doctor() -> None:
    seen = {row["name"]: row for row in json.loads(call("doctor", "--json").stdout)}
    assert {"python", "torch", "processor", "load", "speed", "precision", "memory", "disk"} <= set(seen)
    assert "GFLOP/s with 1 thread" in seen["speed"]["found"]
    assert seen["torch"]["state"] == "good"
