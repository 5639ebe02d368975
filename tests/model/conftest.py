from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tutelage.model import kernels


@pytest.fixture
def kernels_of_every_size(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels take tensors however small, with threads where a test asks for them."""
    monkeypatch.setattr(kernels, "SMALLEST", 1)
    monkeypatch.setattr(kernels, "SERIAL_ELEMENTS", 1)
    monkeypatch.delenv("TUTELAGE_KERNELS", raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
