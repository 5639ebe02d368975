"""PPO steps a second of our stage and of TRL 1.12's experimental PPOTrainer: the 17M Llama, 8 × 8 × 64 tokens.

A step is 64 rollouts, the scores of a 17M reward model, the reference's log-probs, values, and EPOCHS updates. Ours has
one decoder for policy and critic, which is its design; TRL's critic is a model of its own.
Equal quality: both sides are given the same replies and make EPOCHS updates on them. For that, and only for that, TRL's
critic shares the policy's decoder and both heads begin at 0, so that both sides compute one function. Policy and value
loss, means over the updates as TRL gives them, are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
import trl
from datasets import Dataset
from llama import PAD, Work, peer_tokenizer, prompt_ids, save_nets, whole_replies, work_of
from rollouts import learn_from, our_side
from sides import arguments, gaps, quickest_dtype
from torch import Tensor, nn
from trainers import Ours, compare_steps, compiled, logged, optimizer, peer_arguments, quiet
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from trl.experimental.ppo import PPOConfig as PeerConfig
from trl.experimental.ppo import PPOTrainer, ppo_trainer

from tutelage.generation.rollout import Rollouts
from tutelage.model.hub import load_causal_lm, load_reward_model
from tutelage.stages.alignment.rewards import by_tokens
from tutelage.stages.alignment.rollouts import RolloutBatch
from tutelage.stages.configs import PPOConfig
from tutelage.stages.ppo import method

EPOCHS = 4
RATE = optimizer(1e-4, max_grad_norm=1e9)  # TRL's trainer clips no gradients
SETTINGS: dict[str, dict[str, Any]] = {
    "all replies at once": {},
    "a quarter of the replies at once": {"pieces": 4},
    "static cache": {"cache": "static"},
    "static cache, torch.compile": {"cache": "static", "compiled": True},
    "bfloat16": {"bf16": True},
    "a quarter at once, bfloat16": {"pieces": 4, "bf16": True},
}


def peer(
    work: Work, policy: Path, reward: Path, steps: int, setting: dict[str, Any], one_decoder: bool = False
) -> PPOTrainer:
    setting = dict(setting)
    pieces = setting.pop("pieces", 1)
    net = AutoModelForCausalLM.from_pretrained(policy)
    net.generation_config.cache_implementation = setting.pop("cache", None)
    net = compiled(net) if setting.pop("compiled", False) else net
    critic = AutoModelForSequenceClassification.from_pretrained(reward)
    if one_decoder:
        critic.model = net.model
        nn.init.zeros_(critic.score.weight)
    config = PeerConfig(
        **peer_arguments(policy, RATE, **setting), total_episodes=steps * work.rollouts, num_ppo_epochs=EPOCHS,
        num_mini_batches=1, per_device_train_batch_size=work.rollouts // pieces, gradient_accumulation_steps=pieces,
        local_rollout_forward_batch_size=work.rollouts, response_length=work.new, temperature=1.0,
        num_sample_generations=0,
    )  # fmt: skip
    rows = [{"input_ids": ids} for ids in prompt_ids(work) for _ in range(work.num_replies)]
    return quiet(PPOTrainer(
        args=config, processing_class=peer_tokenizer(work, policy), model=net,
        ref_model=AutoModelForCausalLM.from_pretrained(policy),
        reward_model=AutoModelForSequenceClassification.from_pretrained(reward), value_model=critic,
        train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(rows),
    ))  # fmt: skip


def ours(
    work: Work,
    policy: Path,
    reward: Path,
    batches: int,
    *,
    start_critic: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Ours[RolloutBatch]:
    config = PPOConfig(
        model="policy", prompts="prompts", rewards={"finished": 1.0}, rollouts_a_batch=work.rollouts,
        max_tokens=work.new, num_rollout_batches=batches, num_epochs=EPOCHS, num_minibatches=1,
        missing_end_penalty=0.0, optimizer=RATE,
    )  # fmt: skip
    chosen = method(config, seed=0)
    chosen = chosen if start_critic else replace(chosen, start_critic=None)
    scores = by_tokens(load_reward_model(reward, dtype).eval(), PAD)
    nets = [load_causal_lm(policy, dtype) for _ in range(2)]
    return our_side(work, chosen, *nets, config, scores)


@contextmanager
def given(replies: Rollouts) -> Iterator[None]:
    """The peer draws nothing: to each prompt it gets the replies that there are, with the model's own logits."""
    waiting: dict[tuple[int, ...], list[list[int]]] = defaultdict(list)
    for one in replies.completions:
        waiting[tuple(one.ids[: one.num_prompt])].append(one.ids)

    def generation(net: Any, queries_BT: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([waiting[tuple(query)].pop() for query in queries_BT.tolist()])
        return ids, net(ids).logits[:, queries_BT.shape[1] - 1 : -1]

    with patch.object(ppo_trainer, "batch_generation", torch.no_grad()(generation)):
        yield


def apart(work: Work, policy: Path, reward: Path) -> dict[str, float]:
    """How far the sides are apart in their updates on the same replies, both in float32."""
    replies = whole_replies(work, load_causal_lm(policy).eval())
    steps = learn_from(replies, ours(work, policy, reward, 1, start_critic=False))
    names = {"loss/policy_avg": "loss/policy", "loss/value_avg": "loss/value"}
    mine = {name: sum(step[name] for step in steps) / len(steps) for name in names.values()}
    trainer = peer(work, policy, reward, 1, {}, one_decoder=True)
    with given(replies):
        trainer.train()
    return gaps(mine, logged(trainer, names)[0])


def main() -> None:
    chosen = arguments(__doc__)
    size = work_of(chosen.quick)
    with TemporaryDirectory() as folder:
        nets = save_nets(size, Path(folder))
        compare_steps(f"PPO step, {size}", f"TRL {trl.__version__} PPOTrainer", chosen, SETTINGS,
                      lambda steps, setting: peer(size, *nets, steps, setting),
                      lambda steps: ours(size, *nets, steps, dtype=quickest_dtype()),
                      apart(size, *nets))  # fmt: skip


if __name__ == "__main__":
    main()
