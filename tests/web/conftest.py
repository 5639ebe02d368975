from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from debian import NotAvailableError
from web.live import chromium


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """One browser for all tests of the pages; while it is open, this thread cannot run another event loop."""
    try:
        with chromium() as found:
            yield found
    except NotAvailableError as reason:
        pytest.skip(str(reason))
