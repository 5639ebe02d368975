"""A minute of 64 clients that stream from a small model: errors, fairness, memory, time to the first token.

The model has the quickstart's shape and random weights. A client that is answered asks again at once.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from llama import save_nets, word_tokenizer
from load import Crowd, Place, crowded, memory_bytes, quantiles, started
from sides import arguments, report
from small import SERVE, small_work

CLIENTS, SECONDS, QUICK_SECONDS = 64, 60.0, 5.0


def for_seconds(place: Place, seconds: float, new: int) -> Crowd:
    end = time.monotonic() + seconds
    return crowded(place, list(range(5, 37)), new, CLIENTS, lambda crowd: time.monotonic() > end)


def main() -> None:
    chosen = arguments(__doc__)
    work = small_work()
    with TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, _ = save_nets(work, Path(temporary))
        word_tokenizer(work).save(folder)
        command = ["-c", SERVE, "serve", str(folder), "--store", "none", "--slots", str(CLIENTS), "--port"]
        place = stack.enter_context(started(command, folder.name, {"OMP_NUM_THREADS": str(chosen.threads)}))
        for_seconds(place, QUICK_SECONDS, work.new)
        before = memory_bytes(place.pid)
        crowd = for_seconds(place, QUICK_SECONDS if chosen.quick else SECONDS, work.new)
        grown = memory_bytes(place.pid) - before
        print(f"  {sum(crowd.replies)} replies; {grown / 2**20:.1f} MiB more memory than before", flush=True)
        print(f"  seconds to the first token: {quantiles(crowd.first_tokens)}", flush=True)
        median = statistics.median(crowd.tokens)
        report(f"64 clients streaming, {work.name}", "the median client", "the slowest client", min(crowd.tokens),
               median, "tokens", 0.5, first_token_seconds=quantiles(crowd.first_tokens), grown_bytes=grown)  # fmt: skip


if __name__ == "__main__":
    main()
