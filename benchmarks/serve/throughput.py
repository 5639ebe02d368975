"""Tokens a second over HTTP at 1, 8 and 64 clients: `tutelage serve`, and transformers `generate` behind the same path.

The 17M Llama, prompts of 64 tokens and 64 new ones, greedy. Each client asks again as soon as it is answered. A last
row compares the server with its own engine without HTTP.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from llama import NUM_SPECIAL, Work, save_nets, word_tokenizer, work_of
from load import Cost, Place, asked, quantiles, started
from sides import arguments, report, seconds

from tutelage.generation.engine import Engine, Request
from tutelage.generation.sampling import Sampling
from tutelage.model.hub import load_causal_lm

CLIENTS = {1: 8, 8: 32, 64: 128}  # clients at once → requests in all
SERVE = "import sys; from tutelage.cli import main; sys.argv[0] = 'tutelage'; main()"
PEERS = {
    "one after the other": ("float32", 1),
    "those that wait together": ("float32", 64),
    "those that wait together, bfloat16": ("bfloat16", 64),
}


def prompts_of(work: Work, count: int, first: int) -> list[list[int]]:
    """No two alike, so that nobody gains by a prompt seen before."""
    generator = torch.Generator().manual_seed(first)
    shape = count, work.prompt
    ids: list[list[int]] = torch.randint(NUM_SPECIAL, work.shape["vocab_size"], shape, generator=generator).tolist()
    return ids


def rate(costs: Sequence[Cost], threads: int) -> float:
    """Tokens a second: the median of the rounds."""
    return statistics.median(cost.tokens / cost.seconds(threads) for cost in costs)


def best_peer(places: dict[str, Place], prompts: list[list[int]], new: int, clients: int, threads: int) -> str:
    """The setting in which the peer is quickest at so many clients."""
    found = {}
    for name, place in places.items():
        asked(place, prompts[:clients], new, clients)
        found[name] = rate([asked(place, prompts, new, clients)], threads)
        print(f"  {clients} clients, {name}: {found[name]:,.0f} tokens/s", flush=True)
    return max(found, key=found.__getitem__)


def same_share(ours: Cost, theirs: Cost) -> float:
    """Of the replies, how many are the same text: rounding may turn a token, and all after it."""
    pairs = zip(ours.texts, theirs.texts, strict=True)
    return sum(a.strip() == b.strip() for a, b in pairs) / len(ours.texts)


def engine_rate(folder: Path, work: Work, count: int, rounds: int) -> float:
    """Tokens a second of the engine alone, over the same requests with as many slots as the server has."""
    model = load_causal_lm(folder).eval()
    tokenizer = word_tokenizer(work)
    engine = Engine(model, tokenizer.stop_ids, tokenizer.pad_id, 64)
    rates = []
    for turn in range(rounds + 1):
        requests = [Request(ids, Sampling(work.new, 0.0)) for ids in prompts_of(work, count, 1000 + turn)]
        replies = []
        spent = seconds(lambda requests=requests, replies=replies: replies.extend(engine.generate(requests)))
        rates.append(sum(len(reply.ids) for reply in replies) / spent)
    return statistics.median(rates[1:])


def main() -> None:
    chosen = arguments(__doc__)
    work = work_of(chosen.quick)
    environment = {"OMP_NUM_THREADS": str(chosen.threads)}
    with TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, _ = save_nets(work, Path(temporary))
        word_tokenizer(work).save(folder)
        command = ["-c", SERVE, "serve", str(folder), "--store", "none", "--slots", "64", "--port"]
        ours = stack.enter_context(started(command, folder.name, environment))
        script = str(Path(__file__).with_name("peer.py"))
        peers = {
            name: stack.enter_context(started([script, str(folder), dtype, str(batch)], "peer", environment))
            for name, (dtype, batch) in PEERS.items()
        }
        served = 0.0
        for clients, count in CLIENTS.items():
            count = max(2, count // 8) if chosen.quick else count
            best = best_peer(peers, prompts_of(work, count, 1), work.new, clients, chosen.threads)
            costs: tuple[list[Cost], list[Cost]] = ([], [])
            for turn in range(chosen.rounds + 1):  # the first warms up
                prompts = prompts_of(work, count, 2 + turn)
                for side, place in zip(costs, (ours, peers[best]), strict=True):
                    side.append(asked(place, prompts, work.new, clients))
            mine, theirs = (rate(side[1:], chosen.threads) for side in costs)
            first = asked(ours, prompts_of(work, count, 999), work.new, clients, streams=True).first_tokens
            report(f"serving, {work.name}, {work.prompt}+{work.new} tokens, {clients} clients",
                   f"transformers {transformers.__version__} generate over HTTP", best, mine, theirs, "tokens/s",
                   2.0 if clients == 8 else 0.0, same_replies=round(same_share(costs[0][-1], costs[1][-1]), 3),
                   requests_per_second=round(mine / work.new, 2), first_token_seconds=quantiles(first))  # fmt: skip
            served = mine
        alone = engine_rate(folder, work, max(2, CLIENTS[64] // (8 if chosen.quick else 1)), chosen.rounds)
        report(
            f"serving, {work.name}, 64 clients", "the engine without HTTP", "64 slots", served, alone, "tokens/s", 0.8
        )


if __name__ == "__main__":
    main()
