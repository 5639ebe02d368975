"""A Qwen3 model of ours as a GGUF file in float32, for llama.cpp's server. Arguments: the model's folder, the file.

Everything is expressed but the words that our tokenizer cuts before combining marks: llama.cpp's nearest kind,
`qwen2`, cuts them as other characters. For texts without such marks tokens are the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

from tutelage.data.tokenizer import TextTokenizer
from tutelage.exchange.gguf_model import BLOCK, WHOLE
from tutelage.model.config import ModelConfig
from tutelage.model.hub import load_causal_lm


def their_name(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` → `blk.3.ffn_up.weight`."""
    stem, _, kind = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, number, part = stem.split(".", 3)
        return f"blk.{number}.{({ours: theirs for theirs, ours in BLOCK.items()})[part]}.{kind}"
    return f"{({ours: theirs for theirs, ours in WHOLE.items()})[stem]}.{kind}"


def add_shape(out: GGUFWriter, config: ModelConfig) -> None:
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(config.head_dim)
    out.add_value_length(config.head_dim)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_theta)


def add_tokenizer(out: GGUFWriter, folder: Path, size: int) -> None:
    tokenizer = TextTokenizer.load(folder)
    stated = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = sorted(stated["vocab"], key=stated["vocab"].__getitem__)
    tokens += [f"<unused {number}>" for number in range(len(tokens), size)]
    control = tokenizer.special_ids | set(range(tokenizer.vocab_size, size))
    kinds = [TokenType.CONTROL if number in control else TokenType.NORMAL for number in range(size)]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_token_merges([" ".join(pair) for pair in stated["merges"]])
    out.add_bos_token_id(tokenizer.bos_id)
    out.add_eos_token_id(tokenizer.eos_id)
    out.add_eot_token_id(tokenizer.end_of_turn_id)
    out.add_pad_token_id(tokenizer.pad_id)
    out.add_add_bos_token(True)


def write_gguf(folder: Path, path: Path) -> None:
    model = load_causal_lm(folder)
    if model.config.model_type != "qwen3":
        raise SystemExit(f"{folder} is of the kind {model.config.model_type}; only qwen3 is written here")
    out = GGUFWriter(path, "qwen3")
    add_shape(out, model.config)
    add_tokenizer(out, folder, model.config.vocab_size)
    for name, tensor in model.state_dict().items():
        if not (name == "lm_head.weight" and model.config.tie_word_embeddings):
            out.add_tensor(their_name(name), tensor.float().numpy().astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    write_gguf(*map(Path, sys.argv[1:]))
