from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from debian import NotAvailableError
from web.live import chromium
from web.lived_run import make_run


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """One browser for all tests of the pages; while it is open, this thread cannot run another event loop."""
    try:
        with chromium() as found:
            yield found
    except NotAvailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="package")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small real run; nobody may change it."""
    return make_run(tmp_path_factory.mktemp("lived"))
