"""Scalar heads on a decoder: a reward model's score and a critic's values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tutelage.model.config import ModelConfig
from tutelage.model.logprobs import linear_logprobs
from tutelage.model.segments import segment_mask
from tutelage.model.transformer import CausalLM, Decoder, Linear

RIDGE = 0.01


def scalar_head(config: ModelConfig, seed: int) -> Linear:
    """D → 1, no bias, std 1/√(D+1) (Stiennon et al., arXiv 2009.01325)."""
    head = Linear(config.hidden_size, 1, bias=False)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(head.weight, 0.0, 1.0 / math.sqrt(config.hidden_size + 1), generator=generator)
    return head


class RewardModel(nn.Module):
    """A decoder whose score of a conversation is read at its last token; `bias` shifts the average score to 0."""

    def __init__(self, config: ModelConfig, seed: int = 0, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.model = Decoder(config)
        self.score = scalar_head(config, seed)
        self.bias = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(
        self, input_ids_BT: Tensor, position_ids_BT: Tensor, segment_ids_BT: Tensor, last_N: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Scores [N], float32, at the given (row, column) positions: the last token of each of N sequences."""
        mask = segment_mask(segment_ids_BT)
        hidden_BTD = self.model(input_ids_BT, position_ids_BT, mask, self.compute_dtype)
        scores: Tensor = self.score(hidden_BTD[last_N]).squeeze(-1).float()
        return scores + self.bias


class PolicyWithValue(nn.Module):
    """One decoder with two heads: the policy's tokens and the critic's value of every position."""

    def __init__(self, policy: CausalLM, seed: int = 0) -> None:
        super().__init__()
        self.policy = policy
        self.value = scalar_head(policy.config, seed)
        nn.init.zeros_(self.value.weight)

    def forward(
        self,
        input_ids_BT: Tensor,
        position_ids_BT: Tensor,
        segment_ids_BT: Tensor,
        *,
        targets_BT: Tensor,
        temperature: float = 1.0,
        value_only: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the targets, entropies, and values, each [B, T] float32.

        With `value_only` gradients reach the critic's head and nothing below it: the policy stays what it is.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not value_only):
            hidden = self.policy.hidden(input_ids_BT, position_ids_BT, segment_ids_BT)
            logprobs, entropies = linear_logprobs(hidden, self.policy.lm_head.weight, targets_BT, temperature)
        values: Tensor = self.value(hidden).squeeze(-1).float()
        return logprobs, entropies, values

    @torch.no_grad()
    def fit_values(
        self, input_ids_BT: Tensor, position_ids_BT: Tensor, segment_ids_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor
    ) -> None:
        """Set the critic's head to the ridge regression of the masked returns [B, T] on the decoder's states.

        The penalty is RIDGE times the states' mean square, so that few tokens cannot make wild values.
        """
        states_ND = self.policy.hidden(input_ids_BT, position_ids_BT, segment_ids_BT)[mask_BT].double()
        gram_DD = states_ND.T @ states_ND / len(states_ND)
        penalty_DD = RIDGE * gram_DD.diagonal().mean() * torch.eye(len(gram_DD), dtype=gram_DD.dtype)
        moments_D = states_ND.T @ returns_BT[mask_BT].double() / len(states_ND)
        self.value.weight.copy_(torch.linalg.solve(gram_DD + penalty_DD, moments_D)[None])
