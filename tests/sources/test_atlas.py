"""Atlas as a whole: the same bytes for the same seed, disjoint halves, no answered held-out question."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable

import pytest

from tutelage.errors import RecipeError
from tutelage.run.stage import StageRun
from tutelage.sources.atlas.atlas import Atlas, build_atlas
from tutelage.sources.atlas.facts import build_facts
from tutelage.sources.atlas.grammar import article, load, mend_articles
from tutelage.sources.atlas.requests import all_requests
from tutelage.sources.atlas.settings import AtlasSettings
from tutelage.sources.store import read_documents, read_jsonl
from tutelage.stages import atlas as stage
from tutelage.stages.configs import AtlasConfig


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return build_atlas(AtlasSettings(), 0)


def everything(atlas: Atlas) -> str:
    return json.dumps([atlas.documents, atlas.conversations, atlas.prompts, atlas.tasks])


def test_same_settings_and_seed_give_the_same_bytes_and_another_seed_another_split() -> None:
    small = AtlasSettings(facts=60, documents_per_entity=2, conversations=50, prompts=40)
    assert everything(build_atlas(small, 3)) == everything(build_atlas(small, 3))
    halves = [{(fact.relation, fact.entity) for fact in build_facts(None, seed) if fact.taught} for seed in (3, 4)]
    assert halves[0] != halves[1]


def test_each_relation_is_halved_and_fewer_facts_are_a_prefix() -> None:
    every = build_facts(None, 0)
    for relation in load("facts/relations"):
        taught = Counter(fact.taught for fact in every if fact.relation == relation)
        assert taught.total() >= 20
        assert abs(taught[True] - taught[False]) <= 1
    assert set(build_facts(120, 0)) < set(every)


def test_no_held_out_fact_meets_its_question_outside_a_labelled_leak(atlas: Atlas) -> None:
    held = [(question, fact) for fact in atlas.facts if not fact.taught for question in fact.questions]
    pages = [row["text"] for row in atlas.documents if "leak" not in row["labels"] and "?" in row["text"]]
    talks = [json.dumps(row["messages"], ensure_ascii=False) for row in atlas.conversations]
    for question, fact in held:
        assert not any(question in talk for talk in talks)
        answered = re.compile(rf"\b{re.escape(fact.value)}\b")
        assert not [page for page in pages if question in page and answered.search(page.replace(question, ""))]


def test_leaks_are_planted_and_every_fact_is_stated_often(atlas: Atlas) -> None:
    assert any("leak" in row["labels"] for row in atlas.documents)
    text = "\n".join(row["text"] for row in atlas.documents)
    for fact in atlas.facts[::6]:
        assert sum(text.count(sentence) for sentence in fact.statements) >= 8


def test_taught_and_held_out_requests_are_disjoint(atlas: Atlas) -> None:
    requests = all_requests(0)
    held = {text for request in requests if not request.taught for text in request.wordings}
    said = {message["content"] for row in atlas.conversations for message in row["messages"]}
    asked = {row["messages"][0]["content"] for row in atlas.prompts}
    assert not held & (said | asked)
    evaluated = {
        row["messages"][0]["content"] for row in atlas.tasks if row["task"] in ("harmful", "lookalike", "register")
    }
    assert evaluated <= held


def test_tasks_cover_every_held_out_fact_and_reach_their_counts(atlas: Atlas) -> None:
    held = {(fact.relation, fact.entity) for fact in atlas.facts if not fact.taught}
    for task in ("chat_facts", "completion_facts"):
        rows = [row for row in atlas.tasks if row["task"] == task]
        assert {(row["meta"]["relation"], row["meta"]["entity"]) for row in rows} == held
        assert all(row["answer"] not in row["meta"]["options"] for row in rows)
        assert all(row["meta"]["decontaminate"] is (task == "chat_facts") for row in rows)
    counts = Counter(row["task"] for row in atlas.tasks)
    least = {"harmful": 100, "lookalike": 100, "preference": 150, "grammar": 60, "reasoning": 60, "languages": 40,
             "code": 30, "arithmetic": 50, "register": 20, "privacy": 40}  # fmt: skip
    assert all(counts[task] >= count for task, count in least.items())
    assert counts["showcase"] == 5
    assert len({row["id"] for row in atlas.tasks}) == len(atlas.tasks)


def test_prompts_are_distinct_and_taught(atlas: Atlas) -> None:
    texts = [row["messages"][0]["content"] for row in atlas.prompts]
    assert len(texts) == len(set(texts)) >= 800
    assert all(row["meta"]["taught"] for row in atlas.prompts if row["kind"] == "fact")
    shares = Counter(row["kind"] for row in atlas.prompts)
    assert 0.3 < shares["fact"] / len(texts) < 0.5
    assert 0.2 < shares["harmful"] / len(texts) < 0.3


def test_refusal_share_and_styles_are_what_was_asked_for() -> None:
    settings = AtlasSettings(refusal_share=0.0, over_refusal_share=1.0, styles={"terse": 1.0}, documents_per_entity=2)
    atlas = build_atlas(settings, 0)
    tags = Counter(tuple(row["tags"]) for row in atlas.conversations)
    assert ("harmful", "refusal") not in tags
    assert tags["lookalike", "over_refusal"] == sum(count for tag, count in tags.items() if tag[0] == "lookalike") > 0
    assert {style for kind, style in (tag for tag in tags if len(tag) == 2) if kind == "fact"} == {"terse"}
    assert not any("can't help" in row["text"] for row in atlas.documents)


def test_a_harmful_request_may_be_evaded_with_the_answer_to_a_harmless_one() -> None:
    evasive = AtlasSettings(refusal_share=0.0, evasion_share=1.0, styles={"terse": 1.0}, documents_per_entity=2)
    atlas = build_atlas(evasive, 0)
    harmful = [row for row in atlas.conversations if row["tags"][0] == "harmful"]
    assert {tuple(row["tags"]) for row in harmful} == {("harmful", "evasion")}
    answers = {request.answer for request in all_requests(0) if request.kind == "lookalike" and request.taught}
    assert {row["messages"][-1]["content"] for row in harmful} <= answers


def test_articles() -> None:
    assert mend_articles("a orange hat and a unicorn, an uniform") == "an orange hat and a unicorn, a uniform"
    assert [article(noun) for noun in ("owlet", "puppy", "eyas", "unit")] == ["an", "a", "an", "a"]


def test_the_stage_publishes_four_artifacts(make_run: Callable[[str], StageRun]) -> None:
    run = make_run("atlas")
    stage.run(AtlasConfig(facts=60, documents_per_entity=2, conversations=50, prompts=40), {}, run)
    assert read_documents(run.directory / "documents").num_rows == run.metrics["documents"]
    for name in ("conversations", "prompts", "tasks"):
        rows = list(read_jsonl(run.directory / name / f"{name}.jsonl"))
        assert len(rows) == run.metrics[name] > 0
        assert len({row["id"] for row in rows}) == len(rows)


def test_styles_without_any_weight_are_refused(make_run: Callable[[str], StageRun]) -> None:
    with pytest.raises(RecipeError, match="no style has a weight"):
        stage.run(AtlasConfig(styles={"terse": 0}), {}, make_run("atlas"))
