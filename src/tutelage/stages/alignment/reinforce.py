"""Reinforcement learning from rollouts, whatever the method: prompts, rewards, reference, loop, notes, model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tutelage.data.batches import Batch, make_batch
from tutelage.data.completions import PackedCompletions, prompt_ids
from tutelage.data.shards import TokenShard
from tutelage.data.streams import PretrainRows
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError, RecipeError, TrainingError
from tutelage.feedback.rules import ASK_THE_PROMPT
from tutelage.model.lora import adapters_off
from tutelage.model.transformer import CausalLM
from tutelage.objectives.types import LossOutput
from tutelage.parallel.world import world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages.alignment.cost import record_cost
from tutelage.stages.alignment.drawing import Drawer
from tutelage.stages.alignment.notes import course, rollout_notes, unrewarded_notes
from tutelage.stages.alignment.rewards import Prompt, open_rewards
from tutelage.stages.alignment.rollouts import Estimate, Judged, RolloutBatch, RolloutSource
from tutelage.stages.alignment.samples import Samples, first_prompts
from tutelage.stages.alignment.settings import RolloutConfig
from tutelage.stages.models import check_tokens, open_reference, open_trainable, publish_model, run_dtype
from tutelage.stages.pretrain import next_token_step
from tutelage.stages.replying.inputs import tools_of
from tutelage.tools.toolbox import Toolbox
from tutelage.training.loop import fit

Step = Callable[[nn.Module, RolloutBatch], LossOutput]


@dataclass(frozen=True)
class Method:
    """What one method adds: its name, how scores become advantages, its loss, and the critic, if it has one."""

    name: str
    estimate: Callable[[Judged], Estimate]
    step: Step
    with_critic: Callable[[CausalLM], nn.Module] = lambda policy: policy
    start_critic: Callable[[nn.Module, PackedCompletions, Judged], None] | None = None
    critic_warmup_batches: int = 0
    resample_attempts: int = 0
    scores_alone: bool = False  # advantages are made of scores, of no log-probs and no values


def reinforce(config: RolloutConfig, inputs: Inputs, run: StageRun, method: Method) -> None:
    """Train a policy on its own replies and publish it."""
    _check(config, method.name)
    dtype = run_dtype(config.precision, run)
    policy, tokenizer = open_trainable(inputs["model"], dtype, config.lora, run.seed)
    # A policy that trains an adapter is its own reference, with the adapter off.
    ref = policy if config.lora and "reference" not in inputs else open_reference(inputs, tokenizer, dtype)
    rewards = open_rewards(config, inputs, tokenizer, dtype)
    toolbox = tools_of(config, inputs)
    prompts = usable_prompts(config, inputs, tokenizer, policy.config.max_position_embeddings, run, toolbox)
    model = method.with_critic(policy)
    drawer = Drawer(policy, rewards, tokenizer, prompts, config, run.seed, method.resample_attempts, toolbox)
    source = RolloutSource(
        model, frozen_logprobs(ref, config.temperature), drawer, method.estimate, start_critic=method.start_critic,
        critic_warmup_batches=method.critic_warmup_batches, scores_alone=method.scores_alone,
        replay=_replay(config, inputs, tokenizer, policy, run.seed),
    )  # fmt: skip
    shown = first_prompts([prompt.row for prompt in prompts], config.num_samples, lambda row: row["messages"])
    samples = Samples(policy, tokenizer, shown, run, config.max_tokens, config.temperature, toolbox)
    samples.beginning()
    fit(model, source, _beside_replay(method.step, config.ptx_coef), config.optimizer, config.loop, run,
        evaluate=samples.beside(None), description=method.name, tokens=lambda batch: batch.rows.num_tokens)  # fmt: skip
    run.notes += rollout_notes(*course(run), num_rollouts=config.num_rollouts, own_reference="reference" not in inputs,
                               dtype=dtype)  # fmt: skip
    run.notes += unrewarded_notes(drawer.counts, list(rewards.sources))
    record_cost(run, [model, *([] if ref is policy else [ref]), *rewards.models], drawer.counts["tokens"])
    samples.publish()
    publish_model(policy, tokenizer, run.directory)


def _check(config: RolloutConfig, name: str) -> None:
    if config.num_minibatches > config.num_rollouts:
        raise RecipeError(
            f"{config.num_rollouts} rollouts cannot be cut into {config.num_minibatches} minibatches",
            hint="lower num_minibatches or draw more replies a batch",
        )
    if world_from_environment().size > 1:
        raise TrainingError(f"{name} decodes with whole weights, in one process", hint="run it without torchrun")


def usable_prompts(
    config: RolloutConfig,
    inputs: Inputs,
    tokenizer: TextTokenizer,
    context: int,
    run: StageRun,
    toolbox: Toolbox | None = None,
) -> list[Prompt]:
    """Prompts that leave room for a reply and can be rewarded; DataError if there are none, a note if some are not."""
    rows = list(read_jsonl(inputs["prompts"].path / "prompts.jsonl"))
    if not rows:
        raise DataError(f"{inputs['prompts'].name} has no prompts", hint="look at the stage that makes them")
    definitions = toolbox.definitions if toolbox else None
    prompts = [Prompt(prompt_ids(tokenizer, row["messages"], definitions), row) for row in rows]
    fitting = [prompt for prompt in prompts if len(prompt.ids) <= context - config.max_tokens]
    if not fitting:
        raise DataError(
            f"no prompt of {inputs['prompts'].name} leaves room for max_tokens = {config.max_tokens} in a context of "
            f"{context} tokens",
            hint="lower max_tokens or use shorter prompts",
        )
    if len(fitting) < len(prompts):
        run.notes.append(f"{len(prompts) - len(fitting)} prompts leave no room for a reply and were dropped")
    if config.reward_weights.keys() - ASK_THE_PROMPT:
        return fitting
    answered = [prompt for prompt in fitting if prompt.row.get("answer")]
    if not answered:
        raise DataError(
            f"no prompt of {inputs['prompts'].name} has an `answer`, and nothing else is rewarded",
            hint="give the prompts answers, or name a reward_model or other rewards",
        )
    if len(answered) < len(fitting):
        run.notes.append(f"{len(fitting) - len(answered)} prompts have no `answer` to reward and were dropped")
    return answered


def frozen_logprobs(ref: CausalLM, temperature: float) -> Callable[[Batch], Tensor]:
    """The reference's log-probs [B, T] of the targets of rows, 0 where there is none."""

    def logprobs(rows: Batch) -> Tensor:
        fields = rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT
        with adapters_off(ref):
            found, _ = ref(*fields, targets_BT=rows.targets_BT, temperature=temperature)
        return torch.as_tensor(found)

    return logprobs


