"""Reinforcement learning from human feedback by PPO (arXiv 1707.06347, 2203.02155).

Prompts → replies → scores and KL → advantages → clipped updates of the policy and of its critic. One rollout batch
gives `num_epochs` × `num_minibatches` optimiser steps; the source computes the next batch only when it is asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tutelage.data.batches import Batch
from tutelage.data.completions import Completion, PackedCompletions, pack_completions, prompt_ids
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError, RecipeError, TrainingError
from tutelage.generation.engine import Engine
from tutelage.generation.rollout import Rollouts, roll_out
from tutelage.generation.sampling import Sampling
from tutelage.model.heads import PolicyWithValue, RewardModel
from tutelage.model.hub import load_reward_model
from tutelage.model.transformer import CausalLM
from tutelage.objectives.advantages import gae, token_rewards
from tutelage.objectives.kl import adaptive_kl_coef
from tutelage.objectives.masked import masked_mean, masked_sum, masked_whiten
from tutelage.objectives.policy import Clip, explained_variance, policy_loss, ppo_loss, value_loss
from tutelage.objectives.types import LossOutput
from tutelage.parallel.world import world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages.configs import PPOConfig
from tutelage.stages.models import open_model, publish_model, run_dtype
from tutelage.stages.reward import score
from tutelage.stages.sample import request_seed
from tutelage.training.loop import fit
from tutelage.training.source import epoch_positions

FAR_FROM_REFERENCE = 5.0  # nats a reply; a run of ours that ended at 6 answered beside the question


class PPOBatch(NamedTuple):
    """Rollouts with everything the update needs, [B, T]; `metrics` are of the whole rollout batch."""

    completions: Sequence[Completion]
    rows: Batch
    old_logprobs: Tensor
    advantages: Tensor
    returns: Tensor
    old_values: Tensor
    metrics: Mapping[str, float]


def run(config: PPOConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a policy against a reward model, leashed by KL to the model it starts from."""
    if config.num_minibatches > config.rollouts_a_batch:
        raise RecipeError(
            f"{config.rollouts_a_batch} rollouts cannot be cut into {config.num_minibatches} minibatches",
            hint="lower num_minibatches or raise rollouts_a_batch",
        )
    if world_from_environment().size > 1:
        raise TrainingError("ppo decodes with whole weights, in one process", hint="run it without torchrun")
    dtype = run_dtype(config.precision, run)
    policy, tokenizer = open_model(inputs["model"], dtype)
    ref, _ = open_model(inputs["model"], dtype)
    reward_model = load_reward_model(inputs["reward_model"].path, dtype)
    _check_tokenizers(tokenizer, inputs)
    prompts = [prompt_ids(tokenizer, row["messages"]) for row in read_jsonl(inputs["prompts"].path / "prompts.jsonl")]
    if not prompts:
        raise DataError(f"{inputs['prompts'].name} has no prompts", hint="look at the stage that makes them")
    room = policy.config.max_position_embeddings - config.max_tokens
    usable = [prompt for prompt in prompts if len(prompt) <= room]
    if not usable:
        raise DataError(
            f"no prompt of {inputs['prompts'].name} leaves room for max_tokens = {config.max_tokens} in a context of "
            f"{policy.config.max_position_embeddings} tokens",
            hint="lower max_tokens or use shorter prompts",
        )
    if len(usable) < len(prompts):
        run.notes.append(f"{len(prompts) - len(usable)} prompts leave no room for a reply and were dropped")
    model = PolicyWithValue(policy, run.seed)
    source = RolloutSource(model, ref.eval(), reward_model.eval(), tokenizer, usable, config, run.seed)
    fit(model, source, _step(config), config.optimizer, config.loop, run, description="ppo",
        tokens=lambda batch: batch.rows.num_tokens)  # fmt: skip
    _explain(run, config)
    publish_model(policy, tokenizer, run.directory)


def _check_tokenizers(tokenizer: TextTokenizer, inputs: Inputs) -> None:
    if TextTokenizer.load(inputs["reward_model"].path).fingerprint != tokenizer.fingerprint:
        raise TrainingError(
            f"{inputs['reward_model'].name} and {inputs['model'].name} have different tokenizers",
            hint="train the reward model from a model of the same family",
        )


