from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data.batches import NO_TARGET, make_batch
from tutelage.data.packing import lay_rows, pack, pack_rows

CAPACITY = 12
lengths_lists = st.lists(st.integers(1, CAPACITY), max_size=60)


@st.composite
def sequences_and_masks(draw: st.DrawFn) -> tuple[list[list[int]], list[list[bool]]]:
    lengths = draw(lengths_lists)
    token, flag = st.integers(1, 99), st.booleans()
    sequences = [draw(st.lists(token, min_size=length, max_size=length)) for length in lengths]
    return sequences, [draw(st.lists(flag, min_size=len(each), max_size=len(each))) for each in sequences]


@given(lengths_lists)
def test_every_sequence_is_placed_once_and_no_row_overflows(lengths: list[int]) -> None:
    rows = pack(lengths, CAPACITY)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= CAPACITY for row in rows)


@given(lengths_lists)
def test_packing_agrees_with_the_plain_definition(lengths: list[int]) -> None:
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [space for space in free if space >= length]
        space = min(fitting, default=CAPACITY)
        if fitting:
            free.remove(space)
        free.append(space - length)
    rows = pack(lengths, CAPACITY)
    assert sorted(CAPACITY - sum(lengths[index] for index in row) for row in rows) == sorted(free)


@given(sequences_and_masks())
def test_packed_targets_are_those_of_each_sequence_alone(data: tuple[list[list[int]], list[list[bool]]]) -> None:
    sequences, masks = data
    rows = pack_rows(sequences, CAPACITY, 0, masks)
    assert rows.num_tokens == sum(map(len, sequences))
    batch = make_batch(rows)
    assert batch.num_tokens == rows.num_tokens
    packed = []
    for row in range(len(rows)):
        for segment in range(1, int(batch.segment_ids_BT[row].max()) + 1):
            here = batch.segment_ids_BT[row] == segment
            packed.append(
                (
                    batch.input_ids_BT[row][here].tolist(),
                    batch.targets_BT[row][here].tolist(),
                    batch.position_ids_BT[row][here].tolist(),
                )
            )
    alone = []
    for sequence, mask in zip(sequences, masks, strict=True):
        targets = [token if learnt else NO_TARGET for token, learnt in zip(sequence[1:], mask[1:], strict=True)]
        alone.append((sequence, [*targets, NO_TARGET], list(range(len(sequence)))))
    assert sorted(packed) == sorted(alone)
    assert (batch.targets_BT[batch.segment_ids_BT == 0] == NO_TARGET).all()
    assert batch.num_targets == sum(sum(mask[1:]) for mask in masks)


def test_without_masks_everything_but_the_first_token_is_learnt() -> None:
    rows = lay_rows([np.array([5, 6, 7], dtype=np.uint16), [8, 9]], [[0, 1]], 6, pad_id=0)
    batch = make_batch(rows)
    assert batch.input_ids_BT.tolist() == [[5, 6, 7, 8, 9, 0]]
    assert batch.targets_BT.tolist() == [[6, 7, -100, 9, -100, -100]]
    assert batch.position_ids_BT.tolist() == [[0, 1, 2, 0, 1, 0]]
    assert batch.segment_ids_BT.tolist() == [[1, 1, 1, 2, 2, 0]]
    assert rows.efficiency == 5 / 6
    assert torch.equal(make_batch(rows.take([0, 0])).targets_BT, torch.cat([batch.targets_BT] * 2))
