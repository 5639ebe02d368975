"""The tokenizer of a GGUF file as a Hugging Face tokenizer.json: byte-level BPE, words cut as in its family."""

from __future__ import annotations

import json
from typing import Any

from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import ArtifactError
from tutelage.exchange.gguf_file import GGUFFile

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's kinds of tokens that are never cut


def _split(pattern: str) -> list[dict[str, Any]]:
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [cut, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]


_GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# how words are cut, by `tokenizer.ggml.pre`, as in the tokenizer.json of these families
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_GPT2],
    "smollm": [{"type": "Digits", "individual_digits": True}, _GPT2],
    "llama-bpe": _split(_WORDS % "{1,3}"),
    "qwen2": _split(_WORDS % ""),
}


def read_tokenizer(file: GGUFFile) -> TextTokenizer:
    """Vocabulary, merges, special tokens and chat template. Raises ArtifactError for a kind that is not known."""
    kind, pre = file.get("tokenizer.ggml.model"), file.metadata.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or pre not in PRE_TOKENIZERS:
        raise ArtifactError(
            f"{file.path}: the tokenizer {kind!r} with pre-tokenizer {pre!r} is not supported",
            hint=f"byte-level BPE of these kinds can be read: {', '.join(PRE_TOKENIZERS)}",
        )
    return TextTokenizer(json.dumps(_tokenizer_json(file, pre), ensure_ascii=False), _config(file))


def _tokenizer_json(file: GGUFFile, pre: str) -> dict[str, Any]:
    tokens, kinds = file.get("tokenizer.ggml.tokens"), file.get("tokenizer.ggml.token_type")
    added = [
        {"id": number, "content": token, "special": kind == _CONTROL, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS[pre]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in file.get("tokenizer.ggml.merges")],
        },
    }


def _config(file: GGUFFile) -> dict[str, Any]:
    tokens = file.get("tokenizer.ggml.tokens")
    names = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for theirs, ours in names.items():
        number = file.metadata.get(f"tokenizer.ggml.{theirs}_token_id")
        if number is not None:
            config[ours] = tokens[number]
    if template := file.metadata.get("tokenizer.chat_template"):
        config["chat_template"] = template
    return config
