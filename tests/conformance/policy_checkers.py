"""The project's own computation of golden outputs: rollouts, advantages and policy-gradient losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tutelage.objectives import advantages, kl, logprobs, policy
from tutelage.objectives.masked import masked, masked_mean, masked_var, masked_whiten
from tutelage.objectives.policy import Clip
from tutelage.objectives.types import LossOutput, divide

Values = dict[str, Any]
Checker = Callable[[Values, Values], Values]


def metric(output: LossOutput, name: str) -> Tensor:
    return divide(*output.metrics[name])


def check_ppo_rewards(x: Values, params: Values) -> Values:
    kind = params["kl_penalty"]
    if kind == "full":
        kls = kl.full_kl(*(x[name] for name in full_table_names(x)))
    else:
        kls = kl.KL_ESTIMATORS[{"kl": "k1", "abs": "abs", "mse": "k2"}[kind]](x["logprobs"], x["ref_logprobs"])
    no_scores = torch.zeros_like(x["scores"])
    return {
        "rewards": advantages.token_rewards(x["scores"], kls, x["mask"], params["kl_coef"]),
        "non_score_rewards": advantages.token_rewards(no_scores, kls, x["mask"], params["kl_coef"]),
        "kls": kls,
        "kl_mean": masked(kls, x["mask"]).sum(-1).mean(),
    }


def full_table_names(x: Values) -> tuple[str, str]:
    """Names of the policy's and the reference's tables: the inputs with a vocabulary dimension."""
    names = sorted((name for name, value in x.items() if value.ndim == 3), key=lambda name: "ref" in name)
    return names[0], names[1]


def check_ppo_gae(x: Values, params: Values) -> Values:
    rewards = masked_whiten(x["rewards"], x["mask"], shift_mean=False) if params.get("whiten_rewards") else x["rewards"]
    raw, returns = advantages.gae(rewards, x["values"], x["mask"], gamma=params["gamma"], lam=params["lam"])
    return {"raw_advantages": raw, "returns": returns, "advantages": masked_whiten(raw, x["mask"])}


def check_masked_whiten(x: Values, params: Values) -> Values:
    whitened = masked_whiten(x["values"], x["mask"], shift_mean=params["shift_mean"])
    return {"whitened": whitened, "vjp": (whitened * masked(x["cotangent"], x["mask"])).sum()}


def check_ppo_loss(x: Values, params: Values) -> Values:
    clip = Clip(params["cliprange"], params["cliprange"])
    mask = x["mask"]
    on_policy = policy.policy_loss(x["logprobs"], x["old_logprobs"], x["advantages"], mask, clip=clip)
    critic = policy.value_loss(x["vpreds"], x["values_old"], x["returns"], mask, clip_range=params["cliprange_value"])
    threshold = params["ratio_threshold"]
    skip = threshold is not None and bool(policy.mean_ratio(x["logprobs"], x["old_logprobs"], mask) > threshold)
    both = policy.ppo_loss(on_policy, critic, x["logprobs"], value_coef=params["vf_coef"], skip=skip)
    errors = (masked(x["vpreds"], mask) - x["returns"]).square()
    kept = 0.0 if skip else 1.0
    return {
        "pg_loss": kept * on_policy.mean(),
        "vf_loss": kept * critic.mean(),
        "total": both.mean(),
        "clipfrac": metric(both, "policy/clipfrac"),
        "approxkl": metric(both, "policy/approxkl"),
        "policykl": metric(both, "policy/policykl"),
        "vf_clipfrac": metric(both, "val/clipfrac"),
        "entropy": masked_mean(logprobs.token_entropy(x["logits"], mask), mask),
        "ratio": policy.policy_terms(x["logprobs"], x["old_logprobs"], x["advantages"], mask, clip).ratio,
        "explained_variance": policy.explained_variance(x["values_old"], x["returns"], mask),
        "var_explained_trl": 1 - masked_mean(errors, mask) / masked_var(x["returns"], mask),
    }


def check_kl_penalty(x: Values, params: Values) -> Values:
    ours = {"k1": "k1", "abs": "abs", "k2": "k2", "k3": "k3_clamped", "k1+": "k1+", "k3+": "k3_clamped+"}
    return {name: kl.KL_ESTIMATORS[key](x["logprobs"], x["ref_logprobs"]) for name, key in ours.items()}


# verl's names of the aggregation modes. A token sum has no count of its own: it is the sum of the token mean.
VERL_MODES: dict[str, policy.Aggregation] = {
    "token-mean": "token_mean",
    "token-sum": "token_mean",
    "seq-mean-token-sum": "sequence_sum",
    "seq-mean-token-mean": "sequence_mean",
    "seq-mean-token-sum-norm": "sequence_sum",
}


def verl_aggregate(losses: Tensor, mask: Tensor, mode: str, params: Values) -> Tensor:
    total, count = policy.aggregate(losses, mask, VERL_MODES[mode])
    if mode == "token-sum":
        return total
    given = params.get("batch_num_tokens" if mode == "token-mean" else "global_batch_size")
    mean = total / given if given else divide(total, count)
    if mode == "seq-mean-token-sum-norm":
        return mean / (params.get("loss_scale_factor") or mask.shape[1])
    return mean


def check_aggregation(x: Values, params: Values) -> Values:
    return {mode: verl_aggregate(x["loss_mat"], x["mask"], mode, params) for mode in VERL_MODES}


def check_value_loss_verl(x: Values, params: Values) -> Values:
    clip_range = params["cliprange_value"]
    losses = policy.value_losses(x["vpreds"], x["values_old"], x["returns"], clip_range)
    output = policy.value_loss(x["vpreds"], x["values_old"], x["returns"], x["mask"], clip_range=clip_range)
    return {
        "loss": verl_aggregate(losses, x["mask"], params["loss_agg_mode"], params),
        "clipfrac": metric(output, "val/clipfrac"),
    }


def check_policy_loss_verl(x: Values, params: Values) -> Values:
    clip = Clip(params["clip_ratio_low"], params["clip_ratio_high"], dual=params["clip_ratio_c"], max_log_ratio=20.0)
    arguments = (x["logprobs"], x["old_logprobs"], x["advantages"], x["mask"])
    losses = policy.policy_terms(*arguments, clip).losses
    output = policy.policy_loss(*arguments, clip=clip)
    return {
        "loss": verl_aggregate(losses, x["mask"], params["loss_agg_mode"], params),
        "clipfrac": metric(output, "policy/clipfrac"),
        "clipfrac_lower": metric(output, "policy/clipfrac_dual"),
        "ppo_kl": metric(output, "policy/policykl"),
    }


def consecutive_groups(rows: int, group_size: int) -> Tensor:
    return torch.arange(rows) // group_size


def check_grpo_advantage_trl(x: Values, params: Values) -> Values:
    scores = advantages.combine_rewards(x["rewards_per_func"], x["reward_weights"])
    groups = consecutive_groups(len(scores), params["group_size"])
    return {"advantages": advantages.grpo_advantages(scores, groups, scale=params["scale_rewards"], eps=params["eps"])}


def check_grpo_advantage_verl(x: Values, params: Values) -> Values:
    scale = "group" if params["norm_by_std"] else "none"
    scores = x["token_level_rewards"].sum(-1)
    per_row = advantages.grpo_advantages(scores, x["group"], scale=scale, eps=params["eps"], lone="score")
    return {"advantages": masked(per_row.unsqueeze(1).expand(x["mask"].shape), x["mask"])}


def check_rloo_trl(x: Values, params: Values) -> Values:
    clip_range = tuple(params["reward_clip_range"]) if params["reward_clip_range"] else None
    mask = x.get("completion_mask", torch.zeros(len(x["rewards"]), 1))
    kls = mask.to(x["rewards"].dtype)
    if params["beta"]:
        kls = kl.k1(x["old_per_token_logps"], x["ref_per_token_logps"])
    scores = advantages.penalised_scores(x["rewards"], kls, mask, params["beta"], clip_range)
    result = advantages.rloo_advantages(scores, consecutive_groups(len(scores), params["group_size"]))
    if params["normalize_advantages"]:
        result = advantages.normalise(result, scores)
    return {"advantages": result, "penalised_rewards": scores}


def check_rloo_verl(x: Values, params: Values) -> Values:
    per_row = advantages.rloo_advantages(x["token_level_rewards"].sum(-1), x["group"], lone="score")
    return {"advantages": masked(per_row.unsqueeze(1).expand(x["mask"].shape), x["mask"])}


def grpo(how: policy.Aggregation, *, per_sequence: bool = False) -> Checker:
    def check(x: Values, params: Values) -> Values:
        delta = params.get("delta")
        limits = {} if delta is None else {"max_ratio": delta}
        output = policy.policy_loss(
            x["per_token_logps"],
            x["old_per_token_logps"],
            x["advantages"].unsqueeze(1),
            x["mask"],
            clip=Clip(params["epsilon_low"], params["epsilon_high"], per_sequence=per_sequence, **limits),
            how=how,
            length=params.get("max_completion_length"),
            ref_logprobs_BT=x.get("ref_per_token_logps"),
            kl_coef=params["beta"],
        )
        window = params.get("num_items_in_batch")
        names = {"clip_low": "clipfrac_low", "clip_high": "clipfrac_high", "clip_region": "clipfrac"}
        outputs = {name: metric(output, f"policy/{ours}") for name, ours in names.items()}
        outputs["loss"] = output.loss_sum / max(window, 1) if window is not None else output.mean()
        if "ref_per_token_logps" in x:
            outputs["kl"] = metric(output, "policy/ref_kl")
        return outputs

    return check


POLICY_CHECKERS: dict[str, Checker] = {
    "agg_loss_verl": check_aggregation,
    "gae_verl": check_ppo_gae,
    "grpo_advantage_trl": check_grpo_advantage_trl,
    "grpo_advantage_verl": check_grpo_advantage_verl,
    "grpo_loss_dapo": grpo("token_mean"),
    "grpo_loss_dr_grpo": grpo("constant"),
    "grpo_loss_seq_mean": grpo("row_mean"),
    "grpo_loss_token_mean": grpo("token_mean"),
    "gspo_loss": grpo("row_mean", per_sequence=True),
    "kl_penalty_verl": check_kl_penalty,
    "masked_whiten": check_masked_whiten,
    "policy_loss_verl": check_policy_loss_verl,
    "ppo_gae": check_ppo_gae,
    "ppo_loss": check_ppo_loss,
    "ppo_rewards": check_ppo_rewards,
    "rloo_advantage_trl": check_rloo_trl,
    "rloo_advantage_verl": check_rloo_verl,
    "value_loss_verl": check_value_loss_verl,
}
