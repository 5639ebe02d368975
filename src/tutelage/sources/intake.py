"""What the reading stages share: which files are read, and the bar while they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from tutelage.errors import DataError
from tutelage.run.stage import StageRun
from tutelage.sources.files import Paths, SourceFile, expand, printable
from tutelage.sources.records import READERS

_EVERY = 256


def select_files(paths: Paths, needs: str, run: StageRun, whole_files: Collection[str] = ()) -> list[SourceFile]:
    """The files of a readable kind; the others are named in the notes; none readable is a DataError.

    `whole_files` are suffixes that are read beside those of rows.
    """
    files = expand(paths, needs)
    kinds = {*READERS, *whole_files}
    passed_over = [printable(str(file.path)) for file in files if file.suffix not in kinds]
    shown = ", ".join(passed_over[:5]) + (", …" if len(passed_over) > 5 else "")
    if len(passed_over) == len(files):
        raise DataError(
            f"{shown}: {len(files)} files, none of a kind that is read here",
            hint=f"give the files one of these suffixes (.gz and .zst may follow): {', '.join(sorted(kinds))}",
        )
    if passed_over:
        run.notes.append(f"{len(passed_over)} files of a kind that is not read were passed over: {shown}")
    return [file for file in files if file.suffix in kinds]


def tracked(rows: Iterable[dict[str, Any]], run: StageRun, label: str, total: int | None) -> Iterator[dict[str, Any]]:
    """The rows themselves, with a live count."""
    with run.progress(label, total) as bar:
        for count, row in enumerate(rows, start=1):
            yield row
            if count % _EVERY == 0:
                bar.advance(_EVERY)
