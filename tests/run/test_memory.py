"""The peak of memory: it sees what is held, and forgets what was freed before."""

from __future__ import annotations

import sys

import pytest

from tutelage.run.memory import watch_memory

SIZE = 200_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak and lets it be reset")
def test_the_peak_holds_what_was_freed_until_it_is_watched_anew() -> None:
    peak = watch_memory()
    before = peak()
    assert before is not None
    held = bytearray(SIZE)
    del held
    after = peak()
    assert after is not None
    assert after >= before + 0.9 * SIZE
    anew = watch_memory()()
    assert anew is not None
    assert anew <= after - 0.8 * SIZE
