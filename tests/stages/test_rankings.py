"""A reward model's batches: all pairs of a prompt together, each completion once."""

from __future__ import annotations

import torch

from tutelage.data.completions import Completion, distinct_completions, in_token_batches, pack_completions
from tutelage.data.pairs import Pair
from tutelage.stages.alignment.reward_pairs import by_prompt
from tutelage.stages.reward import ranking_batch

ONE, TWO, THREE = Completion([1, 5, 6], 1), Completion([1, 5, 7, 8], 1), Completion([1, 9], 1)


def pair(chosen: Completion, rejected: Completion) -> Pair:
    return Pair(chosen, rejected, 0.5, {})


def test_every_completion_of_a_ranking_is_packed_once():
    batch = ranking_batch([pair(ONE, TWO), pair(ONE, THREE), pair(TWO, THREE)], pad_id=0)
    assert batch.packed.rows.num_tokens == sum(len(completion.ids) for completion in (ONE, TWO, THREE))
    ids = batch.packed.rows.input_ids_BT[batch.packed.last]
    assert ids[batch.chosen_B].tolist() == [6, 6, 8]
    assert ids[batch.rejected_B].tolist() == [8, 9, 9]


def test_packed_sums_are_those_of_each_completion_alone():
    completions = [ONE, TWO, THREE] * 3
    packed = pack_completions(completions, pad_id=0, least_width=8)
    assert len(packed.rows.input_ids_BT) < len(completions)
    ids = packed.rows.input_ids_BT
    assert packed.sums(ids.float()).tolist() == [float(sum(completion.ids)) for completion in completions]
    learnt = packed.sums((packed.rows.targets_BT >= 0).float())
    assert learnt.tolist() == [len(completion.ids) - completion.num_prompt for completion in completions]


def test_values_are_laid_where_their_tokens_are_packed():
    completions = [ONE, TWO, THREE] * 2
    packed = pack_completions(completions, pad_id=0, least_width=9)
    mask = packed.rows.targets_BT >= 0
    learnt = [float(token) for completion in completions for token in completion.ids[completion.num_prompt :]]
    laid = packed.lay(torch.tensor(learnt), mask)
    assert torch.equal(laid[mask], packed.rows.targets_BT[mask].float())
    assert not laid[~mask].any()
    assert packed.take(laid, mask).tolist() == learnt


def test_token_batches_are_all_completions_in_order():
    completions = [Completion([1] * length, 1) for length in (5, 3, 9, 2, 2, 30, 1)]
    parts = in_token_batches(completions, max_tokens=10)
    assert [index for part in parts for index in part] == list(range(7))
    assert all(len(part) == 1 or sum(len(completions[index].ids) for index in part) <= 10 for part in parts)


def test_distinct_completions_give_back_what_was_given():
    given = [TWO, ONE, TWO, THREE, ONE]
    distinct, numbers = distinct_completions(given)
    assert [distinct[number] for number in numbers] == given
    assert len(distinct) == 3


def test_pairs_are_gathered_by_prompt():
    other = Completion([2, 5], 1)
    groups = by_prompt([pair(ONE, TWO), pair(other, Completion([2, 6], 1)), pair(TWO, THREE)])
    assert [len(group) for group in groups] == [2, 1]
