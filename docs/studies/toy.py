"""A language small enough that every judgement is known: 16 tokens, replies of 16 of them, a gold score by counting.

Shared by the studies: drawing replies, labelling pairs with noise, training a reward model on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutelage.data.completions import Completion, PackedCompletions, pack_completions
from tutelage.model.config import ModelConfig
from tutelage.model.heads import RewardModel
from tutelage.model.transformer import CausalLM, initialise
from tutelage.objectives.reward import bradley_terry
from tutelage.objectives.types import LossOutput
from tutelage.parallel.world import World
from tutelage.stages.reward import packed_scores, score
from tutelage.training.loop import Loop
from tutelage.training.optim import build_optimizers
from tutelage.training.settings import OptimizerSettings

V, T = 16, 16
START = 0  # the prompt is this one token; it is also the padding, which replies of one length never need
CONFIG = ModelConfig(
    vocab_size=V,
    hidden_size=48,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=24,
    max_position_embeddings=T + 1,
)
WORTH_V = torch.linspace(-1.5, 1.5, V)  # of a token
ENOUGH = 2  # further copies of a token cost instead


def gold(replies_NT: Tensor) -> Tensor:
    """The true score, (N,): each token is worth something twice; from the third copy on it costs a half."""
    counts_NV = torch.nn.functional.one_hot(replies_NT, V).sum(1)
    paid_NV, surplus_NV = counts_NV.clamp(max=ENOUGH), (counts_NV - ENOUGH).clamp(min=0)
    return (paid_NV * WORTH_V).sum(1) - 0.5 * surplus_NV.sum(1)


def uniform_replies(count: int, generator: torch.Generator) -> Tensor:
    """Replies drawn uniformly, (N, T)."""
    return torch.randint(V, (count, T), generator=generator)


def completions(replies_NT: Tensor) -> list[Completion]:
    """Each reply after the one prompt."""
    return [Completion([START, *row], 1) for row in replies_NT.tolist()]


def reference_policy(seed: int = 0) -> CausalLM:
    """A small model that has learnt nothing: nearly uniform."""
    return initialise(CausalLM(CONFIG), seed)


class ToyPairs(NamedTuple):
    """Pairs of replies as they are labelled, (N, T) each, and whether the label is what the gold score says, (N,)."""

    chosen: Tensor
    rejected: Tensor
    right: Tensor

    def part(self, index: Tensor | slice) -> ToyPairs:
        """Some of the pairs."""
        return ToyPairs(*(field[index] for field in self))


class PairBatch(NamedTuple):
    """2B completions, chosen ones first."""

    packed: PackedCompletions


def train_reward_model(
    pairs: ToyPairs, held_out: ToyPairs, *, num_steps: int, seed: int, pairs_a_step: int = 32, every: int = 25
) -> RewardModel:
    """Bradley–Terry on the pairs; the weights of the step that was best on the held-out pairs are kept."""
    model = RewardModel(CONFIG, seed)
    model.model.load_state_dict(reference_policy(seed).model.state_dict())
    settings = OptimizerSettings(learning_rate=2e-3, warmup_share=0.05)
    loop = Loop(model, build_optimizers(model, settings), settings, num_steps, World())
    generator = torch.Generator().manual_seed(seed)
    best, kept = float("inf"), None
    for step in range(num_steps):
        index = torch.randint(len(pairs.right), (pairs_a_step,), generator=generator)
        rows = completions(torch.cat([pairs.chosen[index], pairs.rejected[index]]))
        loop.step(step, [PairBatch(pack_completions(rows, START))], _pair_loss)
        if (step + 1) % every == 0:
            loss = float(nn.functional.softplus(-margins(model, held_out)).mean())
            if loss < best:
                best, kept = loss, {name: value.clone() for name, value in model.state_dict().items()}
    assert kept is not None, "fewer steps than one look at the held-out pairs"
    model.load_state_dict(kept)
    return model.eval()


def _pair_loss(model: nn.Module, batch: PairBatch) -> LossOutput:
    chosen_B, rejected_B = packed_scores(model, batch.packed).chunk(2)
    return bradley_terry(chosen_B, rejected_B, centring=0.01)


def scores(model: RewardModel, replies_NT: Tensor) -> Tensor:
    """The reward model's score of every reply, (N,)."""
    return score(model, completions(replies_NT), START)


def margins(model: RewardModel, pairs: ToyPairs) -> Tensor:
    """r_chosen − r_rejected of every pair, (N,)."""
    return scores(model, pairs.chosen) - scores(model, pairs.rejected)


def in_order(first_NT: Tensor, second_NT: Tensor, first_wins_N: Tensor, right_N: Tensor) -> ToyPairs:
    """Pairs with the labelled winner first."""
    wins = first_wins_N.unsqueeze(1)
    return ToyPairs(torch.where(wins, first_NT, second_NT), torch.where(wins, second_NT, first_NT), right_N)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)
