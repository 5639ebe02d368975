"""Adapters: nothing changes at first, only they train, merged equals adapted, and the folder is PEFT's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tiny import model
from tutelage.generation.engine import Engine, Request
from tutelage.generation.sampling import Sampling
from tutelage.model.lora import Adapter, LoRALinear, adapter_of, adapters_off, add_adapter, merged, save_adapter
from tutelage.model.transformer import CausalLM

ADAPTER = Adapter(3, 6.0, ("q_proj", "v_proj", "down_proj"), "base")
IDS = torch.tensor([[1, 5, 9, 7, 200]])


def adapted(trained: bool, **changes: object) -> CausalLM:
    net = add_adapter(model(**changes), ADAPTER, seed=1)
    if trained:
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, LoRALinear):
                    module.lora_B.normal_(generator=torch.Generator().manual_seed(2))
    return net


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_an_adapter_starts_as_nothing_and_can_be_switched_off(kind: str) -> None:
    shape = {"model_type": kind, "qkv_bias": kind == "qwen2"}
    before = model(**shape)(IDS)
    assert torch.equal(adapted(False, **shape)(IDS), before)
    net = adapted(True, **shape)
    assert not torch.allclose(net(IDS), before, atol=1e-2)
    with adapters_off(net):
        assert torch.equal(net(IDS), before)
    assert not torch.allclose(net(IDS), before, atol=1e-2)


def test_only_the_adapter_trains() -> None:
    net = adapted(True)
    net(IDS).logsumexp(-1).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == (".lora_" in name), name
    assert sum(1 for module in net.modules() if isinstance(module, LoRALinear)) == 2 * 3
    assert adapter_of(net) == ADAPTER
    assert adapter_of(model()) is None


@pytest.mark.parametrize("tied", [False, True])
def test_the_merged_model_is_the_adapted_one(tied: bool) -> None:
    net = adapted(True, tie_word_embeddings=tied)
    plain = model(tie_word_embeddings=tied)
    state = merged(net.state_dict(), ADAPTER)
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)
    assert torch.allclose(plain(IDS), net(IDS), atol=1e-4)


@pytest.mark.parametrize("kernels", ["0", "1"])
def test_an_adapted_model_decodes_as_it_trains(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_KERNELS", kernels)
    net = adapted(True)
    request = Request([1, 5, 9], Sampling(12, 1.0), seed=4)
    [on] = Engine(net, [], 0).generate([request])
    assert on.logprobs == pytest.approx(trained_logprobs(net, on.ids), abs=1e-4)
    with adapters_off(net):
        [off] = Engine(net, [], 0).generate([request])
        assert off.logprobs == pytest.approx(trained_logprobs(net, off.ids), abs=1e-4)
    assert on.logprobs != pytest.approx(off.logprobs, abs=1e-2)


@torch.no_grad()
def trained_logprobs(net: CausalLM, reply: list[int]) -> list[float]:
    ids = torch.tensor([[1, 5, 9, *reply]])
    logprobs = net(ids[:, :-1]).log_softmax(-1).gather(2, ids[:, 1:, None])[0, 2:, 0]
    return logprobs.tolist()


def test_the_folder_is_that_of_peft(tmp_path: Path) -> None:
    net = adapted(True)
    save_adapter(net.state_dict(), ADAPTER, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 6.0)
    assert config["target_modules"] == ["q_proj", "v_proj", "down_proj"]
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.self_attn.q_proj"
    assert tensors[f"{name}.lora_A.weight"].shape == (3, 16)
    assert tensors[f"{name}.lora_B.weight"].shape == (16, 3)
    assert len(tensors) == 2 * 2 * 3
