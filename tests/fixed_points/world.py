"""A world in which every reply can be written down: 8 tokens, 3 a reply, 512 replies (golden `kl_regularised_optimum`).

A tabular policy over it can be trained by any objective and compared with the exact optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from conformance.golden_io import Case, golden_directory, load
from tutelage.objectives.logprobs import token_logprobs
from tutelage.objectives.optimum import PolicyValue, kl_regularised_optimum, policy_value, table_logprobs

Draw = Callable[[Tensor, int, torch.Generator], Tensor]


@dataclass(frozen=True)
class World:
    """The reference's tables of logits (V,), (V, V), (V, V, V) and the reward of every sequence (V, V, V)."""

    ref_tables: list[Tensor]
    reward: Tensor

    @property
    def sequences(self) -> Tensor:
        """All S = V³ sequences (S, T), in the order of the flattened reward."""
        V = self.reward.shape[0]
        return torch.cartesian_prod(*[torch.arange(V)] * self.reward.ndim)

    @property
    def ref_logprobs(self) -> Tensor:
        """Log-probs of all sequences under the reference, (V, V, V)."""
        return table_logprobs(self.ref_tables)

    def optimum(self, beta: float, reward: Tensor | None = None) -> PolicyValue:
        """E[r], KL and J of the best policy, for the world's own reward or another of the same shape."""
        return kl_regularised_optimum(self.ref_logprobs, self.reward if reward is None else reward, beta).value

    def value(self, policy: TabularPolicy, beta: float, reward: Tensor | None = None) -> PolicyValue:
        """E[r], KL and J of a policy, exactly."""
        logprobs = table_logprobs([table.detach() for table in policy.tables])
        return policy_value(logprobs, self.ref_logprobs, self.reward if reward is None else reward, beta)


class TabularPolicy(nn.Module):
    """Logits of the next token, and a critic's value, for every prefix; it begins as the reference."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.tables = nn.ParameterList(table.clone() for table in world.ref_tables)
        self.values = nn.ParameterList(torch.zeros_like(table[..., 0]) for table in world.ref_tables)
        self.sequences = world.sequences

    def token_logprobs(self) -> Tensor:
        """Log-prob of every token of every sequence."""
        V = len(self.tables[0])
        logits = [self._of_every_sequence(table.reshape(-1, V)) for table in self.tables]
        return token_logprobs(torch.stack(logits, 1), self.sequences)

    def token_values(self) -> Tensor:
        """The critic's value before every token of every sequence."""
        return torch.cat([self._of_every_sequence(table.reshape(-1, 1)) for table in self.values], 1)

    def _of_every_sequence(self, rows_PX: Tensor) -> Tensor:
        """Rows of P prefixes repeated for all sequences that begin with them, (S, X)."""
        return rows_PX.repeat_interleave(len(self.sequences) // len(rows_PX), 0)


def at_random(probs_S: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Independent draws: numbers of sequences, (count,)."""
    return torch.multinomial(probs_S, count, replacement=True, generator=generator)


def evenly(probs_S: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Systematic draws: each sequence `count`·p times, rounded up or down; unbiased, with nearly no noise."""
    places = (torch.arange(count, dtype=probs_S.dtype) + torch.rand((), generator=generator)) / count
    return torch.searchsorted(probs_S.cumsum(0), places).clamp(max=len(probs_S) - 1)


def golden_cases() -> list[Case]:
    return [
        case
        for path in sorted(golden_directory().glob("*.json"))
        for golden in [load(path)]
        if golden.name == "kl_regularised_optimum"
        for case in golden.cases
    ]


def world_of(case: Case) -> World:
    return World([case.inputs[f"logits{length}"] for length in (1, 2, 3)], case.inputs["reward"])
