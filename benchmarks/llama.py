"""The 17M Llama of three rows: its shape, a tokenizer of words for it, prompts, and replies to train on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from tutelage.data.completions import pad_completions
from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.engine import Engine
from tutelage.generation.rollout import Rollouts, roll_out
from tutelage.generation.sampling import Sampling
from tutelage.model.transformer import CausalLM

SHAPE = {"vocab_size": 16_384, "hidden_size": 384, "intermediate_size": 1_024, "num_hidden_layers": 6,
         "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 64, "max_position_embeddings": 512,
         "rms_norm_eps": 1e-5, "tie_word_embeddings": True}  # fmt: skip
PAD, BOS, EOS, NUM_SPECIAL = 0, 1, 2, 5


@dataclass(frozen=True)
class Work:
    """What a step on replies consists of: the model's shape, prompts, replies to each, and tokens of both."""

    name: str = "17M Llama"
    shape: Mapping[str, Any] = field(default_factory=lambda: SHAPE)
    num_prompts: int = 8
    num_replies: int = 8
    prompt: int = 64
    new: int = 64

    @property
    def rollouts(self) -> int:
        return self.num_prompts * self.num_replies

    def __str__(self) -> str:
        return f"{self.name}, {self.num_prompts}×{self.num_replies}×{self.new}"


SMALL = {"vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 2}  # fmt: skip


def work_of(quick: bool) -> Work:
    """The row's work, or so little of the same kind that it only shows that everything runs."""
    return Work("quick, a model of no size", {**SHAPE, **SMALL}, 4, 4, 16, 16) if quick else Work()


def config(work: Work) -> LlamaConfig:
    return LlamaConfig(**work.shape, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)


def save_nets(work: Work, folder: Path) -> tuple[Path, Path]:
    """Random weights of a policy and of a reward model, for both sides to load."""
    policy, reward = folder / "policy", folder / "reward"
    LlamaForCausalLM(config(work)).save_pretrained(policy)
    scored = config(work)
    scored.num_labels = 1
    LlamaForSequenceClassification(scored).save_pretrained(reward)
    return policy, reward


def prompt_ids(work: Work) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    shape = work.num_prompts, work.prompt
    ids: list[list[int]] = torch.randint(NUM_SPECIAL, work.shape["vocab_size"], shape, generator=generator).tolist()
    return ids


def text_of(ids: Sequence[int]) -> str:
    return " ".join(f"w{number}" for number in ids)


def word_tokenizer(work: Work) -> TextTokenizer:
    """A word for each token, so that text is the same tokens on both sides."""
    special = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<unk>": 3, "<none>": 4}
    words = {text_of([number]): number for number in range(NUM_SPECIAL, work.shape["vocab_size"])}
    plain = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": number, "content": word, **plain} for word, number in special.items()],
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {**special, **words}, "unk_token": "<unk>"},
    }  # fmt: skip
    return TextTokenizer(
        json.dumps(content), {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    )


def peer_tokenizer(work: Work, folder: Path) -> PreTrainedTokenizerFast:
    word_tokenizer(work).save(folder)
    named = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), padding_side="left", **named)


def whole_replies(work: Work, policy: CausalLM) -> Rollouts:
    """Replies of the full length to each prompt, for both sides to learn from.

    Twice as many are drawn, and those with special tokens left out: a peer takes padding for a reply's end.
    """
    prompts = [ids for ids in prompt_ids(work) for _ in range(2 * work.num_replies)]
    engine = Engine(policy, [], PAD, len(prompts))
    drawn = roll_out(engine, prompts, Sampling(work.new, 1.0), range(len(prompts)))
    usable = [place for place, reply in enumerate(drawn.replies) if min(reply.ids) >= NUM_SPECIAL]
    of_prompts = [[place for place in usable if drawn.completions[place].ids[: work.prompt] == ids]
                  for ids in prompt_ids(work)]  # fmt: skip
    places = [place for found in of_prompts for place in found[: work.num_replies]]
    assert len(places) == work.rollouts, "enough replies have no special token"
    completions = [drawn.completions[place] for place in places]
    return Rollouts(completions, [drawn.replies[place] for place in places], pad_completions(completions, PAD))
