"""On-policy steps for every method: roll out, score, measure the KL, ask for advantages, yield the minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tutelage.data.batches import Batch
from tutelage.data.completions import Completion, PackedCompletions, pack_completions, pad_completions
from tutelage.generation.rollout import Rollouts
from tutelage.objectives.advantages import flat_groups
from tutelage.objectives.kl import adaptive_kl_coef
from tutelage.objectives.masked import masked, masked_mean, masked_sum
from tutelage.objectives.types import Metrics
from tutelage.stages.alignment.drawing import Drawer
from tutelage.stages.alignment.rewards import Scores
from tutelage.stages.sample import request_seed
from tutelage.training.source import epoch_positions


class Judged(NamedTuple):
    """What advantages are made of: B replies, each to the prompt of its group; per token [B, T], per reply (B,)."""

    scores_B: Tensor  # NaN: no reward, and then nothing of its row is in the mask
    groups_B: Tensor
    kl_BT: Tensor
    values_BT: Tensor  # 0 without a critic
    mask_BT: Tensor
    kl_coef: float


class Estimate(NamedTuple):
    """Advantages and what a critic is to learn, [B, T] and 0 outside the mask, with metrics of the whole batch."""

    advantages_BT: Tensor
    returns_BT: Tensor
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RolloutBatch:
    """Rollouts with everything an update needs, [B, T]; `metrics` are of the whole rollout batch.

    In a minibatch several completions are packed into a row, as `packed` says; before that each has its own.
    If it is `fresh`, the policy was not asked again after decoding: `old_logprobs` are the decoder's, and those of the
    update are its own (see `by_reply`).
    """

    completions: Sequence[Completion]
    rows: Batch
    old_logprobs: Tensor
    ref_logprobs: Tensor
    advantages: Tensor
    returns: Tensor
    old_values: Tensor
    metrics: Mapping[str, float]
    value_only: bool = False
    fresh: bool = False
    packed: PackedCompletions | None = None
    replay: Batch | None = None


class RolloutSource:
    """On-policy steps: the next rollout batch is drawn only when it is asked for. See StepSource.

    `model` is what is trained, `drawer` has the language model in it; `ref` gives the reference's log-probs. Where
    advantages need `scores_alone` and a batch is learnt from once, the update's own forward is the policy's only one
    (but `kl_target` asks for the KL before it).
    """

    def __init__(
        self,
        model: nn.Module,
        ref: Callable[[Batch], Tensor],
        drawer: Drawer,
        estimate: Callable[[Judged], Estimate],
        *,
        start_critic: Callable[[nn.Module, PackedCompletions, Judged], None] | None = None,
        critic_warmup_batches: int = 0,
        scores_alone: bool = False,
        replay: Callable[[int], Batch] | None = None,
    ) -> None:
        self.model, self.ref, self.drawer = model, ref, drawer
        self.estimate, self.replay = estimate, replay
        self.tokenizer, self.config, self.seed = drawer.tokenizer, drawer.config, drawer.seed
        self.start_critic, self.critic_warmup_batches = start_critic, critic_warmup_batches
        self.kl_coef = self.config.kl_coef
        self.steps_a_batch = self.config.num_epochs * self.config.num_minibatches
        self.num_steps = self.config.num_rollout_batches * self.steps_a_batch
        self.fresh = scores_alone and self.steps_a_batch == 1 and self.config.kl_target is None

    def resumable(self, step: int) -> bool:
        """Between rollout batches: the next one follows from the weights, the seed and the state."""
        return step % self.steps_a_batch == 0

    def state_dict(self) -> Mapping[str, Any]:
        """The adaptive KL coefficient, the prompts taken so far, and what was counted."""
        return {"kl_coef": self.kl_coef, **self.drawer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See StepSource."""
        self.kl_coef = float(state["kl_coef"])
        self.drawer.load_state_dict(state)

    def steps(self, start: int) -> Iterator[list[RolloutBatch]]:
        """See StepSource."""
        assert self.resumable(start), "a rollout batch is taken up as a whole"
        for number in range(start // self.steps_a_batch, self.config.num_rollout_batches):
            batch = self._rollout_batch(number)
            size = len(batch.old_logprobs)
            for epoch in range(self.config.num_epochs):
                order = self._order(number, epoch, size)
                for part, index in enumerate(torch.tensor(order).tensor_split(self.config.num_minibatches)):
                    step = number * self.steps_a_batch + epoch * self.config.num_minibatches + part
                    replay = None if self.replay is None else self.replay(step)
                    yield [replace(take(batch, index, self.tokenizer.pad_id), replay=replay)]

    def _order(self, number: int, epoch: int, size: int) -> list[int]:
        """Of replies; a fresh batch stays as the reference had it, so that equal weights give equal log-probs."""
        if self.fresh:
            return list(range(size))
        return epoch_positions(epoch * size, size, size, request_seed(self.seed, number) % 2**31)

    @torch.no_grad()
    def _rollout_batch(self, number: int) -> RolloutBatch:
        self.model.eval()
        drawn = self.drawer.draw(number)
        rollouts, scores = drawn.rollouts, drawn.scores
        completions, rows = _without_unrewarded(rollouts, scores.total, self.tokenizer.pad_id)
        mask = rows.targets_BT >= 0
        packed = pack_completions(completions, self.tokenizer.pad_id)
        decoded = _decoded_logprobs(completions, rollouts, mask)
        zeros = torch.zeros_like(decoded)
        logprobs, entropies, values = (decoded, zeros, zeros) if self.fresh else self._outputs(packed, mask)
        ref_logprobs = one_a_row(packed, self.ref(packed.rows), mask)
        warmup = number < self.critic_warmup_batches
        judged = Judged(scores.total, drawn.groups_B, logprobs - ref_logprobs, values, mask, self.kl_coef)
        if number == 0 and self.start_critic is not None:
            self.start_critic(self.model, packed, judged)
            judged = judged._replace(values_BT=self._outputs(packed, mask)[2])
        estimate = self.estimate(judged)
        metrics = {**self._metrics(rollouts, scores), **drawn.metrics, **estimate.metrics}
        if not self.fresh:
            metrics |= _forward_metrics(metrics, len(completions), judged.kl_BT, entropies, logprobs - decoded, mask)
        if self.config.kl_target is not None and not warmup:
            self.kl_coef = adaptive_kl_coef(
                self.kl_coef, metrics["objective/kl"], target=self.config.kl_target, num_samples=len(scores.total)
            )
        self.model.train()
        return RolloutBatch(completions, rows, logprobs, ref_logprobs, estimate.advantages_BT, estimate.returns_BT,
                            judged.values_BT, metrics, warmup, self.fresh)  # fmt: skip

    def _outputs(self, packed: PackedCompletions, mask_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = token_outputs(self.model, packed.rows, self.config.temperature)
        logprobs, entropies, values = (one_a_row(packed, output, mask_BT) for output in outputs)
        return logprobs, entropies, values

    def _metrics(self, rollouts: Rollouts, scores: Scores) -> dict[str, float]:
        known = ~scores.total.isnan()
        own = {f"rewards/{name}": own[~own.isnan()] for name, own in scores.by_name.items()}
        return {
            **{name: float(values.mean()) for name, values in own.items() if len(values)},
            "objective/scores": float(scores.total[known].mean()),
            "objective/kl_coef": self.kl_coef,
            "val/num_eos_tokens": float(sum(rollouts.finished(self.tokenizer.end_of_turn_id))),
            "val/length": float(torch.tensor([float(len(reply.ids)) for reply in rollouts.replies]).mean()),
            "val/num_unrewarded": float((~known).sum()),
        }


def token_outputs(
    model: nn.Module, rows: Batch, temperature: float, *, value_only: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs of the targets, entropies and the critic's values, [B, T]; values are 0 of a model without critic."""
    fields = rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT
    more = {"value_only": True} if value_only else {}
    logprobs, entropies, *values = model(*fields, targets_BT=rows.targets_BT, temperature=temperature, **more)
    return logprobs, entropies, values[0] if values else torch.zeros_like(logprobs)


class Replies(NamedTuple):
    """Per token of N replies, each in a row of its own from column 0 on, [N, T]; none of them is empty."""

    logprobs: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    advantages: Tensor
    mask: Tensor


def by_reply(batch: RolloutBatch, logprobs_BT: Tensor) -> Replies:
    """A packed minibatch for losses that ask where a reply ends; replies without a reward are left out.

    Of a fresh batch the old log-probs are the given ones, without their gradient: the policy has not moved since.
    """
    packed = batch.packed
    assert packed is not None, "a minibatch is packed"
    counts_N = packed.sums((batch.rows.targets_BT >= 0).long())
    counts_N = counts_N[counts_N > 0]
    longest = int(counts_N.max()) if len(counts_N) else 1
    mask_NT = torch.arange(longest) < counts_N[:, None]

    def apart(values_BT: Tensor) -> Tensor:
        return one_a_row(packed, values_BT, mask_NT)

    old_BT = logprobs_BT.detach() if batch.fresh else batch.old_logprobs
    return Replies(apart(logprobs_BT), apart(old_BT), apart(batch.ref_logprobs), apart(batch.advantages), mask_NT)


def fresh_metrics(batch: RolloutBatch, logprobs_BT: Tensor, entropies_BT: Tensor) -> Metrics:
    """What the source measures of the policy's forward; of a fresh batch there is none but the update's."""
    if not batch.fresh:
        return {}
    logprobs_BT, mask_BT = logprobs_BT.detach(), batch.rows.targets_BT >= 0
    kl_BT, gaps_BT = logprobs_BT - batch.ref_logprobs, logprobs_BT - batch.old_logprobs
    found = _forward_metrics(batch.metrics, len(batch.completions), kl_BT, entropies_BT, gaps_BT, mask_BT)
    return {name: (torch.tensor(value), torch.ones(())) for name, value in found.items()}


def group_estimate(advantages_B: Tensor, judged: Judged) -> Estimate:
    """One advantage a reply, on all its tokens. Metrics: `groups/zero_std`, the share of groups of one score."""
    advantages_BT = masked(advantages_B[:, None].expand_as(judged.kl_BT), judged.mask_BT)
    flat = float(flat_groups(judged.scores_B, judged.groups_B))
    return Estimate(advantages_BT, torch.zeros_like(advantages_BT), {"groups/zero_std": flat})


def one_a_row(packed: PackedCompletions, values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """What was computed of packed completions, with each completion in the row of its own that `mask_BT` has for it."""
    found = packed.take(values_BT, packed.rows.targets_BT >= 0)
    return found.new_zeros(mask_BT.shape).masked_scatter(mask_BT, found)


def take(batch: RolloutBatch, index: Tensor, pad_id: int) -> RolloutBatch:
    """These rollouts, several packed into a row: a mean over tokens does not ask where they lie."""
    completions = [batch.completions[number] for number in index.tolist()]
    packed = pack_completions(completions, pad_id)
    padded_mask, mask = batch.rows.targets_BT[index] >= 0, packed.rows.targets_BT >= 0

    def lay(values_BT: Tensor) -> Tensor:
        return packed.lay(values_BT[index][padded_mask], mask)

    return replace(
        batch,
        completions=completions,
        rows=packed.rows,
        old_logprobs=lay(batch.old_logprobs),
        ref_logprobs=lay(batch.ref_logprobs),
        advantages=lay(batch.advantages),
        returns=lay(batch.returns),
        old_values=lay(batch.old_values),
        packed=packed,
    )


def _without_unrewarded(rollouts: Rollouts, scores_B: Tensor, pad_id: int) -> tuple[list[Completion], Batch]:
    """The completions, of which those without a reward have no token left to train on."""
    known = (~scores_B.isnan()).tolist()
    if all(known):
        return rollouts.completions, rollouts.rows
    completions = [
        completion if rewarded else replace(completion, num_prompt=len(completion.ids))
        for completion, rewarded in zip(rollouts.completions, known, strict=True)
    ]
    return completions, pad_completions(completions, pad_id)


def _decoded_logprobs(completions: Sequence[Completion], rollouts: Rollouts, mask_BT: Tensor) -> Tensor:
    """What decoding said of the tokens in the mask, 0 elsewhere."""
    found = [
        logprob
        for completion, reply in zip(completions, rollouts.replies, strict=True)
        if completion.num_prompt < len(completion.ids)
        for logprob in reply.logprobs
    ]
    return torch.zeros(mask_BT.shape).masked_scatter(mask_BT, torch.tensor(found))


def _forward_metrics(
    metrics: Mapping[str, float],
    num_replies: int,
    kl_BT: Tensor,
    entropies_BT: Tensor,
    gaps_BT: Tensor,
    mask_BT: Tensor,
) -> dict[str, float]:
    """KL a rewarded reply, score less its cost, entropy a token, and the largest gap between training and decoding.

    The gaps are those of the log-probs; `metrics` has the scores and the KL's coefficient.
    """
    kl = float(masked_sum(kl_BT, mask_BT)) / (num_replies - metrics["val/num_unrewarded"])
    return {
        "objective/kl": kl,
        "objective/rlhf_reward": metrics["objective/scores"] - metrics["objective/kl_coef"] * kl,
        "objective/entropy": float(masked_mean(entropies_BT, mask_BT)),
        "objective/logprob_gap": float(masked(gaps_BT, mask_BT).abs().max()),
    }
