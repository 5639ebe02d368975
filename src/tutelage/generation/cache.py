"""The key-value cache: one slot a row, each row at its own length."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.model.config import ModelConfig


class SlotCache:
    """Keys and values of all layers, [L, B, K, S, E]; a step writes each row's new entry at that row's length."""

    def __init__(self, config: ModelConfig, num_slots: int, capacity: int, dtype: torch.dtype) -> None:
        shape = (config.num_hidden_layers, num_slots, config.num_key_value_heads, capacity, config.head_dim)
        self.keys, self.values = torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)
        self.lengths_B = torch.zeros(num_slots, dtype=torch.long)
        self._rows = torch.arange(num_slots)
        self._width = 0

    @property
    def num_slots(self) -> int:
        """Rows decoded at once."""
        return self.keys.shape[1]

    def place(self, slots: Tensor, prefix: PrefixCache, rows: Tensor) -> None:
        """Put prompts, computed once each, into slots: `rows[i]` of the prefix goes to `slots[i]`."""
        width = prefix.width
        self.keys[:, slots, :, :width] = prefix.keys[:, rows]
        self.values[:, slots, :, :width] = prefix.values[:, rows]
        self.lengths_B[slots] = prefix.lengths_B[rows]

    def begin_step(self) -> Tensor:
        """Fix the width of this step; returns the mask [B, 1, 1, S] of what each row may attend to, itself included."""
        self._width = int(self.lengths_B.max()) + 1
        return (torch.arange(self._width) <= self.lengths_B[:, None])[:, None, None]

    def update(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """See model.KeyValueCache; T is 1."""
        self.keys[layer, self._rows, :, self.lengths_B] = keys_BKTE[:, :, 0]
        self.values[layer, self._rows, :, self.lengths_B] = values_BKTE[:, :, 0]
        return self.keys[layer, :, :, : self._width], self.values[layer, :, :, : self._width]

    def copy(self, sources: Tensor, targets: Tensor, width: int) -> None:
        """Copy the first `width` positions of slots to other slots; a slot that is its own source is left alone."""
        moved = sources != targets
        if bool(moved.any()):
            sources, targets = sources[moved], targets[moved]
            self.keys[:, targets, :, :width] = self.keys[:, sources, :, :width]
            self.values[:, targets, :, :width] = self.values[:, sources, :, :width]

    def park(self, idle_B: Tensor) -> None:
        """Let slots not in use write over their own beginning: they must neither overflow nor widen the step."""
        self.lengths_B[idle_B] = 0

    def keep(self, slots: Tensor) -> None:
        """Drop all other slots."""
        self.keys, self.values = self.keys[:, slots].contiguous(), self.values[:, slots].contiguous()
        self.lengths_B, self._rows = self.lengths_B[slots], torch.arange(len(slots))


class PrefixCache:
    """Keys and values of right-padded prompts, filled by one forward over all of them."""

    def __init__(self, config: ModelConfig, lengths_B: Tensor, width: int, dtype: torch.dtype) -> None:
        shape = (config.num_hidden_layers, len(lengths_B), config.num_key_value_heads, width, config.head_dim)
        self.keys, self.values = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)
        self.lengths_B, self.width = lengths_B, width

    def update(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """See model.KeyValueCache."""
        self.keys[layer], self.values[layer] = keys_BKTE, values_BKTE
        return keys_BKTE, values_BKTE
