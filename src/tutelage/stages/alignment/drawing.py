"""Replies to learn from: prompts in order, a group of replies to each, their scores; groups that teach nothing again.

Drawing again is the dynamic sampling of DAPO (arXiv 2503.14476, section 3.2): a group whose replies all have one score
gives no gradient of its scores, and another prompt's group takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import TrainingError
from tutelage.generation.engine import Engine
from tutelage.generation.rollout import Rollouts, joined, roll_out, roll_out_with_tools
from tutelage.generation.sampling import Sampling
from tutelage.model.transformer import CausalLM
from tutelage.objectives.advantages import flat_groups, has_spread
from tutelage.stages.alignment.rewards import Prompt, Rewards, Scores
from tutelage.stages.alignment.settings import RolloutConfig
from tutelage.stages.sample import request_seed
from tutelage.tools.toolbox import Toolbox
from tutelage.training.source import epoch_positions


class Drawn(NamedTuple):
    """B replies with the prompt of each, its group and its scores; `metrics` say how they came together."""

    prompts: Sequence[Prompt]
    groups_B: Tensor
    rollouts: Rollouts
    scores: Scores
    metrics: Mapping[str, float] = {}


class Drawer:
    """Draws rollout batches. Its state is how many prompts were taken so far, and what was counted."""

    def __init__(
        self,
        policy: CausalLM,
        rewards: Rewards,
        tokenizer: TextTokenizer,
        prompts: Sequence[Prompt],
        config: RolloutConfig,
        seed: int,
        resample_attempts: int = 0,
        toolbox: Toolbox | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.policy, self.rewards, self.tokenizer, self.prompts = policy, rewards, tokenizer, prompts
        self.config, self.seed, self.resample_attempts = config, seed, resample_attempts
        self.position = 0
        self.counts: Counter[str] = Counter()  # replies, their tokens, those without a reward, rewards given by name

    def state_dict(self) -> Mapping[str, Any]:
        """See StepSource."""
        return {"position": self.position, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See StepSource."""
        self.position, self.counts = int(state["position"]), Counter(state["counts"])

    def draw(self, number: int) -> Drawn:
        """Rollout batch `number`. TrainingError if no reply has a reward that is a number."""
        num_prompts, num_replies = self.config.shape
        engine = Engine(self.policy, self.tokenizer.stop_ids, self.tokenizer.pad_id, num_prompts * num_replies)
        batch = self._draw(engine, number, num_prompts, 0)
        if self.resample_attempts:
            batch = self._resampled(engine, number, batch)
        if batch.scores.total.isnan().all():
            raise TrainingError(
                f"no reply of rollout batch {number} got a reward that is a number: {', '.join(batch.scores.by_name)} "
                "gave NaN throughout",
                hint="look at the reward model's weights and context, or at the prompts' answers",
            )
        return batch

    def _resampled(self, engine: Engine, number: int, batch: Drawn) -> Drawn:
        num_replies, size = self.config.shape[1], len(batch.prompts)
        flat, extra = float(flat_groups(batch.scores.total, batch.groups_B)), 0
        for _ in range(self.resample_attempts):
            dull_B = ~has_spread(batch.scores.total, batch.groups_B)
            if not dull_B.any():
                break
            more = self._draw(engine, number, int(dull_B.sum()) // num_replies, size + extra)
            batch, extra = replaced(batch, dull_B, more, self.tokenizer.pad_id), extra + len(more.prompts)
        return batch._replace(metrics={"frac_reward_zero_std": flat, "groups/extra_rollouts": float(extra)})

    def _draw(self, engine: Engine, number: int, num_prompts: int, place: int) -> Drawn:
        """The next prompts and a group of replies to each; `place` counts the replies of this batch so far."""
        chosen = epoch_positions(self.position, num_prompts, len(self.prompts), self.seed)
        self.position += num_prompts
        num_replies = self.config.shape[1]
        prompts = [self.prompts[index] for index in chosen for _ in range(num_replies)]
        seeds = [request_seed(self.seed, number, place + offset) for offset in range(len(prompts))]
        sampling = Sampling(self.config.max_tokens, self.config.temperature)
        ids = [prompt.ids for prompt in prompts]
        if self.toolbox is None:
            rollouts = roll_out(engine, ids, sampling, seeds)
        else:
            rounds = self.config.max_rounds
            rollouts = roll_out_with_tools(engine, self.tokenizer, self.toolbox, ids, sampling, seeds, rounds)
        groups_B = torch.arange(num_prompts).repeat_interleave(num_replies)
        return Drawn(prompts, groups_B, rollouts, self._scores(prompts, rollouts))

    def _scores(self, prompts: Sequence[Prompt], rollouts: Rollouts) -> Scores:
        """Combined rewards, less the penalty for a missing end of turn."""
        scores = self.rewards(prompts, rollouts)
        unrewarded = scores.total.isnan()
        tokens = sum(len(reply.ids) for reply in rollouts.replies)
        self.counts.update(replies=len(unrewarded), tokens=tokens, unrewarded=int(unrewarded.sum()))
        self.counts.update({f"rewards/{name}": int((~own.isnan()).sum()) for name, own in scores.by_name.items()})
        finished = torch.tensor(rollouts.finished(self.tokenizer.end_of_turn_id))
        penalised = torch.where(finished, scores.total, scores.total - self.config.missing_end_penalty)
        return scores._replace(total=penalised)


def replaced(batch: Drawn, where_B: Tensor, more: Drawn, pad_id: int) -> Drawn:
    """The batch with other replies in these places; what was a group stays one."""
    places = torch.arange(len(where_B))
    places[where_B] = len(where_B) + torch.arange(len(more.prompts))
    order = places.tolist()
    prompts = [*batch.prompts, *more.prompts]

    def mixed(old_B: Tensor, new_N: Tensor) -> Tensor:
        return torch.cat((old_B, new_N))[places]

    by_name = {name: mixed(own, more.scores.by_name[name]) for name, own in batch.scores.by_name.items()}
    scores = Scores(mixed(batch.scores.total, more.scores.total), by_name)
    rollouts = joined([batch.rollouts, more.rollouts], order, pad_id)
    return Drawn([prompts[place] for place in order], batch.groups_B, rollouts, scores)