def _replay(
    config: RolloutConfig, inputs: Inputs, tokenizer: TextTokenizer, policy: CausalLM, seed: int
) -> Callable[[int], Batch] | None:
    """Pretraining rows of a step, if there are any."""
    if "replay" not in inputs:
        return None
    check_tokens(inputs["replay"], tokenizer, inputs["model"])
    rows = PretrainRows(TokenShard(inputs["replay"].path, "train"), policy.config.max_position_embeddings, seed)
    return lambda step: make_batch(rows.rows(step * config.replay_rows, config.replay_rows))


def _beside_replay(step: Step, ptx_coef: float) -> Step:
    """PPO-ptx (2203.02155, eq. 2): + ptx_coef · mean next-token loss of the replayed rows. Metric: `loss/ptx`."""

    def both(model: nn.Module, batch: RolloutBatch) -> LossOutput:
        output = step(model, batch)
        one = torch.ones(())
        metrics = {name: (torch.tensor(value), one) for name, value in batch.metrics.items()}
        output = replace(output, metrics={**output.metrics, **metrics})
        if batch.replay is None or batch.value_only:
            return output
        ptx = next_token_step(getattr(model, "policy", model), batch.replay)
        return replace(
            output,
            loss_sum=output.loss_sum + ptx_coef * ptx.mean() * output.count.clamp(min=1),
            metrics={**output.metrics, "loss/ptx": (ptx.loss_sum.detach(), ptx.count)},
        )

    return both
