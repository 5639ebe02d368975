from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tiny import config, model
from tutelage.data.batches import Batch, make_batch
from tutelage.data.packing import lay_rows
from tutelage.model import kernels
from tutelage.model.transformer import CausalLM, initialise

KINDS: dict[str, dict[str, Any]] = {
    "llama, tied": {"model_type": "llama", "tie_word_embeddings": True},
    "qwen2, biases": {"model_type": "qwen2", "qkv_bias": True},
    "qwen3, grouped": {"model_type": "qwen3"},
    "all heads": {"num_key_value_heads": 2},
}
DOCUMENTS = [[5, 6, 7, 8, 9], [10, 11, 12], [13, 14, 15, 16]]


@pytest.fixture(params=["torch", "kernels"], autouse=True)
def computed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled kernels are for large tensors only; here they are made to take small ones too, where there are any."""
    monkeypatch.setattr(kernels, "SMALLEST", 1 if request.param == "kernels" else 1 << 60)


def batch(plan: list[list[int]], width: int) -> Batch:
    return make_batch(lay_rows(DOCUMENTS, plan, width, pad_id=0))


def fields(rows: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT


@pytest.mark.parametrize("kind", KINDS)
def test_a_logit_depends_on_its_own_past_and_segment_only(kind: str) -> None:
    net = model(**KINDS[kind])
    rows = batch([[0, 1, 2]], 14)
    embeddings: list[Tensor] = []

    def keep(module: torch.nn.Module, args: Any, output: Tensor) -> None:
        output.retain_grad()
        embeddings.append(output)

    handle = net.model.embed_tokens.register_forward_hook(keep)
    logits_TV = net(*fields(rows))[0]
    handle.remove()
    segment = rows.segment_ids_BT[0]
    for t in range(14):
        (influence_TD,) = torch.autograd.grad(logits_TV[t].square().sum(), embeddings[0], retain_graph=True)
        influenced = influence_TD[0].abs().sum(-1) > 0
        allowed = (torch.arange(14) <= t) & (segment == segment[t])
        assert torch.equal(influenced, allowed), f"position {t}"


@pytest.mark.parametrize("kind", KINDS)
def test_packing_and_padding_change_neither_loss_nor_gradient(kind: str) -> None:
    net = model(**KINDS[kind])
    layouts = [batch([[0, 1, 2]], 12), batch([[2], [0], [1]], 5), batch([[1, 2], [0]], 20)]
    outcomes = []
    for rows in layouts:
        net.zero_grad()
        logprobs_BT, _ = net(*fields(rows), targets_BT=rows.targets_BT)
        logprobs_BT.sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        outcomes.append((logprobs_BT.sum().detach(), gradient))
    for loss, gradient in outcomes[1:]:
        assert_close(loss, outcomes[0][0])
        assert_close(gradient, outcomes[0][1], rtol=1e-4, atol=1e-4)


def test_rows_without_segments_are_plain_causal_sequences() -> None:
    net, ids = model(), torch.tensor([DOCUMENTS[0]])
    rows = batch([[0]], 5)
    assert_close(net(ids), net(*fields(rows)))


def test_positions_are_relative() -> None:
    net, rows = model(), batch([[0]], 5)
    shifted = net(rows.input_ids_BT, rows.position_ids_BT + 7, rows.segment_ids_BT)
    assert_close(shifted, net(*fields(rows)), rtol=1e-3, atol=1e-4)
    stretched = net(rows.input_ids_BT, rows.position_ids_BT * 3, rows.segment_ids_BT)
    assert not torch.allclose(stretched, shifted, atol=1e-2)


def test_zero_outputs_make_every_block_the_identity() -> None:
    net = initialise(CausalLM(config()), 0, zero_outputs=True)
    ids = torch.tensor([DOCUMENTS[0]])
    unmixed = net.lm_head(net.model.norm(net.model.embed_tokens(ids)))
    assert_close(net(ids), unmixed)


def test_the_seed_alone_decides_the_weights() -> None:
    first, again, other = (torch.cat([p.flatten() for p in model(seed).parameters()]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_bfloat16_computes_near_float32_and_keeps_master_weights() -> None:
    net, ids = model(), torch.tensor([DOCUMENTS[0]])
    exact = net(ids)
    net.compute_dtype = torch.bfloat16
    rough = net(ids)
    assert rough.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
    assert_close(rough, exact, rtol=0.1, atol=0.15)
    assert not torch.equal(rough, exact)
