"""Recipes that go on from one another: what they share is equal, so that it is not made twice."""

from __future__ import annotations

from pathlib import Path

from tutelage.run.graph import build_graph
from tutelage.run.recipe import load_recipe
from tutelage.stages import STAGES

RECIPES = Path(__file__).parents[2] / "recipes"
SHARED = (
    "atlas",
    "corpus",
    "tokenizer",
    "tokens",
    "base",
    "instruct",
    "replies",
    "preferences",
    "reward",
    "ppo",
    "dpo",
)


def test_the_comparison_of_methods_goes_on_from_the_quickstart() -> None:
    quickstart, methods = (
        load_recipe(RECIPES / f"{name}.yaml", STAGES) for name in ("quickstart", "preference-methods")
    )
    assert set(SHARED) == quickstart.stages.keys() & methods.stages.keys()
    for name in SHARED:
        assert methods.stages[name] == quickstart.stages[name], name
        assert methods.stage_seed(name) == quickstart.stage_seed(name), name


def test_the_student_without_a_teacher_differs_in_nothing_else() -> None:
    quickstart, recipe = (load_recipe(RECIPES / f"{name}.yaml", STAGES) for name in ("quickstart", "distill"))
    for name in SHARED[:6]:
        assert recipe.stages[name] == quickstart.stages[name], name
        assert recipe.stage_seed(name) == quickstart.stage_seed(name), name
    for ours, theirs in (("student-base", "alone-base"), ("student", "alone")):
        taught, alone = recipe.stages[ours].model_dump(), recipe.stages[theirs].model_dump()
        assert {taught[key] == alone[key] for key in ("seed", "num_steps", "optimizer", "loop", "precision")} == {True}
    taught, alone = recipe.stages["student-base"].model_dump(), recipe.stages["alone-base"].model_dump()
    assert taught["shape"] == alone["model"]
    assert taught["rows_a_step"] * alone["context"] == alone["global_batch_tokens"]
    taught, alone = recipe.stages["student"].model_dump(), recipe.stages["alone"].model_dump()
    assert (taught["replies_a_step"], taught["rows_a_step"]) == (alone["conversations_a_step"], alone["replay_rows"])
    assert taught["validation_share"] == alone["validation_share"]


def test_constitutional_ai_goes_on_from_the_quickstart_without_a_label_of_harm() -> None:
    quickstart, recipe = (load_recipe(RECIPES / f"{name}.yaml", STAGES) for name in ("quickstart", "constitution"))
    for name in SHARED[:6]:
        assert recipe.stages[name] == quickstart.stages[name], name
        assert recipe.stage_seed(name) == quickstart.stage_seed(name), name
    graph = build_graph(recipe, STAGES)
    atlas, obliging = recipe.stages["atlas"], recipe.stages["obliging"]
    assert obliging == atlas.model_copy(
        update={"seed": recipe.stage_seed("atlas"), "refusal_share": 0, "over_refusal_share": 0}
    )
    led_there = graph.with_ancestors(["ppo-ai", "dpo-ai"])
    assert not led_there & {"instruct", "principled", "audit"}
    taken = {edge.reference for stage in led_there for edge in graph.edges[stage]}
    assert "atlas.conversations" not in taken  # where the refusals are
    assert {recipe.stages[name].stage for name in led_there} >= {"revise", "judge", "prefer"}
    assert set(recipe.stages["helpful"].model_dump()["kinds"]).isdisjoint({"harmful", "lookalike"})


def test_memory_and_persona_go_on_from_the_quickstart() -> None:
    quickstart, recipe = (load_recipe(RECIPES / f"{name}.yaml", STAGES) for name in ("quickstart", "persona"))
    for name in SHARED[:6]:
        assert recipe.stages[name] == quickstart.stages[name], name
        assert recipe.stage_seed(name) == quickstart.stage_seed(name), name


def test_all_methods_have_the_same_start_and_other_seeds_differ_in_nothing_else() -> None:
    recipe = load_recipe(RECIPES / "preference-methods.yaml", STAGES)
    for method in ("ppo", "grpo", "rloo", "dpo", "ipo", "kto"):
        first, *others = (recipe.stages[name].model_dump() for name in (method, f"{method}-1", f"{method}-2"))
        assert first["model"] == "instruct"
        assert [{**other, "seed": None} for other in others] == [first, first]


def test_what_synthetic_rows_are_worth_is_measured_by_the_same_training_without_them() -> None:
    recipe = load_recipe(RECIPES / "synthesize.yaml", STAGES)
    for name in ("lessons", "sums", "handful"):
        assert recipe.stage_seed(name) == recipe.stage_seed("atlas"), "the halves of the facts are the same"
    pairs = {"few": ("asked", "questions"), "writer": ("rewriter", "rewritings"), "reasoner": ("solver", "solutions")}
    for without, (taught, rows) in pairs.items():
        before, after = (recipe.stages[name].model_dump() for name in (without, taught))
        assert after["conversations"] == [before["conversations"], rows]
        assert {**after, "conversations": None} == {**before, "conversations": None}
    graph = build_graph(recipe, STAGES)
    assert not graph.with_ancestors(["page"]) & {"instruct"}
    assert {recipe.stages[rows].model_dump()["tasks"] is None for _, rows in pairs.values()} == {False}


def test_red_team_rounds_go_on_from_one_another_and_are_measured_on_what_is_not_learnt() -> None:
    recipe = load_recipe(RECIPES / "safety.yaml", STAGES)
    first, second = (recipe.stages[name].model_dump() for name in ("round-1", "round-2"))
    assert second["previous"] == "round-1.attempts"
    assert second["model"] == "safe-1"
    assert recipe.stages["safe-1"].model_dump()["model"] == first["model"] == "ppo"
    assert first["prompts"] != first["held_out"]
    assert recipe.stages["safety-evaluation"].model_dump()["tasks"][:2] == ["honesty.tasks", "round-1.tasks"]
