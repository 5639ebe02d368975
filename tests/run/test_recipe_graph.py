"""The graph: references, types, order, cycles."""

from __future__ import annotations

import pytest
from toy_stages import RECIPE, TOYS

from tutelage.errors import RecipeError
from tutelage.run.graph import Graph, build_graph, references, select
from tutelage.run.recipe import read_recipe

MANY = """\
stages:
  report: {stage: show, models: {small: small, big: big}, also: [halves.left, raw], base: big}
  big: {stage: train, corpus: corpus}
  small: {stage: train, corpus: corpus}
  halves: {stage: halves, corpus: corpus}
  corpus: {stage: clean, documents: raw}
  raw: {stage: gather}
"""


def graph(text: str, *overrides: str) -> Graph:
    return build_graph(read_recipe(text, "toy.yaml", TOYS, overrides), TOYS)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        graph(text, *overrides)
    return str(caught.value)


def test_references_in_plain_list_dict_and_optional_fields() -> None:
    found = [(field, name) for field, name, _ in references(graph(MANY).recipe.stages["report"])]
    assert found == [
        ("models.small", "small"),
        ("models.big", "big"),
        ("also.0", "halves.left"),
        ("also.1", "raw"),
        ("base", "big"),
    ]


def test_order_is_topological_and_else_that_of_the_file() -> None:
    assert graph(MANY).order == ("raw", "corpus", "big", "small", "halves", "report")


def test_a_dangling_reference_names_the_nearest() -> None:
    message = refusal(RECIPE, "base.corpus=corpse")
    assert "stages.base.corpus: there is no stage 'corpse'; did you mean corpus?" in message


def test_a_wrong_type_names_both_stages_and_what_would_fit() -> None:
    message = refusal(RECIPE, "report.models.base=corpus")
    assert "toy.yaml:9: stages.report.models.base" in message or "override" in message
    assert "report (a show stage) takes Model here, but corpus (from a clean stage) is Corpus" in message
    assert "these would fit: base" in message


def test_a_wrong_type_when_nothing_fits() -> None:
    text = "stages:\n  raw: {stage: gather}\n  report: {stage: show, models: {a: raw}}"
    assert "no stage of this recipe gives Model" in refusal(text)


def test_several_outputs_must_be_named() -> None:
    assert "halves gives several artifacts; write one of halves.left, halves.right" in refusal(
        MANY, "report.also=[halves]"
    )
    assert "halves gives no 'lft'; did you mean halves.left?" in refusal(MANY, "report.also=[halves.lft]")
    assert "raw gives no 'x'" in refusal(MANY, "report.also=[raw.x]")


def test_cycles_are_printed() -> None:
    text = (
        "stages:\n  a: {stage: clean, documents: b}\n  b: {stage: clean, documents: c}\n"
        "  c: {stage: clean, documents: b}\n"
    )
    assert "toy.yaml:3: stages.b: the stages go round in a circle: b ← c ← b" in refusal(text)
    assert "stage a cannot take its own output" in refusal("stages: {a: {stage: clean, documents: a}}")


def test_all_bad_references_at_once() -> None:
    assert "2 references do not fit" in refusal(RECIPE, "base.corpus=x", "corpus.documents=y")


def test_selection() -> None:
    many = graph(MANY)
    assert select(many).stages == set(many.order)
    assert select(many, only=["big"]).stages == {"big"}
    assert select(many, start=["halves"]).forced == {"halves", "report"}
    with pytest.raises(RecipeError, match=r"--only bgi: there is no such stage; did you mean big\?"):
        select(many, only=["bgi"])
