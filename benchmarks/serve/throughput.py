"""Tokens a second over HTTP at 1, 8 and 64 clients: `tutelage serve`, and transformers `generate` behind the same path.

The 17M Llama, prompts of 64 tokens and 64 new ones, greedy. Each client asks again as soon as it is answered.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import transformers
from llama import save_nets, word_tokenizer, work_of
from load import Cost, Place, asked, quantiles, started
from sides import arguments, report
from small import SERVE, prompts_of

CLIENTS = {1: 8, 8: 32, 64: 128}  # clients at once → requests in all
PEERS = {
    "one after the other": ("float32", 1),
    "those that wait together": ("float32", 64),
    "those that wait together, bfloat16": ("bfloat16", 64),
}


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


if __name__ == "__main__":
    main()
