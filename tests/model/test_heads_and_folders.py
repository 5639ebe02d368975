from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from tiny import config, model
from tutelage.data.completions import Completion, pad_completions
from tutelage.errors import ArtifactError
from tutelage.model.config import model_config_from_dict
from tutelage.model.heads import PolicyWithValue, RewardModel, scalar_head
from tutelage.model.hub import load_causal_lm, load_reward_model, save_model
from tutelage.stages.reward import score

REPLIES = [Completion([5, 6, 7, 8], 2), Completion([5, 6, 9, 10, 11, 12], 2), Completion([13, 14, 3], 1)]


def judge(seed: int = 0) -> RewardModel:
    net = RewardModel(config(), seed)
    net.model.load_state_dict(model(seed).model.state_dict())
    return net


def test_a_score_is_the_same_alone_in_a_padded_batch_and_in_any_order() -> None:
    net = judge()
    together = score(net, REPLIES, pad_id=0)
    assert_close(torch.cat([score(net, [reply], pad_id=0) for reply in REPLIES]), together)
    assert_close(score(net, REPLIES[::-1], pad_id=0), together.flip(0))
    assert_close(score(net, REPLIES, pad_id=0), together)


def test_a_score_is_read_at_the_last_token_and_shifted_by_the_bias() -> None:
    net = judge()
    before = score(net, REPLIES, pad_id=0)
    longer = [Completion([*reply.ids, 20], reply.num_prompt) for reply in REPLIES]
    assert not torch.isclose(score(net, longer, pad_id=0), before).any()
    with torch.no_grad():
        net.bias.add_(2.5)
    assert_close(score(net, REPLIES, pad_id=0), before + 2.5)


def test_the_head_starts_with_the_stated_spread() -> None:
    weights = torch.cat([scalar_head(config(), seed).weight.detach().flatten() for seed in range(300)])
    assert float(weights.std()) == pytest.approx(1 / 17**0.5, rel=0.05)
    assert abs(float(weights.mean())) < 0.01


def test_policy_with_value_is_the_policy_and_its_values_start_at_zero() -> None:
    policy = model()
    rows = pad_completions(REPLIES, 0)
    fields = rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT
    net = PolicyWithValue(policy)
    logprobs, entropies, values = net(*fields, targets_BT=rows.targets_BT, temperature=0.7)
    expected = policy(*fields, targets_BT=rows.targets_BT, temperature=0.7)
    assert torch.equal(logprobs, expected.logprobs)
    assert torch.equal(entropies, expected.entropies)
    assert not values.any()


def test_the_value_gradient_reaches_the_trunk_but_not_the_policy_head() -> None:
    net = PolicyWithValue(model())
    torch.nn.init.ones_(net.value.weight)
    rows = pad_completions(REPLIES, 0)
    _, _, values = net(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, targets_BT=rows.targets_BT)
    values[:, 0].sum().backward()
    assert net.policy.model.embed_tokens.weight.grad is not None
    assert net.policy.model.embed_tokens.weight.grad.any()
    assert net.policy.lm_head.weight.grad is None


def test_saving_and_loading_a_reward_model_keeps_its_scores(tmp_path: Path) -> None:
    net = judge()
    with torch.no_grad():
        net.bias.fill_(0.1)
    save_model(net, tmp_path)
    assert torch.equal(score(load_reward_model(tmp_path), REPLIES, 0), score(net, REPLIES, 0))
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["architectures"] == ["Qwen3ForSequenceClassification"]
    assert saved["num_labels"] == 1


@pytest.mark.parametrize("tied", [False, True])
def test_saving_and_loading_a_model_keeps_its_logits(tmp_path: Path, tied: bool) -> None:
    net = model(tie_word_embeddings=tied)
    save_model(net, tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    loaded = load_causal_lm(tmp_path)
    assert torch.equal(loaded(ids), net(ids))
    assert loaded.config == net.config
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) != tied


def changed(**changes: Any) -> dict[str, Any]:
    return {k: v for k, v in {**config().to_dict(), **changes}.items() if v is not ...}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"hidden_size": ...}, "field 'hidden_size' is missing"),
        ({"vocab_size": "many"}, "wrong type"),
        ({"num_hidden_layers": None}, "wrong type"),
        ({"head_dim": 7}, "must be even"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "does not divide"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "'factor' is missing"),
    ],
)
def test_a_configuration_that_cannot_be_computed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        model_config_from_dict(changed(**changes), "here/config.json")


def test_a_configuration_survives_a_round_trip() -> None:
    for changes in ({}, {"model_type": "qwen2", "qkv_bias": True}, {"tie_word_embeddings": True, "rope_theta": 5e5}):
        assert model_config_from_dict(config(**changes).to_dict()) == config(**changes)


def spoil_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.embed_tokens.weight"]
    save_file(tensors, folder / "model.safetensors")


def reshape_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(3)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_weights, "cannot be read"),
        (drop_tensor, "model.embed_tokens.weight is missing"),
        (reshape_tensor, r"model.norm.weight has shape \(3,\)"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no .safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "does not exist"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "expected a mapping"),
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_a_damaged_folder_is_an_artifact_error(tmp_path: Path, spoil: Any, message: str, tied: bool) -> None:
    save_model(model(tie_word_embeddings=tied), tmp_path)
    spoil(tmp_path)
    with pytest.raises(ArtifactError, match=message):
        load_causal_lm(tmp_path)
