"""GRPO steps a second of our stage and of TRL's GRPOTrainer: the 17M Llama, 8 prompts × 8 replies × 64 tokens.

A step is the rollouts, their rewards, the reference's log-probs and one update, with the KL in the loss on both sides.
Equal quality: both sides are given the same replies and make UPDATES updates on them; loss and gradient norm of every
update after the first, whose loss is 0, are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import trl
from datasets import Dataset
from llama import Work, peer_tokenizer, prompt_ids, save_nets, text_of, whole_replies, work_of
from rollouts import even_rewards, even_share, learn_from, our_side
from sides import arguments, gaps, quickest_dtype
from trainers import Ours, compare_steps, compiled, logged, optimizer, peer_arguments, quiet
from transformers import AutoModelForCausalLM
from trl import GRPOConfig as PeerConfig
from trl import GRPOTrainer

from tutelage.generation.rollout import Rollouts
from tutelage.model.hub import load_causal_lm
from tutelage.stages.alignment.rollouts import RolloutBatch
from tutelage.stages.configs import GRPOConfig
from tutelage.stages.grpo import method

KL_COEF, UPDATES = 0.04, 4
RATE = optimizer(1e-4)
SETTINGS: dict[str, dict[str, Any]] = {
    "dynamic cache": {},
    "static cache": {"cache_implementation": "static"},
    "dynamic cache, a quarter of the replies at once": {"pieces": 4},
    "static cache, torch.compile of decoding": {"cache_implementation": "static", "compiled": True},
    "torch.compile of training": {"torch_compile": True},
    "bfloat16": {"bf16": True},
    "bfloat16, static cache": {"bf16": True, "cache_implementation": "static"},
    "bfloat16, static cache, a quarter at once": {"bf16": True, "cache_implementation": "static", "pieces": 4},
    "continuous batching": {"use_transformers_continuous_batching": True},
}


def rewards(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [even_share(ids) for ids in completion_ids]


def peer(
    work: Work,
    policy: Path,
    steps: int,
    setting: dict[str, Any],
    rollout: Callable[..., Any] | None = None,
    updates: int = 1,
) -> GRPOTrainer:
    """TRL's trainer; the loss is that of ours: a mean over all tokens, the KL without correction."""
    net = AutoModelForCausalLM.from_pretrained(policy)
    setting = dict(setting)
    net = compiled(net) if setting.pop("compiled", False) else net
    pieces = setting.pop("pieces", 1)
    config = PeerConfig(
        **peer_arguments(policy, RATE, max_steps=steps, **setting), num_generations=work.num_replies,
        max_completion_length=work.new, per_device_train_batch_size=work.rollouts // pieces,
        gradient_accumulation_steps=pieces, steps_per_generation=pieces, num_iterations=updates, beta=KL_COEF,
        use_bias_correction_kl=False, loss_type="dapo", temperature=1.0,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": text_of(ids)} for ids in prompt_ids(work)])
    tokenizer = peer_tokenizer(work, policy)
    return quiet(GRPOTrainer(net, rewards, config, data, processing_class=tokenizer, rollout_func=rollout))


def ours(
    work: Work, policy: Path, batches: int, updates: int = 1, dtype: torch.dtype = torch.float32
) -> Ours[RolloutBatch]:
    config = GRPOConfig(
        model="policy", prompts="prompts", rewards={"finished": 1.0}, prompts_a_batch=work.num_prompts,
        num_replies=work.num_replies, max_tokens=work.new, num_rollout_batches=batches, num_epochs=updates,
        kl_coef=KL_COEF, missing_end_penalty=0.0, optimizer=RATE,
    )  # fmt: skip
    nets = [load_causal_lm(policy, dtype) for _ in range(2)]
    return our_side(work, method(config), *nets, config, even_rewards)


def apart(work: Work, policy: Path) -> dict[str, float]:
    """How far the sides are apart in their updates on the same replies, both in float32."""
    replies = whole_replies(work, load_causal_lm(policy).eval())
    mine = learn_from(replies, ours(work, policy, 1, UPDATES))
    trainer = peer(work, policy, UPDATES, {}, lambda *_: as_peer_has_them(replies), UPDATES)
    trainer.train()
    theirs = logged(trainer, {"loss": "loss", "grad_norm": "grad_norm"})
    assert len(mine) == len(theirs) == UPDATES, "both sides made all updates"
    return gaps(by_update(mine), by_update(theirs))


def by_update(steps: list[dict[str, float]]) -> dict[str, float]:
    names = "loss", "grad_norm"
    found = {f"{name} of update {n}": step[name] for n, step in enumerate(steps, 1) for name in names}
    return {name: value for name, value in found.items() if name != "loss of update 1"}


def as_peer_has_them(replies: Rollouts) -> dict[str, Any]:
    ids = [(one.ids[: one.num_prompt], one.ids[one.num_prompt :]) for one in replies.completions]
    return {"prompt_ids": [one[0] for one in ids], "completion_ids": [one[1] for one in ids], "logprobs": None}


def main() -> None:
    chosen = arguments(__doc__)
    size = work_of(chosen.quick)
    with TemporaryDirectory() as folder:
        policy, _ = save_nets(size, Path(folder))
        compare_steps(f"GRPO step, {size}", f"TRL {trl.__version__} GRPOTrainer", chosen, SETTINGS,
                      lambda steps, setting: peer(size, policy, steps, setting),
                      lambda steps: ours(size, policy, steps, dtype=quickest_dtype()),
                      apart(size, policy))  # fmt: skip


if __name__ == "__main__":
    main()
