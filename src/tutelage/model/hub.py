"""Models as Hugging Face folders: config.json and model.safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.errors import ArtifactError
from tutelage.model.config import ModelConfig, model_config_from_dict
from tutelage.model.heads import RewardModel
from tutelage.model.transformer import CausalLM


def save_model(model: CausalLM | RewardModel, folder: Path, state: dict[str, Tensor] | None = None) -> None:
    """Write config.json and model.safetensors (float32). `state` replaces the model's own tensors (gathered shards)."""
    config = model.config.to_dict()
    tensors = dict(model.state_dict() if state is None else state)
    if isinstance(model, RewardModel):
        config["architectures"] = [config["architectures"][0].replace("ForCausalLM", "ForSequenceClassification")]
        config |= {"num_labels": 1, "id2label": {"0": "score"}, "label2id": {"score": 0}}
        config["score_bias"] = float(tensors.pop("bias"))
    elif model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_model_config(folder: Path) -> ModelConfig:
    """Read a folder's config.json."""
    return model_config_from_dict(_read_config(folder), str(folder / "config.json"))


def load_causal_lm(folder: Path, compute_dtype: torch.dtype = torch.float32) -> CausalLM:
    """A causal language model with float32 parameters.

    Raises ArtifactError where the folder has no model, or its tensors do not fit its configuration.
    """
    model = CausalLM(load_model_config(folder), compute_dtype)
    tensors = _read_tensors(folder)
    if model.config.tie_word_embeddings and "model.embed_tokens.weight" in tensors:
        tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
    _fill(model, tensors, folder)
    return model


def load_reward_model(folder: Path, compute_dtype: torch.dtype = torch.float32) -> RewardModel:
    """A reward model with float32 parameters; errors as `load_causal_lm`."""
    config = _read_config(folder)
    model = RewardModel(load_model_config(folder), compute_dtype=compute_dtype)
    tensors = _read_tensors(folder)
    tensors["bias"] = torch.tensor([float(config.get("score_bias", 0.0))])
    _fill(model, tensors, folder)
    return model


def _fill(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    wanted = model.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [f"{name} is not of this architecture" for name in tensors if name not in wanted]
    problems += [
        f"{name} has shape {tuple(tensors[name].shape)}, the configuration asks for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if problems:
        raise ArtifactError(
            f"{folder / 'model.safetensors'} does not fit {folder / 'config.json'}: " + "; ".join(problems[:4]),
            hint="the two files are of different models, or the folder is damaged",
        )
    model.load_state_dict(tensors)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{path} does not exist", hint="name a model folder, for example runs/quickstart/base"
        ) from error
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(data, dict):
        raise ArtifactError(f"{path}: expected a mapping, got {type(data).__name__}", hint="is this a model's folder?")
    return data


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ArtifactError(
            f"{folder} has no .safetensors file",
            hint="weights are read from safetensors only, never from pickles (.bin, .pt)",
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise ArtifactError(
                f"{file} cannot be read: {error}", hint="the file is damaged; make or copy it again"
            ) from error
    return {name: tensor.float() for name, tensor in tensors.items()}
