"""The adapter folder as PEFT itself reads it: the adapted model's logits, by somebody else's code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny import model
from tutelage.model.hub import save_model
from tutelage.model.lora import Adapter, LoRALinear, add_adapter, save_adapter
from tutelage.model.transformer import CausalLM

IDS = torch.tensor([[1, 5, 9, 7, 200, 31, 8], [2, 2, 40, 41, 299, 0, 3]])
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def adapted(folder: Path, kind: str, targets: tuple[str, ...]) -> CausalLM:
    """A base model in `folder/base` and a trained adapter in `folder/adapter`; returns both in one."""
    net = model(model_type=kind, qkv_bias=kind == "qwen2", initializer_range=0.1)
    (folder / "base").mkdir()
    save_model(net, folder / "base")
    adapter = Adapter(3, 6.0, targets, str(folder / "base"))
    add_adapter(net, adapter, seed=1)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, LoRALinear):
                module.lora_B.normal_(std=0.1, generator=random)
    save_adapter(net.state_dict(), adapter, folder / "adapter")
    return net.eval()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of other packages
@pytest.mark.parametrize("targets", [("q_proj", "down_proj"), ALL])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@torch.no_grad()
def test_peft_finds_the_same_logits(tmp_path: Path, kind: str, targets: tuple[str, ...]) -> None:
    peft = pytest.importorskip("peft", reason="the real PEFT is not installed: pip install peft transformers")
    transformers = pytest.importorskip("transformers", reason="PEFT adapts models of transformers: install it, too")
    ours = adapted(tmp_path, kind, targets)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32).eval()
    plain = base(IDS).logits
    theirs = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    loaded = {name.split(".lora_")[0].rpartition(".")[2] for name, _ in theirs.named_parameters() if ".lora_" in name}
    assert loaded == set(targets)
    assert (theirs(IDS).logits - ours(IDS)).abs().max() <= 1e-5
    assert (plain - ours(IDS)).abs().max() > 1e-2
    merged = theirs.merge_and_unload()
    assert (merged(IDS).logits - ours(IDS)).abs().max() <= 1e-5
