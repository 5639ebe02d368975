"""Every golden model: logits (right-padded, left-padded, packed), loss, gradient norms and greedy text."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tutelage.model.hub import load_causal_lm, save_model

GOLDEN = Path(os.environ.get("TUTELAGE_GOLDEN", Path(__file__).parent / "golden")) / "models"
MODELS = sorted(path for path in GOLDEN.iterdir() if path.is_dir()) if GOLDEN.exists() else []
pytestmark = pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)


def golden(folder: Path):
    return json.loads((folder / "golden.json").read_text()), load_file(folder / "golden.safetensors")


def weights_only(folder: Path, target: Path, config: str = "config.json") -> Path:
    """The golden tensors lie in the same folder as the weights; a model folder has the weights alone."""
    target.mkdir(exist_ok=True)
    shutil.copy(folder / "model.safetensors", target)
    shutil.copy(folder / config, target / "config.json")
    return target


@pytest.mark.parametrize("config", ["config.json", "config.v4.json"])
def test_logits_padded_left_padded_and_packed(folder, config, tmp_path):
    _, tensors = golden(folder)
    model = load_causal_lm(weights_only(folder, tmp_path / "model", config))
    mask = tensors["attention_mask"].bool()
    right = model(tensors["input_ids"], segment_ids_BT=mask.long())
    torch.testing.assert_close(right[mask], tensors["logits"][mask], atol=1e-4, rtol=0)

    left_mask = tensors["left_attention_mask"].bool()
    left = model(tensors["left_input_ids"], tensors["left_position_ids"], left_mask.long())
    torch.testing.assert_close(left[left_mask], tensors["logits"][mask], atol=1e-4, rtol=0)

    packed = model(
        tensors["packed_input_ids"], tensors["packed_position_ids"], tensors["packed_segment_ids"].long() + 1
    )
    torch.testing.assert_close(packed, tensors["packed_logits"], atol=1e-4, rtol=0)


def test_loss_and_gradients(folder, tmp_path):
    expected, tensors = golden(folder)
    model = load_causal_lm(weights_only(folder, tmp_path / "model"))
    targets = torch.full_like(tensors["labels"], -100)
    targets[:, :-1] = tensors["labels"][:, 1:]
    segments = tensors["attention_mask"].long()
    logprobs = model(tensors["input_ids"], segment_ids_BT=segments, targets_BT=targets).logprobs
    count = (targets >= 0).sum()
    assert count == expected["num_items"]
    loss = -logprobs.sum() / count
    assert loss.item() == pytest.approx(expected["loss"], abs=1e-5)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert gradients.keys() == expected["grad_norm"].keys()
    for name, gradient in gradients.items():
        assert gradient.norm().item() == pytest.approx(expected["grad_norm"][name], rel=1e-4, abs=1e-6), name
        assert gradient.sum().item() == pytest.approx(expected["grad_sum"][name], rel=1e-3, abs=2e-4), name


def test_greedy_text(folder, tmp_path):
    _, tensors = golden(folder)
    model = load_causal_lm(weights_only(folder, tmp_path / "model"))
    for key in sorted(key for key in tensors if key.startswith("greedy_prompt_")):
        ids = tensors[key].reshape(1, -1).long()
        new = tensors[key.replace("prompt", "new_tokens")].flatten().tolist()
        with torch.no_grad():
            for token in new:
                assert model(ids)[0, -1].argmax().item() == token
                ids = torch.cat((ids, torch.tensor([[token]])), 1)


def test_save_and_load_keep_every_bit(folder, tmp_path):
    model = load_causal_lm(weights_only(folder, tmp_path / "model"))
    (tmp_path / "saved").mkdir()
    save_model(model, tmp_path / "saved")
    again = load_causal_lm(tmp_path / "saved")
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
