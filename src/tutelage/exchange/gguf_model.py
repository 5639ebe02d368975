"""A decoder from a GGUF file: configuration from its metadata, weights under the names of Hugging Face."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tutelage.errors import ArtifactError
from tutelage.exchange.gguf_file import GGUFFile
from tutelage.model.config import ARCHITECTURES, ModelConfig, model_config_from_dict
from tutelage.model.transformer import CausalLM

WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def read_model(file: GGUFFile) -> CausalLM:
    """The model with float32 weights. Raises ArtifactError for an architecture or a tensor that is not ours."""
    config = read_config(file)
    tensors: dict[str, Tensor] = {}
    for name in file.names():
        ours = _our_name(name)
        if ours is None:
            raise ArtifactError(
                f"{file.path}: the tensor {name} is not of this architecture",
                hint="models of the Llama, Qwen2 and Qwen3 families can be read, without rope factors of their own",
            )
        tensors[ours] = _plain_order(ours, file.tensor(name), config)
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model = CausalLM(config)
    wanted = model.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [
        f"{name} has shape {tuple(tensor.shape)}, not {tuple(wanted[name].shape) if name in wanted else 'any'}"
        for name, tensor in tensors.items()
        if name not in wanted or tensor.shape != wanted[name].shape
    ]
    if problems:
        raise ArtifactError(f"{file.path}: " + "; ".join(problems[:4]), hint="the metadata is not of these tensors")
    model.load_state_dict(tensors)
    return model


def read_config(file: GGUFFile) -> ModelConfig:
    """The shape, from the metadata's keys of the architecture."""
    kind = str(file.get("general.architecture"))
    if kind not in ARCHITECTURES:
        raise ArtifactError(
            f"{file.path}: the architecture {kind!r} is not supported", hint=f"supported: {', '.join(ARCHITECTURES)}"
        )
    heads, width = file.get(f"{kind}.attention.head_count"), file.get(f"{kind}.embedding_length")
    scaling = file.metadata.get(f"{kind}.rope.scaling.type", "none")
    data: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": len(file.get("tokenizer.ggml.tokens")),
        "hidden_size": width,
        "intermediate_size": file.get(f"{kind}.feed_forward_length"),
        "num_hidden_layers": file.get(f"{kind}.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.metadata.get(f"{kind}.attention.head_count_kv", heads),
        "head_dim": file.metadata.get(f"{kind}.attention.key_length", width // heads),
        "max_position_embeddings": file.get(f"{kind}.context_length"),
        "rms_norm_eps": file.get(f"{kind}.attention.layer_norm_rms_epsilon"),
        "rope_theta": file.metadata.get(f"{kind}.rope.freq_base", 10_000.0),
        "rope_scaling": None if scaling == "none" else {"rope_type": scaling},
        "tie_word_embeddings": "output.weight" not in file,
        "attention_bias": kind == "llama" and "blk.0.attn_q.bias" in file,
    }
    return model_config_from_dict(data, str(file.path))


def _our_name(name: str) -> str | None:
    stem, _, kind = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    parts = stem.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in BLOCK:
        return f"model.layers.{parts[1]}.{BLOCK[parts[2]]}.{kind}"
    return None


def _plain_order(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Llama files keep q and k for rotations of neighbours; ours turns a head's first half against its second."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    projection = next((part for part in heads if f".{part}." in name), None)
    if config.model_type != "llama" or projection is None:
        return tensor
    in_pairs = tensor.reshape(heads[projection], config.head_dim // 2, 2, -1)
    return torch.swapaxes(in_pairs, 1, 2).reshape(tensor.shape).contiguous()
