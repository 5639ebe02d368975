"""For every golden file, the project's own computation of its outputs.

A checker takes a case's inputs and parameters and returns outputs by their golden names. A name `vjp…` is a scalar
whose gradient the golden file holds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.objectives import distill, logprobs, optimum, preference, reward
from tutelage.objectives.lm import next_token_loss
from tutelage.objectives.masked import masked_mean
from tutelage.objectives.preference import Pairs, PreferenceSettings

from .policy_checkers import POLICY_CHECKERS, Checker, Values, metric


def check_token_logprob(x: Values, params: Values) -> Values:
    return {"logp": logprobs.token_logprobs(x["logits"], x["labels"], x["mask"], params["temperature"])}


def check_token_entropy(x: Values, params: Values) -> Values:
    entropy = logprobs.token_entropy(x["logits"], x["mask"], params["temperature"])
    return {"entropy": entropy, "mean_entropy": masked_mean(entropy, x["mask"])}


def check_sequence_logprob(x: Values, params: Values) -> Values:
    sums, means = completion_logprobs(x)
    return {
        "sum_logp": sums,
        "mean_logp": means,
        "vjp_sum": (sums * x["cotangent"]).sum(),
        "vjp_mean": (means * x["cotangent"]).sum(),
    }


def completion_logprobs(x: Values) -> tuple[Tensor, Tensor]:
    targets, mask = logprobs.shift_labels(x["labels"])
    per_token = logprobs.token_logprobs(x["logits"], targets, mask)
    return logprobs.sequence_logprobs(per_token, mask), logprobs.sequence_logprobs(per_token, mask, mean=True)


def check_sft(x: Values, params: Values) -> Values:
    shifted = [logprobs.shift_labels(labels) for labels in x["labels"]]
    micro = [next_token_loss(logits, *pair) for logits, pair in zip(x["logits"], shifted, strict=True)]
    num_items = torch.stack([output.count for output in micro]).sum()
    losses = [output.loss_sum / num_items for output in micro]
    return {
        "num_items": num_items.long(),
        "losses": losses,
        "total": torch.stack(losses).sum(),
        # The naive average that accumulation must not be, for contrast: 0/0 where nothing is trained.
        "mean_of_means": torch.stack([output.loss_sum / output.count for output in micro]).mean(),
    }


def check_bradley_terry(x: Values, params: Values) -> Values:
    centring = params["center_rewards_coefficient"] or 0.0
    output = reward.bradley_terry(
        x["rewards_chosen"], x["rewards_rejected"], margin_B=x.get("margin"), centring=centring
    )
    return {"loss": output.mean(), "accuracy": metric(output, "accuracy"), "margin": metric(output, "margin")}


def check_listwise(x: Values, params: Values) -> Values:
    output = reward.listwise(x["rewards"])
    per_prompt = torch.stack([reward.listwise(row.unsqueeze(0)).loss_sum for row in x["rewards"]])
    return {"loss": output.mean(), "per_prompt": per_prompt, "accuracy": metric(output, "accuracy")}


def paired(name: str) -> Checker:
    def check(x: Values, params: Values) -> Values:
        settings = PreferenceSettings(
            params["beta"], params["label_smoothing"], reference_free=params["reference_free"]
        )
        ones = torch.ones_like(x["chosen_logps"])
        pairs = Pairs(
            x["chosen_logps"], x["rejected_logps"], ones, ones, x["ref_chosen_logps"], x["ref_rejected_logps"]
        )
        return preference_outputs(name, pairs, settings)

    return check


def preference_outputs(name: str, pairs: Pairs, settings: PreferenceSettings) -> Values:
    chosen, rejected = preference.implicit_rewards(name, pairs, settings)
    return {
        "losses": preference.PREFERENCE_LOSSES[name](pairs, settings),
        "loss": preference.preference_loss(name, pairs, settings).mean(),
        "chosen_rewards": chosen,
        "rejected_rewards": rejected,
    }


def check_dpo_from_tokens(x: Values, params: Values) -> Values:
    mask = x["completion_mask"][:, 1:]
    sums = logprobs.sequence_logprobs(x["per_token_logps"], mask)
    ref_sums = logprobs.sequence_logprobs(x["ref_per_token_logps"], mask)
    columns = [column.chunk(2) for column in (sums, mask.sum(-1), ref_sums)]
    pairs = Pairs(*columns[0], *columns[1], *columns[2])
    settings = PreferenceSettings(params["beta"], params["label_smoothing"])
    output = preference.preference_loss(params["loss_type"], pairs, settings)
    return {
        "loss": output.mean(),
        "sum_logps": sums,
        "ref_sum_logps": ref_sums,
        "mean_reward_chosen": metric(output, "rewards/chosen"),
        "mean_reward_rejected": metric(output, "rewards/rejected"),
        "reward_accuracy": metric(output, "rewards/accuracies"),
        "reward_margin": metric(output, "rewards/margins"),
    }


def check_simpo(x: Values, params: Values) -> Values:
    outputs = {}
    if "logits" in x:
        outputs["avg_logps"] = completion_logprobs(x)[1]
        chosen, rejected = outputs["avg_logps"].chunk(2)
    else:
        chosen, rejected = x["chosen_avg_logps"], x["rejected_avg_logps"]
    settings = PreferenceSettings(params["beta"], params["label_smoothing"], params["gamma"])
    return outputs | preference_outputs("simpo", mean_pairs(chosen, rejected), settings)


def mean_pairs(chosen: Tensor, rejected: Tensor) -> Pairs:
    """Pairs whose per-token means are given: one token each."""
    return Pairs(chosen, rejected, torch.ones_like(chosen), torch.ones_like(rejected))


def check_orpo(x: Values, params: Values) -> Values:
    if "logits" in x:
        averages = completion_logprobs(x)[1]
        chosen, rejected = averages.chunk(2)
        half = len(chosen)
        # The oracle's NLL is over prompt and response; ours, over the response, is its `nll_response_only`.
        whole = x["input_ids"].where(x["attention_mask"].bool(), logprobs.IGNORED)
        nll, response_nll = (
            next_token_loss(x["logits"][:half], *logprobs.shift_labels(labels[:half])).mean()
            for labels in (whole, x["labels"])
        )
        extra = {"avg_logps": averages, "nll": nll, "nll_response_only": response_nll}
    else:
        chosen, rejected, nll, extra = x["chosen_avg_logps"], x["rejected_avg_logps"], torch.zeros(()), {}
    log_odds = preference.log_odds_ratio(chosen, rejected)
    terms = preference.odds_ratio_term(chosen, rejected, params["beta"])
    rewards = preference.implicit_rewards("orpo", mean_pairs(chosen, rejected), PreferenceSettings(params["beta"]))
    # The whole objective, less its own NLL, is the odds-ratio term.
    whole = preference.preference_loss("orpo", mean_pairs(chosen, rejected), PreferenceSettings(params["beta"]))
    torch.testing.assert_close(whole.mean() + chosen.mean(), terms.mean(), rtol=1e-5, atol=1e-5)
    return extra | {
        "or_losses": -terms,
        "loss": nll + terms.mean(),
        "log_odds_mean": log_odds.mean(),
        "log_sigmoid_mean": torch.nn.functional.logsigmoid(log_odds).mean(),
        "chosen_rewards": rewards[0],
        "rejected_rewards": rewards[1],
    }


def check_kto(x: Values, params: Values) -> Values:
    desirable = torch.arange(len(x["chosen_logps"]) + len(x["rejected_logps"])) < len(x["chosen_logps"])
    policy_logps = torch.cat([x["chosen_logps"], x["rejected_logps"]])
    ref_logps = torch.cat([x["ref_chosen_logps"], x["ref_rejected_logps"]])
    baseline = preference.kto_baseline(x["kl_logps"], x["ref_kl_logps"])
    weights = (params["desirable_weight"], params["undesirable_weight"])
    losses = preference.kto_losses(policy_logps - ref_logps, desirable, baseline, params["beta"], *weights)
    output = preference.kto(
        policy_logps,
        ref_logps,
        desirable,
        baseline,
        beta=params["beta"],
        desirable_weight=weights[0],
        undesirable_weight=weights[1],
    )
    rewards = params["beta"] * (policy_logps - ref_logps)
    for name, part in (("chosen", rewards[desirable]), ("rejected", rewards[~desirable])):
        torch.testing.assert_close(output.metrics[f"rewards/{name}"][0], part.sum().detach())
    return {
        "losses": losses,
        "loss": output.mean(),
        "kl": baseline,
        "chosen_rewards": rewards[desirable],
        "rejected_rewards": rewards[~desirable],
    }


def check_distillation(x: Values, params: Values) -> Values:
    mask = x["labels"] != logprobs.IGNORED
    beta, temperature = params["beta"], params["temperature"]
    output = distill.distillation_loss(
        x["student_logits"], x["teacher_logits"], mask, beta=beta, temperature=temperature
    )
    teacher, student = (
        logprobs.selected_logits(x[name], mask, temperature).log_softmax(-1)
        for name in ("teacher_logits", "student_logits")
    )
    num_items = params["num_items_in_batch"]
    return {
        "loss": output.loss_sum / num_items if num_items else output.mean(),
        "per_token": distill.divergence(teacher, student, beta),
    }


def check_optimum(x: Values, params: Values) -> Values:
    beta = params["beta"]
    ref = optimum.table_logprobs([x["logits1"], x["logits2"], x["logits3"]])
    best = optimum.kl_regularised_optimum(ref, x["reward"], beta)
    other = optimum.table_logprobs([x["policy_logits1"], x["policy_logits2"], x["policy_logits3"]])
    value = optimum.policy_value(other, ref, x["reward"], beta)
    torch.testing.assert_close(best.value.objective, beta * best.log_z)
    return {
        "expected_reward": best.value.expected_reward,
        "kl": best.value.kl,
        "objective": best.value.objective,
        "log_Z": best.log_z,
        "ref_expected_reward": optimum.policy_value(ref, ref, x["reward"], beta).expected_reward,
        "argmax_sequence": torch.tensor(optimum.most_likely(best.logprobs)),
        "max_log_prob": best.logprobs.max(),
        "first": best.conditionals[0],
        "second": best.conditionals[1],
        "third": best.conditionals[2],
        "policy_expected_reward": value.expected_reward,
        "policy_kl": value.kl,
        "policy_objective": value.objective,
    }


CHECKERS: dict[str, Checker] = POLICY_CHECKERS | {
    "distill_forward_kl": check_distillation,
    "distill_gjsd": check_distillation,
    "distill_reverse_kl": check_distillation,
    "dpo_cdpo": paired("cdpo"),
    "dpo_from_tokens": check_dpo_from_tokens,
    "dpo_hinge": paired("hinge"),
    "dpo_ipo_sum": paired("ipo_sum"),
    "dpo_ipo_token_mean": check_dpo_from_tokens,
    "dpo_robust": paired("robust"),
    "dpo_sigmoid": paired("sigmoid"),
    "kl_regularised_optimum": check_optimum,
    "kto": check_kto,
    "orpo": check_orpo,
    "reward_bt": check_bradley_terry,
    "reward_listwise": check_listwise,
    "sequence_logprob": check_sequence_logprob,
    "sft_ce": check_sft,
    "simpo": check_simpo,
    "token_entropy": check_token_entropy,
    "token_logprob": check_token_logprob,
}
