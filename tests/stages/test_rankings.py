"""A reward model's batches: all pairs of a prompt together, each completion once."""

from __future__ import annotations

from tutelage.data.completions import Completion
from tutelage.data.pairs import Pair
from tutelage.stages.reward import by_prompt, distinct_completions, ranking_batch

ONE, TWO, THREE = Completion([1, 5, 6], 1), Completion([1, 5, 7, 8], 1), Completion([1, 9], 1)


def pair(chosen: Completion, rejected: Completion) -> Pair:
    return Pair(chosen, rejected, 0.5, {})


def test_every_completion_of_a_ranking_is_one_row():
    batch = ranking_batch([pair(ONE, TWO), pair(ONE, THREE), pair(TWO, THREE)], pad_id=0)
    rows = batch.rows.input_ids_BT
    assert len(rows) == 3
    assert [rows[row][: len(ONE.ids)].tolist() for row in batch.chosen_B[:2]] == [ONE.ids, ONE.ids]
    assert rows[batch.rejected_B[2]].tolist() == [*THREE.ids, 0, 0]


def test_distinct_completions_give_back_what_was_given():
    given = [TWO, ONE, TWO, THREE, ONE]
    distinct, numbers = distinct_completions(given)
    assert [distinct[number] for number in numbers] == given
    assert len(distinct) == 3


def test_pairs_are_gathered_by_prompt():
    other = Completion([2, 5], 1)
    groups = by_prompt([pair(ONE, TWO), pair(other, Completion([2, 6], 1)), pair(TWO, THREE)])
    assert [len(group) for group in groups] == [2, 1]
