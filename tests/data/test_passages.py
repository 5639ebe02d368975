"""Numbers of learnt tokens: each target has its own, wherever packing puts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tutelage.data.batches import NO_TARGET
from tutelage.data.completions import Completion
from tutelage.data.packing import pack, runs
from tutelage.data.passages import passages, shard_passages
from tutelage.data.shards import ShardWriter, TokenShard
from tutelage.data.streams import PretrainRows
from tutelage.data.tokenizer import TextTokenizer

CONTEXT = 12


def test_a_number_leads_to_its_token_in_every_order_of_rows() -> None:
    random = np.random.default_rng(0)
    texts = passages(
        Completion(random.integers(1, 99, length).tolist(), int(random.integers(1, length + 1)))
        for length in random.integers(1, CONTEXT + 1, 40)
    )
    learnt = np.concatenate([ids[mask] for ids, mask in zip(texts.ids, texts.loss_masks, strict=True)])
    assert texts.firsts[-1] == len(learnt)
    for seed in range(3):
        chosen = np.random.default_rng(seed).permutation(len(texts)).tolist()
        plan = [[chosen[place] for place in row] for row in pack([texts.lengths[index] for index in chosen], CONTEXT)]
        rows, numbers_N = texts.lay(plan, CONTEXT, pad_id=0)
        targets_N = rows.targets_BT[rows.targets_BT != NO_TARGET]
        assert targets_N.tolist() == learnt[numbers_N].tolist()
        assert sorted(numbers_N.tolist()) == list(range(len(learnt)))


def test_rows_of_a_shard_are_made_of_the_same_pieces_in_every_epoch(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    with ShardWriter(tmp_path, tokenizer) as writer:
        for number, length in enumerate(random.integers(0, 3 * CONTEXT, 30)):
            ids = random.integers(8, 99, length).tolist()
            writer.add("train", ids, document=str(number), source="t", num_bytes=1)
    shard = TokenShard(tmp_path, "train")
    rows = PretrainRows(shard, CONTEXT, seed=3)
    first = rows.rows_per_epoch
    second = next(row for row in range(first, 3 * first) if rows.epoch(row) == 2) - first
    used = [sorted(piece for row in rows.pieces(*part) for piece in row) for part in ((0, first), (first, second))]
    assert used[0] == used[1]
    places = {piece: place for place, piece in enumerate(used[0])}
    plan = [[places[piece] for piece in row] for row in rows.pieces(first, second)]
    laid = shard_passages(shard, used[0]).lay(plan, CONTEXT, shard.pad_id)
    assert (laid.rows.input_ids_BT.numpy() == rows.rows(first, second).input_ids).all()
    assert len(set(laid.numbers_N.tolist())) == laid.rows.num_targets == shard.num_tokens - len(shard)


def test_runs_keep_the_order_and_stay_below_the_capacity_where_they_can() -> None:
    assert runs([], 5) == []
    assert runs([9], 5) == [range(1)]
    assert runs([2, 3, 1, 9, 4, 1], 5) == [range(2), range(2, 3), range(3, 4), range(4, 6)]
