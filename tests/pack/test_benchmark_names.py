"""Scripts that no test runs import names that are there: read in the sources, nothing is run."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for folder in ("benchmarks", "examples", "scripts") for path in (ROOT / folder).rglob("*.py"))
PACK = "mixgrpo_pack"


def lacking(source):
    """Names that the source imports of this package, and that are not in it: (line, module, name)."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
    asked = [(node.lineno, node.module.removeprefix(f"{PACK}."), alias.name) for node in found for alias in node.names]
    ours = [one for one in asked if one[1].split(".")[0] in ("mixgrpo_core", "nodes")]
    return [(line, module, name) for line, module, name in ours if not is_there(module, name)]


@cache
def is_there(module, name):
    path = ROOT.joinpath(*module.split("."))
    if (path / f"{name}.py").exists() or (path / name).is_dir():
        return True
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.exists() and name in defined(file)


@cache
def defined(file):
    """What a module defines or imports, for type checkers too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names.update(alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_names_that_scripts_import_are_there(path):
    assert lacking(path.read_text(encoding="utf-8")) == []


def test_a_name_that_is_gone_is_seen():
    source = "from mixgrpo_pack.mixgrpo_core.runs.pace import Pace\nfrom mixgrpo_core import train, trane\n"
    assert lacking(source) == [(1, "mixgrpo_core.runs.pace", "Pace"), (2, "mixgrpo_core", "trane")]
