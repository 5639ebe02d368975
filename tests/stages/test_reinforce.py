"""PPO, GRPO and RLOO: where they begin, what they learn, how rewards are combined, and what is never trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tiny import (
    CITIES,
    CONTEXT,
    jsonl_artifact,
    model_artifact,
    question,
    reward_artifact,
    stage_run,
    tokenizer,
    tokens_artifact,
    tree_bytes,
)
from tiny import model as tiny_model
from tutelage.data.completions import Completion, completion_of
from tutelage.data.train_tokenizer import train_bpe
from tutelage.errors import DataError, TrainingError
from tutelage.feedback.rules import RULES, Replied, RuleSettings
from tutelage.model.heads import PolicyWithValue, RewardModel
from tutelage.model.hub import load_causal_lm, load_reward_model
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import read_journal
from tutelage.run.stage import StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages import grpo, ppo, rloo
from tutelage.stages.alignment import rewards, rollouts
from tutelage.stages.alignment.notes import rollout_notes
from tutelage.stages.alignment.rewards import Judged, by_text, by_tokens
from tutelage.stages.configs import GRPOConfig, PPOConfig, RLOOConfig

STAGES: dict[str, tuple[Callable[..., None], type]] = {
    "ppo": (ppo.run, PPOConfig),
    "grpo": (grpo.run, GRPOConfig),
    "rloo": (rloo.run, RLOOConfig),
}
SIZE: dict[str, dict[str, int]] = {
    "ppo": {"rollouts_a_batch": 12},
    "grpo": {"prompts_a_batch": 3, "num_replies": 4},
    "rloo": {"prompts_a_batch": 3, "num_replies": 4},
}
NORMALISATIONS = ["sequence_mean", "token_mean", "dr", "dapo", "gspo"]


def prompt_rows(answered: Sequence[str] = tuple(CITIES)) -> list[dict[str, Any]]:
    return [
        {"id": country, "messages": question(country), "kind": "fact"}
        | ({"answer": city} if country in answered else {})
        for country, city in CITIES.items()
    ]


def train(folder: Path, stage: str, *, inputs: dict[str, Artifact] | None = None, rows: Any = None,
          **changes: Any) -> StageRun:  # fmt: skip
    given = {
        "model": model_artifact(folder / "m"),
        "prompts": jsonl_artifact(ArtifactType.PROMPTS, folder / "p" / "prompts.jsonl", rows or prompt_rows()),
        **(inputs or {}),
    }
    if changes.get("reward_model", "reward") == "reward":
        given.setdefault("reward_model", reward_artifact(folder / "r", seed=1))
    settings = {"reward_model": "reward", "max_tokens": 6, "num_rollout_batches": 2, "precision": "float32",
                "optimizer": {"learning_rate": 0.01}, **SIZE[stage], **changes}  # fmt: skip
    run_stage, config = STAGES[stage]
    run = stage_run(folder / "out")
    run_stage(config(model="", prompts="", **settings), given, run)
    return run


def journal(run: StageRun) -> list[dict[str, Any]]:
    return read_journal(run.journal.path)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_first_pass_of_grpo_is_on_policy_with_every_normalisation(tmp_path: Path, normalisation: str) -> None:
    run = train(tmp_path, "grpo", normalisation=normalisation, num_epochs=2)
    on_policy(journal(run))


def test_the_first_pass_of_rloo_is_on_policy(tmp_path: Path) -> None:
    on_policy(journal(train(tmp_path, "rloo", num_epochs=2)))


def on_policy(rows: list[dict[str, Any]]) -> None:
    for row in (rows[0], rows[2]):  # the first pass over each of two rollout batches
        assert row["val/ratio"] == pytest.approx(1, abs=1e-5)
        assert row["policy/approxkl"] == pytest.approx(0, abs=1e-6)
        assert row["policy/clipfrac"] == 0
        assert row["objective/logprob_gap"] < 1e-4
    assert rows[0]["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert rows[1]["policy/approxkl"] > 0
    assert len(rows) == 4


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_one_update_a_batch_learns_from_its_own_forward_alone(
    tmp_path: Path, normalisation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"normalisation": normalisation, "kl_coef": 0.5, "num_samples": 0}
    with monkeypatch.context() as patch:
        patch.setattr(rollouts.RolloutSource, "_outputs", lambda *_: pytest.fail("the policy was asked once more"))
        alone = train(tmp_path / "alone", "grpo", **settings)
    honest = grpo.method
    monkeypatch.setattr(grpo, "method", lambda config: replace(honest(config), scores_alone=False))
    asked = train(tmp_path / "asked", "grpo", **settings)
    for once, twice in zip(journal(alone), journal(asked), strict=True):
        assert once["val/ratio"] == 1
        assert once["policy/approxkl"] == once["policy/clipfrac"] == 0
        assert once.keys() == twice.keys()
        for name in (
            "loss/policy",
            "grad_norm",
            "policy/ref_kl",
            *(name for name in once if name.startswith("objective/")),
        ):
            assert once[name] == pytest.approx(twice[name], rel=1e-3, abs=1e-4), name
    assert journal(alone)[0]["objective/kl"] == 0


@pytest.mark.parametrize(
    ("stage", "changes"),
    [("grpo", {"kl_in": "score"}), ("grpo", {"kl_target": 1.0}), ("grpo", {"num_minibatches": 2}), ("rloo", {}),
     ("ppo", {"num_epochs": 1})],
)  # fmt: skip
def test_the_policy_is_asked_before_the_update_where_its_log_probs_are_needed_then(
    tmp_path: Path, stage: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    honest = rollouts.RolloutSource._outputs
    monkeypatch.setattr(rollouts.RolloutSource, "_outputs", lambda *given: calls.append(1) or honest(*given))
    train(tmp_path, stage, num_rollout_batches=1, **changes)
    assert calls


@pytest.mark.parametrize(("lora", "models"), [(None, 3), ({"rank": 2}, 2)])
def test_costs_are_counted(tmp_path: Path, lora: Any, models: int) -> None:
    run = train(tmp_path, "ppo", lora=lora)
    assert (
        run.metrics["cost/models"] == models
    )  # policy and critic are one; a policy with an adapter is its own reference
    batches = journal(run)[:: len(journal(run)) // 2]
    assert run.metrics["cost/generated_tokens"] == pytest.approx(sum(12 * row["val/length"] for row in batches))


@pytest.mark.parametrize("stage", ["grpo", "rloo"])
def test_group_methods_raise_the_score_and_the_leash_holds_them_back(tmp_path: Path, stage: str) -> None:
    settings: dict[str, Any] = {"num_rollout_batches": 40, "prompts_a_batch": 6, "num_replies": 8, "num_samples": 0,
                                "missing_end_penalty": 0.0, "optimizer": {"learning_rate": 0.02}}  # fmt: skip
    free = train(tmp_path / "free", stage, kl_coef=0.0, **settings)
    leashed = train(tmp_path / "leashed", stage, kl_coef=2.0, **settings)
    scores = [row["objective/scores"] for row in journal(free)]
    assert sum(scores[-10:]) / 10 > sum(scores[:10]) / 10 + 0.4
    assert abs(leashed.metrics["objective/kl"]) < 0.4 * free.metrics["objective/kl"]


def test_grpo_with_the_kl_in_the_score_is_rloo_but_for_its_baseline() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(5) < torch.tensor([5, 3, 4, 2, 5, 1, 3, 4])[:, None]
    judged = rollouts.Judged(torch.randn(8, generator=generator), torch.arange(2).repeat_interleave(4),
                             torch.randn(8, 5, generator=generator), torch.zeros(8, 5), mask, 0.7)  # fmt: skip
    in_score = grpo.estimate(judged, "none", kl_in_score=True).advantages_BT
    assert torch.allclose(in_score, 3 / 4 * rloo.estimate(judged, whiten=False).advantages_BT, atol=1e-6)
    assert not torch.allclose(in_score, grpo.estimate(judged, "none").advantages_BT, atol=1e-2)


def test_the_kl_of_grpo_is_in_the_loss_or_in_the_score_and_never_in_both(tmp_path: Path) -> None:
    runs = {kl_in: train(tmp_path / kl_in, "grpo", kl_in=kl_in, kl_coef=0.5) for kl_in in ("loss", "score")}
    assert {kl_in: "policy/ref_kl" in journal(run)[0] for kl_in, run in runs.items()} == {"loss": True, "score": False}
    weights = [tree_bytes(run.directory)["model.safetensors"] for run in runs.values()]
    assert weights[0] != weights[1]


@pytest.mark.parametrize("stage", STAGES)
def test_rewards_are_combined_by_weight_and_logged_by_name(tmp_path: Path, stage: str) -> None:
    weights = {"answer": 2.0, "finished": -1.0, "format": 0.5, "length": 1.0, "rubric": 0.25, "model": 0.5}
    run = train(tmp_path, stage, rewards=weights, format_pattern=r".*\.", missing_end_penalty=0.0)
    for row in journal(run):
        expected = sum(weight * row[f"rewards/{name}"] for name, weight in weights.items())
        assert row["objective/scores"] == pytest.approx(expected, abs=1e-4)
        assert row["val/num_unrewarded"] == 0


def test_one_reward_model_weighs_one_and_several_have_labels(tmp_path: Path) -> None:
    first = reward_artifact(tmp_path / "r1", seed=1)
    alone = train(tmp_path / "a", "ppo", inputs={"reward_model": first})
    same = train(tmp_path / "b", "ppo", inputs={"reward_model": first}, rewards={"model": 1.0, "answer": 0.0})
    assert tree_bytes(alone.directory)["model.safetensors"] == tree_bytes(same.directory)["model.safetensors"]
    assert same.metrics["rewards/answer"] == 0
    two = {"reward_model.kind": first, "reward_model.short": reward_artifact(tmp_path / "r2", seed=2)}
    run = train(tmp_path / "c", "grpo", inputs=two, reward_model={"kind": "x", "short": "y"}, rewards={"short": 0.5},
                missing_end_penalty=0.0)  # fmt: skip
    row = journal(run)[0]
    assert row["objective/scores"] == pytest.approx(row["rewards/kind"] + 0.5 * row["rewards/short"], abs=1e-5)


def test_rules() -> None:
    settings = RuleSettings(max_tokens=20, format_pattern="[A-Z].*")
    prompt = {"messages": question("France"), "kind": "fact", "answer": "Paris", "meta": {"options": ["Paris", "Rome"]}}
    good = Replied(prompt, "Paris.", True, 4)
    assert {name: rule(good, settings) for name, rule in RULES.items() if name != "rubric"} == {
        "answer": 1, "finished": 1, "format": 1, "length": 0}  # fmt: skip
    bad = Replied(prompt, "rome or Paris", False, 15)
    assert [RULES[name](bad, settings) for name in ("answer", "finished", "format", "length")] == [0, 0, 0, -0.5]
    assert RULES["length"](Replied(prompt, "x", False, 20), settings) == -1
    assert RULES["rubric"](good, settings) > RULES["rubric"](bad, settings)
    assert math.isnan(RULES["answer"](Replied({**prompt, "answer": None}, "Paris.", True, 4), settings))


@pytest.mark.parametrize("stage", STAGES)
def test_a_prompt_without_an_answer_has_no_such_reward(tmp_path: Path, stage: str) -> None:
    some = prompt_rows(["France", "Spain"])
    run = train(tmp_path / "some", stage, rows=some, reward_model=None, rewards={"answer": 1.0})
    assert "4 prompts have no `answer` to reward and were dropped" in run.notes
    both = train(tmp_path / "both", stage, rows=prompt_rows([]), rewards={"answer": 1.0})
    assert "rewards/answer" not in both.metrics
    assert "the reward `answer` was NaN throughout and counted for nothing" in both.notes
    with pytest.raises(DataError, match="has an `answer`, and nothing else is rewarded"):
        train(tmp_path / "none", stage, rows=prompt_rows([]), reward_model=None, rewards={"answer": 1.0})


@pytest.mark.parametrize("stage", STAGES)
def test_rewards_that_are_nan_are_counted_and_never_trained_on(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = rewards.score

    def broken(model: RewardModel, completions: Sequence[Completion], pad_id: int) -> torch.Tensor:
        scores = honest(model, completions, pad_id)
        scores[::3] = math.nan
        scores[1::6] = math.inf
        return scores

    monkeypatch.setattr(rewards, "score", broken)
    seen: list[int] = []
    honest_take = rollouts.take

    def take(batch: rollouts.RolloutBatch, index: torch.Tensor, pad_id: int) -> rollouts.RolloutBatch:
        taken = honest_take(batch, index, pad_id)
        assert taken.packed is not None
        per_reply = taken.packed.sums((taken.rows.targets_BT >= 0).long()).tolist()
        seen.extend(index[place].item() for place, count in enumerate(per_reply) if count)
        return taken

    monkeypatch.setattr(rollouts, "take", take)
    run = train(tmp_path / "a", stage, num_rollout_batches=1, num_epochs=1)
    assert sorted(seen) == [2, 4, 5, 8, 10, 11]
    assert run.metrics["val/num_unrewarded"] == 6
    assert "6 of 12 replies got no reward (model gave NaN) and were not trained on" in run.notes
    weights = torch.cat([p.flatten() for p in load_causal_lm(run.directory).parameters()])
    assert weights.isfinite().all()
    monkeypatch.setattr(rewards, "score", lambda model, completions, pad_id: torch.full((len(completions),), math.nan))
    with pytest.raises(TrainingError, match="no reply of rollout batch 0 got a reward that is a number: model"):
        train(tmp_path / "b", stage)


def other_tokenizer() -> Any:
    return train_bpe(["Other words give other merges, other words."] * 3, 290)


def test_a_reward_model_of_another_tokenizer_may_read_the_text(tmp_path: Path) -> None:
    other = {"reward_model": reward_artifact(tmp_path / "other", seed=1, own=other_tokenizer())}
    with pytest.raises(TrainingError, match="different tokenizers") as caught:
        train(tmp_path / "a", "grpo", inputs=other)
    assert "reward_by_text: true" in caught.value.hint
    run = train(tmp_path / "b", "grpo", inputs=other, reward_by_text=True)
    assert run.metrics["val/num_unrewarded"] >= 0


def test_text_level_scores_are_those_of_the_tokens_where_tokenizers_agree(tmp_path: Path) -> None:
    reward_artifact(tmp_path / "r", seed=1)
    model, own = load_reward_model(tmp_path / "r"), tokenizer()
    completion = completion_of(own, question("France"), "Paris.")
    long = Completion(completion.ids + [5] * CONTEXT, completion.num_prompt)
    judged = Judged([completion, long], [Replied({"messages": question("France")}, "Paris.", True, 3)] * 2)
    scores, texts = by_tokens(model, own.pad_id)(judged), by_text(model, own)(judged)
    assert float(scores[0]) == pytest.approx(float(texts[0]), abs=1e-5)
    assert scores[1].isnan()  # longer than the reward model was made for


@pytest.mark.parametrize("stage", STAGES)
def test_a_reference_of_another_vocabulary_is_refused(tmp_path: Path, stage: str) -> None:
    other = {"reference": model_artifact(tmp_path / "ref", own=other_tokenizer())}
    with pytest.raises(TrainingError, match="the reference ref has another tokenizer than m"):
        train(tmp_path, stage, inputs=other)


def test_prompts_without_room_are_dropped_and_counted(tmp_path: Path) -> None:
    long = {"id": "long", "messages": [{"role": "user", "content": "Paris " * 100}], "kind": "fact"}
    run = train(tmp_path, "rloo", rows=[*prompt_rows(), long])
    assert "1 prompts leave no room for a reply and were dropped" in run.notes


def test_another_reference_is_what_the_kl_is_against(tmp_path: Path) -> None:
    run = train(tmp_path, "ppo", inputs={"reference": model_artifact(tmp_path / "ref", seed=5)})
    assert journal(run)[0]["objective/kl"] > 0.1


def test_the_critic_starts_as_the_fit_to_the_first_returns(tmp_path: Path) -> None:
    run = train(tmp_path, "ppo", num_rollout_batches=1, gae_lambda=1.0, kl_coef=0.0)
    assert 0.1 < journal(run)[0]["val/explained_variance"] <= 1.0


def test_fitted_values_are_the_ridge_regression_of_the_returns() -> None:
    model = PolicyWithValue(tiny_model(3))
    rows = torch.randint(0, 50, (4, 12)), torch.arange(12).expand(4, 12), torch.ones(4, 12, dtype=torch.long)
    mask = torch.rand(4, 12, generator=torch.Generator().manual_seed(0)) < 0.7
    states = model.policy.hidden(*rows)
    truth = torch.randn(states.shape[-1], generator=torch.Generator().manual_seed(1))
    noise = torch.where(mask, 0.0, torch.nan)  # what is outside the mask is not looked at
    model.fit_values(*rows, states @ truth + noise, mask)
    fitted = (states @ model.value.weight[0])[mask]
    wanted = (states @ truth)[mask]
    assert 1 - (fitted - wanted).var() / wanted.var() > 0.9
    model.fit_values(*rows, torch.zeros(4, 12), mask)
    assert model.value.weight.abs().max() == 0


def test_the_critic_warms_up_alone(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_rollout_batches": 2, "num_epochs": 3, "num_minibatches": 1, "kl_target": 0.1,
                                "gae_lambda": 0.5}  # fmt: skip
    run = train(tmp_path, "ppo", critic_warmup_batches=2, **settings)
    before, after = load_causal_lm(tmp_path / "m").state_dict(), load_causal_lm(run.directory).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    rows = journal(run)
    assert rows[2]["loss/value"] < rows[0]["loss/value"]
    assert {row["objective/kl_coef"] for row in rows} == {rows[0]["objective/kl_coef"]}
    trained = train(tmp_path / "on", "ppo", critic_warmup_batches=1, **settings)
    after = load_causal_lm(trained.directory).state_dict()
    assert not all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("stage", STAGES)
def test_replayed_text_is_learnt_beside_the_rewards(tmp_path: Path, stage: str) -> None:
    tokens = {"replay": tokens_artifact(tmp_path / "t")}
    run = train(tmp_path / "a", stage, inputs=tokens, replay="", replay_rows=2, ptx_coef=5.0, num_rollout_batches=8)
    losses = [row["loss/ptx"] for row in journal(run)]
    assert losses[-1] < losses[0] - 0.5
    with pytest.raises(TrainingError, match="was not made with the tokenizer"):
        train(
            tmp_path / "b", stage, inputs={"replay": tokens_artifact(tmp_path / "o", own=other_tokenizer())}, replay=""
        )


def test_samples_are_of_the_same_prompts_before_on_the_way_and_after(tmp_path: Path) -> None:
    run = train(tmp_path, "grpo", num_rollout_batches=4, loop={"evaluate_every": 2}, num_samples=2)
    rows = list(read_jsonl(run.directory / "samples.jsonl"))
    assert [(row["step"], row["prompt_id"]) for row in rows] == [(s, p) for s in (0, 2, 4) for p in ("France", "Spain")]
    assert all(row.keys() == {"step", "prompt_id", "prompt", "completion", "finish_reason"} for row in rows)
    off = train(tmp_path / "off", "grpo", num_samples=0)
    assert not (off.directory / "samples.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward_model": None}, "nothing rewards the replies"),
        ({"rewards": {"anser": 1.0}}, "there is no reward 'anser'.*answer"),
        ({"rewards": {"format": 1.0}}, "`format` needs a `format_pattern`"),
        ({"format_pattern": "("}, "no regular expression"),
        ({"reward_model": {"answer": "x"}}, "'answer' is the name of a rule"),
        ({"length_limit": 64}, "must be less than max_tokens"),
    ],
)
def test_rewards_that_cannot_be_are_refused_in_the_recipe(changes: dict[str, Any], message: str) -> None:
    for _, config in STAGES.values():
        with pytest.raises(ValidationError, match=message):
            config(**{"model": "m", "prompts": "p", "reward_model": "r", **changes})


HEALTHY = {"step": 1, "objective/kl": 0.0, "objective/scores": 0.0, "objective/entropy": 2.0, "val/length": 10.0,
           "val/num_eos_tokens": 4.0, "objective/logprob_gap": 0.0, "groups/zero_std": 0.1}  # fmt: skip


@pytest.mark.parametrize(
    ("first", "end", "words"),
    [
        ({"objective/kl": 0.2}, {}, "before the first update"),
        ({}, {"val/num_eos_tokens": 2.0}, "only 50% of the last replies ended"),
        ({}, {"objective/kl": 6.0}, "6.0 nats a reply from where it started"),
        ({}, {"objective/scores": 1.0, "val/length": 30.0}, "scores rose while replies grew from 10 to 30 tokens"),
        ({}, {"objective/entropy": 0.1}, "entropy collapsed from 2.00 to 0.10"),
        ({}, {"groups/zero_std": 0.9}, "90% of the last groups had replies of one score only"),
        ({}, {"objective/logprob_gap": 0.1}, "disagree on log-probs"),
    ],
)
def test_what_is_wrong_is_said_in_words(first: dict[str, float], end: dict[str, float], words: str) -> None:
    healthy = rollout_notes(HEALTHY, HEALTHY, HEALTHY, num_rollouts=4, own_reference=True)
    assert healthy == []
    notes = rollout_notes({**HEALTHY, **first}, HEALTHY, {**HEALTHY, **end}, num_rollouts=4, own_reference=True)
    assert len(notes) == 1
    assert words in notes[0]


def test_rounding_of_bfloat16_is_no_disagreement_of_decoding_and_training() -> None:
    apart = {**HEALTHY, "objective/logprob_gap": 0.3}
    assert rollout_notes(HEALTHY, HEALTHY, apart, num_rollouts=4, own_reference=True, dtype=torch.bfloat16) == []
    apart = {**HEALTHY, "objective/logprob_gap": 0.6}
    assert len(rollout_notes(HEALTHY, HEALTHY, apart, num_rollouts=4, own_reference=True, dtype=torch.bfloat16)) == 1


def test_groups_of_one_score_are_counted_and_teach_nothing(tmp_path: Path) -> None:
    run = train(tmp_path, "grpo", reward_model=None, rewards={"format": 1.0}, format_pattern="never", kl_coef=0.0,
                missing_end_penalty=0.0, num_rollout_batches=1)  # fmt: skip
    assert run.metrics["groups/zero_std"] == 1
    assert any("had replies of one score only" in note for note in run.notes)
    before, after = load_causal_lm(tmp_path / "m").state_dict(), load_causal_lm(run.directory).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
