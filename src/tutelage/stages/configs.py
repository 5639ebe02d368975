"""The typed configuration of every stage. Imports nothing heavy: `tutelage --help` and `--dry-run` need no torch."""

from __future__ import annotations
