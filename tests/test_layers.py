"""The order of layers, and the shape of files, functions and stages, as docs/architecture.md states them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from tutelage.run.artifacts import ArtifactType
from tutelage.stages import STAGES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tutelage"
FILES = sorted(SOURCE.rglob("*.py"))
MAX_LINES, MAX_FUNCTION_LINES = 400, 60

# Package → what it may import beside itself. From the lowest up: an entry names only what stands above it in this list.
LAYERS: Mapping[str, set[str]] = {
    "errors": set(),
    "store": {"errors"},
    "objectives": set(),
    "feedback": set(),
    "tools": {"errors"},
    "model": {"errors"},
    "run": {"errors"},
    "data": {"errors", "tools", "model"},
    "sources": {"errors", "store", "tools", "run"},
    "memory": {"errors", "sources"},
    "personas": {"errors", "run", "sources", "memory"},
    "parallel": {"model"},
    "training": {"errors", "objectives", "parallel", "run"},
    "generation": {"errors", "tools", "model", "data"},
    "exchange": {"errors", "model", "data"},
    "curation": {"errors", "sources"},
    "constitutions": {"errors", "run", "feedback", "curation"},
    "labels": {"errors", "run", "feedback", "sources", "store"},
    "privacy": {"sources", "curation"},
    "safety": {"errors", "run", "sources", "feedback"},
    "evaluation": {"errors", "tools", "model", "run", "data", "generation", "feedback", "curation", "memory",
                   "privacy"},
    "stages": {"errors", "store", "objectives", "feedback", "tools", "model", "run", "data", "sources", "parallel",
               "training", "generation", "curation", "constitutions", "memory", "personas", "privacy", "safety",
               "evaluation", "labels"},
    "talk": {"errors", "tools", "model", "run", "data", "sources", "generation", "memory", "privacy"},
    "serve": {"errors", "store", "tools", "run", "data", "generation", "talk"},
    "web": {"errors", "store", "run", "data", "sources", "curation", "labels", "evaluation", "talk", "serve"},
    "verification": {"errors", "model", "run", "data", "sources", "training"},
    "commands": {"errors", "run", "data", "sources", "generation", "exchange", "stages", "talk",
                 "store", "labels", "serve", "web", "verification"},
    "cli": {"errors", "run", "commands"},
}  # fmt: skip
# What of `run` libraries may know: the contracts, not how recipes are read and executed.
CONTRACTS = {"artifacts", "config", "stage", "journal", "manifest", "progress"}
LIBRARIES = ("sources", "training", "curation", "evaluation", "stages")
READS_YAML = {  # as strictly as a recipe is read
    "constitutions": {"config", "strict_yaml", "words", "yaml_text"},
    "personas": {"config", "strict_yaml"},
    "safety": {"config", "strict_yaml"},
    "labels": {"config", "words"},
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Modules of our own that a file imports, without the leading `tutelage.`, type-checking imports included."""
    for node in ast.walk(tree_of(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.removeprefix("tutelage.") for name in names if name.startswith("tutelage."))


def test_arrows_point_down_only() -> None:
    wrong = []
    for path in FILES:
        own = module_name(path).split(".")[0]
        for name in imports(path):
            other = name.split(".")[0]
            if own and other in LAYERS and other != own and other not in LAYERS[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_list_itself_has_no_upward_arrow_and_no_package_is_missing() -> None:
    order = list(LAYERS)
    for package, below in LAYERS.items():
        assert all(order.index(other) < order.index(package) for other in below), package
    found = {module_name(path).split(".")[0] for path in FILES} - {""}
    assert found == set(LAYERS)


def test_libraries_know_the_contracts_of_run_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        if (package := module_name(path).split(".")[0]) in {*LIBRARIES, *READS_YAML}
        for name in imports(path)
        if name.startswith("run.") and name.split(".")[1] not in READS_YAML.get(package, CONTRACTS)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_parallel_touches_torch_distributed() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if path.parent.name != "parallel":
            assert "torch.distributed" not in text.replace("`torch.distributed`", ""), path


def test_the_document_names_every_layer() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("## Layers", 1)[1].split("\n## ", 1)[0]
    missing = [package for package in LAYERS if package not in section]
    assert not missing, f"docs/architecture.md, Layers: {missing}"


def test_files_and_functions_are_short() -> None:
    wrong = []
    for path in FILES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            wrong.append(f"{path.relative_to(ROOT)} has {lines} lines")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_its_parts(name: str) -> None:
    spec = STAGES[name]
    module = import_module(f"tutelage.stages.{name}")
    assert list(inspect.signature(module.run).parameters) == ["config", "inputs", "run"]
    assert module.__doc__
    assert module.run.__doc__
    assert spec.config.__doc__
    assert spec.help.endswith(".")
    assert spec.config.model_fields["stage"].default == name
    assert all(isinstance(kind, ArtifactType) for kind in spec.outputs.values())
    assert spec.outputs


def test_every_file_of_stages_is_a_stage_or_known_as_none() -> None:
    names = {path.stem for path in (SOURCE / "stages").glob("*.py")}
    assert names - {"__init__", "configs", "models"} == set(STAGES)


@pytest.mark.parametrize("module", ["tutelage.stages", "tutelage.cli", "tutelage.run.execute"])
def test_configurations_and_help_load_nothing_heavy(module: str) -> None:
    heavy = ["torch", "numpy", "pyarrow", "tokenizers", "scipy"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