class RolloutSource:
    """On-policy steps: rolls out, scores, computes advantages, then yields the minibatches of every epoch."""

    def __init__(
        self,
        model: PolicyWithValue,
        ref: CausalLM,
        reward_model: RewardModel,
        tokenizer: TextTokenizer,
        prompts: Sequence[list[int]],
        config: PPOConfig,
        seed: int,
    ) -> None:
        self.model, self.ref, self.reward_model = model, ref, reward_model
        self.tokenizer, self.prompts, self.config, self.seed = tokenizer, prompts, config, seed
        self.kl_coef = config.kl_coef
        self.steps_a_batch = config.num_epochs * config.num_minibatches
        self.num_steps = config.num_rollout_batches * self.steps_a_batch
        self.sampling = Sampling(config.max_tokens, config.temperature)

    def resumable(self, step: int) -> bool:
        """Between rollout batches: the next one follows from the weights, the seed and the KL coefficient."""
        return step % self.steps_a_batch == 0

    def state_dict(self) -> Mapping[str, Any]:
        """The adaptive KL coefficient."""
        return {"kl_coef": self.kl_coef}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See StepSource."""
        self.kl_coef = float(state["kl_coef"])

    def steps(self, start: int) -> Iterator[list[PPOBatch]]:
        """See StepSource."""
        assert self.resumable(start), "a rollout batch is taken up as a whole"
        for number in range(start // self.steps_a_batch, self.config.num_rollout_batches):
            batch = self._rollout_batch(number)
            size = len(batch.old_logprobs)
            for epoch in range(self.config.num_epochs):
                order = epoch_positions(epoch * size, size, size, request_seed(self.seed, number) % 2**31)
                for part in torch.tensor(order).tensor_split(self.config.num_minibatches):
                    yield [take(batch, part, self.tokenizer.pad_id)]

    @torch.no_grad()
    def _rollout_batch(self, number: int) -> PPOBatch:
        self.model.eval()
        a_batch = self.config.rollouts_a_batch
        chosen = epoch_positions(number * a_batch, a_batch, len(self.prompts), self.seed)
        seeds = [request_seed(self.seed, number, place) for place in range(a_batch)]
        engine = Engine(self.model.policy, self.tokenizer.stop_ids, self.tokenizer.pad_id, a_batch)
        rollouts = roll_out(engine, [self.prompts[index] for index in chosen], self.sampling, seeds)
        rows, temperature = rollouts.rows, self.config.temperature
        mask = rows.targets_BT >= 0
        packed = pack_completions(rollouts.completions, self.tokenizer.pad_id)
        outputs = self.model(*_fields(packed.rows), temperature)
        logprobs, entropies, values = (_one_a_row(packed, output, mask) for output in outputs)
        ref_outputs = self.ref(*_fields(packed.rows)[:3], targets_BT=packed.rows.targets_BT, temperature=temperature)
        ref_logprobs = _one_a_row(packed, ref_outputs.logprobs, mask)
        scores = self._scores(rollouts)
        kl = logprobs - ref_logprobs
        rewards = token_rewards(scores, kl, mask, self.kl_coef)
        advantages, returns = gae(rewards, values, mask, gamma=self.config.gamma, lam=self.config.gae_lambda)
        metrics = self._metrics(rollouts, scores, rewards, kl, entropies, mask)
        metrics["val/explained_variance"] = float(explained_variance(values, returns, mask))
        metrics["objective/logprob_gap"] = _logprob_gap(rollouts, logprobs)
        if self.config.kl_target is not None:
            self.kl_coef = adaptive_kl_coef(
                self.kl_coef, metrics["objective/kl"], target=self.config.kl_target, num_samples=a_batch
            )
        self.model.train()
        whitened = masked_whiten(advantages, mask)
        return PPOBatch(rollouts.completions, rows, logprobs, whitened, returns, values, metrics)

    def _scores(self, rollouts: Rollouts) -> Tensor:
        scores = score(self.reward_model, rollouts.completions, self.tokenizer.pad_id)
        finished = torch.tensor(rollouts.finished(self.tokenizer.end_of_turn_id))
        return torch.where(finished, scores, scores - self.config.missing_end_penalty)

    def _metrics(
        self, rollouts: Rollouts, scores: Tensor, rewards: Tensor, kl: Tensor, entropies: Tensor, mask: Tensor
    ) -> dict[str, float]:
        lengths = mask.sum(1).float()
        return {
            "objective/scores": float(scores.mean()),
            "objective/rlhf_reward": float(masked_sum(rewards, mask) / len(scores)),
            "objective/kl": float(masked_sum(kl, mask) / len(scores)),
            "objective/entropy": float(masked_mean(entropies, mask)),
            "objective/kl_coef": self.kl_coef,
            "val/num_eos_tokens": float(sum(rollouts.finished(self.tokenizer.end_of_turn_id))),
            "val/length": float(lengths.mean()),
        }


def _fields(rows: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, rows.targets_BT


def _one_a_row(packed: PackedCompletions, values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """What was computed of packed completions, with each completion in the row of its own that `mask_BT` has for it."""
    found = packed.take(values_BT, packed.rows.targets_BT >= 0)
    return found.new_zeros(mask_BT.shape).masked_scatter(mask_BT, found)


def _logprob_gap(rollouts: Rollouts, logprobs: Tensor) -> float:
    """Largest difference between the log-probs of decoding and of a training forward: a check on both."""
    gaps = [
        abs(drawn - trained)
        for row, (completion, reply) in enumerate(zip(rollouts.completions, rollouts.replies, strict=True))
        for drawn, trained in zip(reply.logprobs, logprobs[row, completion.num_prompt - 1 :].tolist(), strict=False)
    ]
    return max(gaps, default=0.0)


def take(batch: PPOBatch, index: Tensor, pad_id: int) -> PPOBatch:
    """These rollouts, several packed into a row: the loss is a mean over tokens, wherever they lie."""
    completions = [batch.completions[number] for number in index.tolist()]
    packed = pack_completions(completions, pad_id)
    padded_mask, mask = batch.rows.targets_BT[index] >= 0, packed.rows.targets_BT >= 0

    def lay(values_BT: Tensor) -> Tensor:
        return packed.lay(values_BT[index][padded_mask], mask)

    return PPOBatch(
        completions,
        packed.rows,
        lay(batch.old_logprobs),
        lay(batch.advantages),
        lay(batch.returns),
        lay(batch.old_values),
        batch.metrics,
    )


def _step(config: PPOConfig) -> Callable[[nn.Module, PPOBatch], LossOutput]:
    clip = Clip(config.clip_range, config.clip_range, max_log_ratio=20.0)

    def step(model: nn.Module, batch: PPOBatch) -> LossOutput:
        logprobs, _, values = model(*_fields(batch.rows), config.temperature)
        mask = batch.rows.targets_BT >= 0
        policy = policy_loss(logprobs, batch.old_logprobs, batch.advantages, mask, clip=clip)
        value = value_loss(values, batch.old_values, batch.returns, mask, clip_range=config.value_clip_range)
        loss = ppo_loss(policy, value, logprobs, value_coef=config.value_coef)
        one = torch.ones(())
        of_batch = {name: (torch.tensor(value), one) for name, value in batch.metrics.items()}
        return replace(loss, metrics={**loss.metrics, **of_batch})

    return step


def _explain(run: StageRun, config: PPOConfig) -> None:
    """What is wrong, in words."""
    finished = run.metrics.get("val/num_eos_tokens", 0.0) / config.rollouts_a_batch
    if finished < 0.8:
        run.notes.append(f"only {finished:.0%} of the last replies ended by themselves: raise max_tokens")
    kl = run.metrics.get("objective/kl", 0.0)
    if kl > FAR_FROM_REFERENCE:
        run.notes.append(
            f"the policy ended {kl:.1f} nats a reply from where it started: read its replies, the reward model may be "
            "exploited; raise kl_coef"
        )
    if run.metrics.get("objective/logprob_gap", 0.0) > 1e-2:
        run.notes.append("decoding and training disagree on log-probs by more than 0.01: use precision float32")
