"""Completions of one prompt share it in a row: nothing computed of them changes, and fewer tokens are laid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tiny import config
from tiny import model as tiny_model
from tutelage.data.completions import Completion, PackedCompletions, pack_completions, pad_completions
from tutelage.data.packing import pack
from tutelage.model.heads import PolicyWithValue, RewardModel
from tutelage.model.segments import BRANCHES, segment_mask
from tutelage.model.transformer import CausalLM

PAD, WIDTH = 0, 24
tokens = st.lists(st.integers(1, 9), min_size=1, max_size=10)
replies = st.lists(tokens | st.just([]), min_size=1, max_size=7)


@st.composite
def groups(draw: st.DrawFn) -> list[Completion]:
    """Replies to a few prompts in any order; some have no tokens, and of some nothing is trained on."""
    found = [
        Completion([*prompt, *reply], len(prompt) + (len(reply) if draw(st.integers(0, 9)) == 0 else 0))
        for prompt in draw(st.lists(tokens, min_size=1, max_size=4))
        for reply in draw(replies)
    ]
    return draw(st.permutations(found))


def policy() -> CausalLM:
    return tiny_model()


def critic() -> PolicyWithValue:
    net = PolicyWithValue(tiny_model(), seed=1)
    nn.init.normal_(net.value.weight, generator=torch.Generator().manual_seed(2))
    return net


def judge() -> RewardModel:
    net = RewardModel(config(), seed=1)
    net.model.load_state_dict(tiny_model().model.state_dict())
    return net


def token_values(net: nn.Module, packed: PackedCompletions) -> Tensor:
    """What the model says of each completion's tokens, in their order: log-probs, entropies and perhaps values."""
    rows = packed.rows
    found = net(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, targets_BT=rows.targets_BT)
    return torch.stack([packed.take(values_BT, rows.targets_BT >= 0) for values_BT in found])


def scores(net: nn.Module, packed: PackedCompletions) -> Tensor:
    rows = packed.rows
    found: Tensor = net(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, packed.last)
    return found


def one_a_row(completions: list[Completion]) -> PackedCompletions:
    rows = pad_completions(completions, PAD)
    lengths_N = torch.tensor([len(completion.ids) for completion in completions])
    places = torch.arange(rows.input_ids_BT.shape[1]) < lengths_N[:, None]
    numbers = torch.arange(len(completions))[:, None]
    return PackedCompletions(rows, torch.where(places, numbers, len(completions)), lengths_N)


@pytest.mark.parametrize(("make", "outputs"), [(policy, token_values), (critic, token_values), (judge, scores)])
@settings(max_examples=25, deadline=None)
@given(completions=groups())
def test_outputs_and_gradients_are_those_of_one_completion_a_row(
    make: Callable[[], nn.Module], outputs: Callable[..., Tensor], completions: list[Completion]
) -> None:
    found = []
    for packed in (pack_completions(completions, PAD, WIDTH), one_a_row(completions)):
        net = make()
        values = outputs(net, packed)
        (values * torch.linspace(1, 2, values.shape[-1])).sum().backward()
        gradients = [weight.grad for weight in net.parameters() if weight.grad is not None]
        found.append([values.detach(), *gradients])
    assert len(found[0]) == len(found[1])
    for shared, apart in zip(*found, strict=True):
        assert torch.allclose(shared, apart, rtol=1e-4, atol=2e-4)


@settings(max_examples=100, deadline=None)
@given(completions=groups())
def test_a_position_sees_its_own_past_and_nothing_else(completions: list[Completion]) -> None:
    packed = pack_completions(completions, PAD, WIDTH)
    rows = packed.rows
    mask = segment_mask(rows.segment_ids_BT)[:, 0]
    for row, column in (packed.owners_BT < len(completions)).nonzero().tolist():
        ids = completions[int(packed.owners_BT[row, column])].ids
        seen = mask[row, column].nonzero().squeeze(1)
        assert rows.input_ids_BT[row, seen].tolist() == ids[: int(rows.position_ids_BT[row, column]) + 1]
        assert rows.position_ids_BT[row, seen].tolist() == list(range(len(seen)))
        assert set(packed.owners_BT[row, seen].tolist()) <= {int(packed.owners_BT[row, column]), len(completions)}
    padding = rows.segment_ids_BT == 0
    assert not (mask & (padding[:, None, :] != padding[:, :, None])).any()


@settings(max_examples=100, deadline=None)
@given(completions=groups())
def test_a_completion_has_its_own_targets_and_end(completions: list[Completion]) -> None:
    packed = pack_completions(completions, PAD, WIDTH)
    learnt = packed.take(packed.rows.targets_BT, packed.rows.targets_BT >= 0).tolist()
    assert learnt == [token for completion in completions for token in completion.ids[completion.num_prompt :]]
    assert packed.rows.input_ids_BT[packed.last].tolist() == [completion.ids[-1] for completion in completions]
    ends = packed.rows.position_ids_BT[packed.last] + 1
    assert ends.tolist() == packed.lengths_N.tolist() == [len(completion.ids) for completion in completions]


@settings(max_examples=200, deadline=None)
@given(completions=groups())
def test_never_more_is_laid_than_without_sharing(completions: list[Completion]) -> None:
    lengths = [len(completion.ids) for completion in completions]
    width = max(WIDTH, *lengths)
    packed = pack_completions(completions, PAD, WIDTH)
    assert packed.rows.num_tokens <= sum(lengths)
    assert packed.rows.input_ids_BT.numel() <= width * len(pack(lengths, width))


def test_replies_to_a_prompt_lay_it_a_few_times_only() -> None:
    completions = [Completion([prompt + 1] * 64 + [20 + reply] * 64, 64) for reply in range(8) for prompt in range(8)]
    rows = pack_completions(completions, PAD).rows
    assert rows.num_tokens < 0.65 * 64 * 128
    assert rows.input_ids_BT.numel() < 1.01 * rows.num_tokens
    assert int(rows.segment_ids_BT.max()) > BRANCHES


def test_where_no_prompt_is_shared_rows_are_those_of_plain_packing() -> None:
    completions = [Completion([number, *range(number)], 1) for number in range(1, 40)]
    rows = pack_completions(completions, PAD, WIDTH).rows
    width = 40
    assert rows.segment_ids_BT.shape == (len(pack([len(one.ids) for one in completions], width)), width)
    assert int(rows.segment_ids_BT.max()) < BRANCHES


def test_completions_without_a_prompt_share_nothing() -> None:
    packed = pack_completions([Completion([5, 6, 7], 0), Completion([5, 8, 9], 0)], 0)
    assert packed.rows.input_ids_BT[0, :6].tolist() == [5, 6, 7, 5, 8, 9]
    assert packed.rows.segment_ids_BT[0, :6].tolist() == [1, 1, 1, 2, 2, 2]
