"""What HTTP costs: tokens a second of `tutelage serve` at 64 clients beside its own engine over the same requests.

A model of the quickstart's shape and the 17M Llama, random weights; answers whole, and streamed. With one thread the
processor time of the server's process counts, and that of the engine's.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from llama import Work, save_nets, word_tokenizer, work_of
from load import asked, started
from sides import arguments, report, seconds
from small import SERVE, prompts_of, small_work

from tutelage.generation.engine import Engine, Request
from tutelage.generation.sampling import Sampling
from tutelage.model.hub import load_causal_lm

CLIENTS, REQUESTS, QUICK_REQUESTS = 64, 192, 8


def rates(folder: Path, work: Work, rounds: int, threads: int, count: int) -> dict[str, float]:
    """Tokens a second: the medians of the rounds, sides in turn, after one to warm up."""
    tokenizer, found = word_tokenizer(work), dict[str, list[float]]()
    tokenizer.save(folder)
    engine = Engine(load_causal_lm(folder).eval(), tokenizer.stop_ids, tokenizer.pad_id, CLIENTS)
    command = ["-c", SERVE, "serve", str(folder), "--store", "none", "--slots", str(CLIENTS), "--port"]
    with started(command, folder.name, {"OMP_NUM_THREADS": str(threads)}) as place:
        for turn in range(rounds + 1):
            prompts = prompts_of(work, count, 1 + turn)
            requests = [Request(ids, Sampling(work.new, 0.0)) for ids in prompts]
            replies = []
            spent = seconds(lambda requests=requests, replies=replies: replies.extend(engine.generate(requests)))
            row = {"engine": sum(len(reply.ids) for reply in replies) / spent}
            for name, streams in (("whole", False), ("streamed", True)):
                cost = asked(place, prompts, work.new, CLIENTS, streams)
                row[name] = cost.tokens / cost.seconds(threads)
            for name, rate in row.items():
                found.setdefault(name, []).append(rate)
    return {name: statistics.median(some[1:]) for name, some in found.items()}


def main() -> None:
    chosen = arguments(__doc__)
    for work in (small_work(), work_of(chosen.quick)):
        with TemporaryDirectory() as temporary:
            folder, _ = save_nets(work, Path(temporary))
            count = QUICK_REQUESTS if chosen.quick else REQUESTS
            found = rates(folder, work, chosen.rounds, chosen.threads, count)
        for name in ("whole", "streamed"):
            report(f"serving, {work.name}, 64 clients, {name}", "the engine without HTTP", "64 slots", found[name],
                   found["engine"], "tokens/s", 0.8)  # fmt: skip


if __name__ == "__main__":
    main()
