"""Tokens a second of our engine and of transformers `generate`: the same 17M Llama, batch 32, 64 + 128 tokens.

Each side computes in the precision that it is quickest in here: ours in what `precision: auto` chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import transformers
from llama import SHAPE
from sides import a_few, arguments, best_setting, in_turn, quickest_dtype, report
from transformers import LlamaConfig, LlamaForCausalLM

from tutelage.generation.engine import Engine, Reply, Request
from tutelage.generation.sampling import Sampling
from tutelage.model.config import model_config_from_dict
from tutelage.model.transformer import CausalLM

BATCH, PROMPT, NEW = 32, 64, 128


def peer_settings(net: LlamaForCausalLM, ids: torch.Tensor, **sampling: Any) -> dict[str, Callable[[], Any]]:
    plain, compiled = net.forward, torch.compile(net.forward, dynamic=False)

    def generate(forward: Callable[..., Any], **cache: str) -> torch.Tensor:
        net.forward = forward
        with torch.inference_mode():
            return net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW,
                                **sampling, **cache)  # fmt: skip

    name = str(net.dtype).removeprefix("torch.")
    return {
        f"{name}, dynamic cache": lambda: generate(plain),
        f"{name}, static cache": lambda: generate(plain, cache_implementation="static"),
        f"{name}, static cache, torch.compile": lambda: generate(compiled, cache_implementation="static"),
    }


@torch.no_grad()
def largest_gap(net: LlamaForCausalLM, prompts: list[list[int]], replies: list[Reply]) -> float:
    """Between the log-probs of our decoding and those of the peer's forward in float32 over the same tokens."""
    net.forward = type(net).forward.__get__(net)
    ids = torch.tensor([[*prompt, *reply.ids] for prompt, reply in zip(prompts, replies, strict=True)])
    logprobs = net(ids).logits[:, PROMPT - 1 : -1].log_softmax(-1).gather(2, ids[:, PROMPT:, None]).squeeze(2)
    return float((logprobs - torch.tensor([reply.logprobs for reply in replies])).abs().max())


def main() -> None:
    chosen = arguments(__doc__)
    net = LlamaForCausalLM(LlamaConfig(**SHAPE, eos_token_id=None, bos_token_id=1, pad_token_id=0)).eval()
    ours = CausalLM(model_config_from_dict({"model_type": "llama", **SHAPE})).eval()
    ours.load_state_dict(net.state_dict())
    ours.compute_dtype = quickest_dtype()
    nets = [net] if ours.compute_dtype == net.dtype else [net, deepcopy(net).to(ours.compute_dtype)]
    ids = torch.randint(5, SHAPE["vocab_size"], (BATCH, PROMPT))
    prompts = ids.tolist()
    ways = {"greedy": (0.0, {"do_sample": False}), "temperature 1": (1.0, {"do_sample": True, "top_k": 0})}
    for name, (temperature, sampling) in ways.items():
        requests = [Request(prompt, Sampling(NEW, temperature), n) for n, prompt in enumerate(prompts)]

        def run(requests: list[Request] = requests) -> list[Reply]:
            return Engine(ours, [], 0, BATCH).generate(requests)

        settings = {setting: go for one in nets for setting, go in peer_settings(one, ids, **sampling).items()}
        settings = a_few(dict(reversed(settings.items())), chosen.quick)
        best = best_setting(settings)
        mine, theirs = in_turn(run, settings[best], chosen.rounds)
        tokens = BATCH * NEW
        report(f"generation, 17M Llama, batch {BATCH}, {PROMPT}+{NEW} tokens, {name}",
               f"transformers {transformers.__version__} generate", best, tokens / mine, tokens / theirs,
               "tokens/s", 3.0, precision=str(ours.compute_dtype),
               logprob_gap=largest_gap(net, prompts, run()))  # fmt: skip


if __name__ == "__main__":
    main()
