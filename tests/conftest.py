"""For all tests: one processor thread. Tiny tensors gain nothing from more, and waiting threads slow a busy machine."""

from __future__ import annotations

import os
import signal

import hypothesis

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported

# The same examples every time, however slow the machine: noise must not decide whether the tests pass.
# `pytest --hypothesis-profile=search` looks for new ones.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None, max_examples=500)
hypothesis.settings.load_profile("steady")

# A job in the background of a script ignores Ctrl-C, and so would the programs that it starts, which tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
