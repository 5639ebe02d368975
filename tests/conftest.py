"""For all tests: one processor thread, and databases of their own.

Tiny tensors gain nothing from more threads, and waiting ones slow a busy machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import hypothesis
import pytest

from debian import NotAvailableError
from postgres import cluster

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported

# The same examples every time, however slow the machine: noise must not decide whether the tests pass.
# `pytest --hypothesis-profile=search` looks for new ones.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None, max_examples=500)
hypothesis.settings.load_profile("steady")

# A job in the background of a script ignores Ctrl-C, and so would the programs that it starts, which tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL cluster that lives as long as the tests; skipped where there can be none."""
    try:
        with cluster() as url:
            yield url
    except NotAvailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty database: in a file, and in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    import psycopg

    url = request.getfixturevalue("postgres")
    name = f"test{next(_numbers)}"
    with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url}/{name}"
