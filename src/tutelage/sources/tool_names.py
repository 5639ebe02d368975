"""Tools by the names that recipes and commands give them: built in, or functions of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tutelage.errors import ArtifactError, RecipeError
from tutelage.sources.store import DOCUMENTS_FILE, read_documents
from tutelage.tools import toolbox
from tutelage.tools.functions import import_tool
from tutelage.tools.search import SearchIndex
from tutelage.tools.toolbox import Tool, Toolbox


def open_tools(names: Sequence[str], library: Path | None = None) -> Toolbox:
    """The tools of these names; `search` looks into the documents of the folder `library`.

    RecipeError for an unknown name, and for `search` without a library.
    """
    return Toolbox(_open(name, library) for name in names)


def find_documents(name: str) -> Path:
    """The folder of a corpus or of documents, by its path or as RUN/STAGE."""
    for folder in (Path(name), Path("runs") / name):
        if (folder / DOCUMENTS_FILE).is_file():
            return folder
    raise ArtifactError(f"there is no corpus {name!r}", hint="name the folder of a `curate` stage, or RUN/STAGE")


def _open(name: str, library: Path | None) -> Tool:
    if name == "calculator":
        return toolbox.calculator()
    if name == "python":
        return toolbox.python()
    if name != "search":
        return import_tool(name)
    if library is None:
        raise RecipeError("the tool `search` has nothing to search", hint="name a corpus as its `library`")
    columns = read_documents(library).select(["id", "title", "text"])
    return toolbox.search(SearchIndex(row for batch in columns.to_batches() for row in batch.to_pylist()))
