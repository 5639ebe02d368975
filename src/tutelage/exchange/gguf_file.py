"""A GGUF file (llama.cpp's format): metadata and de-quantised tensors, by the optional package `gguf`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import ArtifactError, ResourceError


@dataclass(frozen=True)
class GGUFFile:
    """Metadata by key, and the names of what the file's tensors are."""

    path: Path
    metadata: Mapping[str, Any]
    _tensors: Mapping[str, Any]

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> Iterator[str]:
        """Names of all tensors, in the order of the file."""
        yield from self._tensors

    def get(self, key: str) -> Any:
        """A value of the metadata. Raises ArtifactError naming the missing key."""
        try:
            return self.metadata[key]
        except KeyError:
            raise ArtifactError(f"{self.path}: the metadata has no {key}", hint="is this a language model?") from None

    def tensor(self, name: str) -> Tensor:
        """A tensor as float32, axes in the order of torch; ArtifactError for a kind of quantisation that is unknown."""
        from gguf.quants import dequantize

        found = self._tensors[name]
        try:
            return torch.from_numpy(dequantize(found.data, found.tensor_type).copy()).float()
        except NotImplementedError as error:
            raise ArtifactError(
                f"{self.path}: {name} is quantised as {found.tensor_type.name}, which `gguf` cannot undo",
                hint="take a file of another quantisation: Q8_0, Q4_1, F16",
            ) from error


def open_gguf(path: Path) -> GGUFFile:
    """Open a file. Raises ResourceError without the package `gguf`, ArtifactError for anything that is no GGUF file."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ResourceError("GGUF files need the package `gguf`", hint="pip install 'tutelage[smollm2]'") from error
    try:
        reader = GGUFReader(path)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read as GGUF: {error}", hint="is the file whole?") from error
    return GGUFFile(path, metadata, {tensor.name: tensor for tensor in reader.tensors})
