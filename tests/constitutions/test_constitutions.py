"""Constitutions: what a file may say, what it may not, and that rules read text alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tutelage.constitutions.principles import Principle, conversations, critiques, from_rows, questions
from tutelage.constitutions.reading import chosen, read_constitution
from tutelage.constitutions.rules import RULES, Exchange
from tutelage.errors import DataError, RecipeError
from tutelage.run.config import expanded
from tutelage.sources.atlas.requests import all_requests

DEFAULT = expanded("package:constitutions/default.yaml")
TEXT = st.text(alphabet="abI c'tanhelp.\n?!é", max_size=60)


def write(folder: Path, value: Any, name: str = "c.yaml") -> Path:
    path = folder / name
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def principle(**fields: Any) -> dict[str, Any]:
    return {"principles": {"kind": {"critique": "What is unkind?", "revision": "Be kind.", **fields}}}


def test_the_default_has_every_use_and_a_rule_for_each_principle() -> None:
    principles = read_constitution([DEFAULT])
    assert {"harmless", "ethics", "privacy", "helpfulness", "honesty", "uncertainty"} <= principles.keys()
    assert all(p.critique and p.revision and p.question and p.rule and p.examples for p in principles.values())
    assert {p.rule for p in principles.values()} == set(RULES)


def test_the_rule_of_a_principle_sees_what_its_examples_show() -> None:
    for name, p in read_constitution([DEFAULT]).items():
        for example in p.examples:
            assert p.rule is not None
            before, after = (
                RULES[p.rule](Exchange(example.prompt, said)) for said in (example.response, example.revision)
            )
            assert before.objection, (name, example.prompt)
            assert not after.objection, (name, example.prompt)
            for rule in RULES.values():
                assert not rule(Exchange(example.prompt, example.revision)).objection, (name, example.revision)


@given(TEXT, TEXT, st.booleans())
def test_findings_are_scores_with_words_where_something_is_wrong(request: str, reply: str, finished: bool) -> None:
    for rule in RULES.values():
        finding = rule(Exchange(request, reply, finished))
        assert 0 <= finding.score <= 1
        assert bool(finding.objection) == (finding.score < 1)


def test_rules_tell_harm_from_its_look_alikes_without_a_label() -> None:
    """By the texts of atlas alone: most of the harmful requests, and none of the others."""
    found: dict[str, list[bool]] = {}
    for request in all_requests(0):
        answered = RULES["harmless"](Exchange(request.wordings[0], request.compliance or request.answer))
        found.setdefault(request.kind, []).append(bool(answered.objection))
    harmful = found.pop("harmful")
    assert sum(harmful) > 0.8 * len(harmful)
    assert not any(map(any, found.values()))


@pytest.mark.parametrize(
    ("rule", "worse", "better"),
    [
        ("harmless", "First wait, then hurt my boss and run away.", "Fill a kettle and hold it."),
        ("harmless", "Fill a kettle and hold it.", "I can't help with that."),
        ("explained", "I can't help with that.", "I can't help with that. Talk to your boss."),
        ("private", "Her mail is jane.roe@mail.com.", "I can't tell. Ask your boss."),
        ("courteous", "What a silly question.", "Well, let me see."),
        ("courteous", "Well, let me see.", "It is a cygnet."),
        ("helpful", "", "It is a cygnet."),
        ("sincere", "As a doctor, I know.", "I am a small language model."),
        ("modest", "I am absolutely sure.", "I do not know."),
    ],
)
def test_rules_order_replies(rule: str, worse: str, better: str) -> None:
    scores = [RULES[rule](Exchange("How do I hurt my boss?", reply)).score for reply in (worse, better)]
    assert scores[0] < scores[1]


def test_what_a_user_wrote_is_no_secret_from_that_user() -> None:
    said = "My mail is jane.roe@mail.com."
    assert not RULES["private"](Exchange(said, "You wrote jane.roe@mail.com.")).objection
    assert RULES["private"](Exchange("Who is it?", "You wrote jane.roe@mail.com.")).objection


def test_rows_give_the_principles_back_and_uses_are_apart() -> None:
    principles = read_constitution([DEFAULT])
    rows = critiques(principles), questions(principles)
    assert from_rows(rows[0]) == {n: p.model_copy(update={"question": None}) for n, p in principles.items()}
    other = {n: p.model_copy(update={"question": "Which is shorter?"}) for n, p in principles.items()}
    assert critiques(other) == rows[0]
    assert questions(other) != rows[1]
    changed = {n: p.model_copy(update={"revision": "Again.", "examples": []}) for n, p in principles.items()}
    assert questions(changed) == rows[1]


def test_examples_are_conversations_each_once() -> None:
    rows = conversations(read_constitution([DEFAULT]))
    said = [tuple(message["content"] for message in row["messages"]) for row in rows]
    assert len(said) == len(set(said))
    examples = [example for p in read_constitution([DEFAULT]).values() for example in p.examples]
    assert set(said) == {(example.prompt, example.revision) for example in examples}
    assert len({row["id"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    "published",
    [
        {
            "harmful0": {
                "prompt": ["CritiqueRequest: What harms?\n\nCritique:"],
                "edit_request": "Revise it.\n\nRevision:",
            }
        },
        {"harmful0": {"prompt": "What harms?", "edit_request": "Revise it."}},
        [{"critic": "What harms?", "revision": "Revise it."}],
        {"constitutions": [{"critic": "What harms?", "revision": "Revise it."}], "system_chat": []},
    ],
)
def test_published_pairs_are_read(tmp_path: Path, published: Any) -> None:
    [(name, found)] = read_constitution([write(tmp_path, published, "p.json")]).items()
    assert name == ("harmful0" if "harmful0" in published else "p-1")
    assert found == Principle(critique="What harms?", revision="Revise it.")


def test_published_questions_are_read_beside_pairs(tmp_path: Path) -> None:
    asked = write(tmp_path, ["\nWhich is kinder? Options:", "Which is shorter?"], "q.json")
    found = read_constitution([write(tmp_path, principle()), asked])
    assert [p.question for p in found.values()] == [None, "Which is kinder?", "Which is shorter?"]
    assert [row["name"] for row in questions(found)] == ["q-1", "q-2"]
    assert [row["name"] for row in critiques(found)] == ["kind"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            principle(rule="harmles"),
            "c.yaml:1: principles.kind.rule: there is no rule 'harmles'; did you mean harmless?",
        ),
        (principle(weight=0), "principles.kind.weight: must be > 0.0, got 0"),
        (principle(revise="x"), "principles.kind.revise: unknown key; did you mean revision?"),
        (principle(revision=None), "`revision` is missing: a critique and its revision go together"),
        ({"principles": {"kind": {"rule": "modest"}}}, "it says nothing: write a `critique`"),
        (principle(examples=[{"prompt": "Hi"}]), "principles.kind.examples.0"),
        ({"principles": {}}, "principles"),
        ({"rules": []}, "principles: missing"),
        ("- a\n- b", "expected a mapping, got a list of 2"),
        ("principles: {a: 1, a: 2}", "written twice"),
        ("principles: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(DataError) as error:
        read_constitution([write(tmp_path, value)])
    assert words in error.value.message
    assert "c.yaml" in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "not JSON"),
        ([], "no principles"),
        ([{"critic": "x"}], "principle p-1: a mapping with the keys critic"),
        ({"h": {"prompt": ["Critique:"], "edit_request": "y"}}, "principle h: prompt: the request is empty"),
        ([3], "principle p-1: 3"),
        ([{"critic": 3, "revision": "y"}], "principle p-1: critic: expected text, got 3"),
    ],
)
def test_what_is_wrong_with_published_files_is_named(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(DataError) as error:
        read_constitution([write(tmp_path, value, "p.json")])
    assert words in error.value.message
    assert "p.json" in error.value.message


def test_names_are_unique_and_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, principle())
    with pytest.raises(DataError, match="principle kind: an earlier file"):
        read_constitution([path, path])
    with pytest.raises(DataError, match="cannot be read"):
        read_constitution([tmp_path / "none.yaml"])
    principles = read_constitution([DEFAULT])
    assert list(chosen(principles, ["privacy", "harmless"])) == ["privacy", "harmless"]
    with pytest.raises(RecipeError, match="did you mean harmless"):
        chosen(principles, ["harmles"])


def test_the_file_is_plain_yaml_for_others_too() -> None:
    assert (
        yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))["principles"].keys() == read_constitution([DEFAULT]).keys()
    )
