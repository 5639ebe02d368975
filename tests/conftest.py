"""For all tests: one processor thread. Tiny tensors gain nothing from more, and waiting threads slow a busy machine."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported
