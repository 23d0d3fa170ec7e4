"""The table of what is touched of ComfyUI is whole, and true of the versions that are tested."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "nodes" / "host"
ROWS = [
    [cell.strip() for cell in line.strip("| \n").split(" | ")]
    for line in (HOST / "touched.md").read_text("utf-8").splitlines()
    if line.startswith(("| comfy", "| folder_paths", "| node_helpers"))
]
VERSIONS = ("0.24.1", "0.30.0")


def names(cell):
    """The words of a row that are looked up: those before the first that is no name."""
    module, _, rest = cell.partition(": ")
    words = [word.strip() for word in rest.split(",")]
    return module, [word for word in words if re.fullmatch(r"\w+", word)]


def source(folder, module):
    """The text of a module of ComfyUI, with what stands beside it where it is a package."""
    place = folder / module.replace(".", "/")
    files = [place.with_suffix(".py")] if place.with_suffix(".py").exists() else sorted(place.glob("*.py"))
    return "\n".join(file.read_text("utf-8") for file in files)


def missing(folder):
    found = {(cell, word) for cell, *_ in ROWS for module in [names(cell)] for word in module[1]}
    return sorted(word for cell, word in found if not re.search(rf"\b{word}\b", source(folder, names(cell)[0])))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_in_both_versions(version, request):
    folder = request.config.getoption("--comfyui").parent / f"ComfyUI-{version}"
    if not folder.exists():
        pytest.skip(f"no ComfyUI {version} beside the other one")
    assert len(ROWS) > 20 and missing(folder) == []


def test_a_name_that_is_gone_is_seen(monkeypatch, request):
    monkeypatch.setattr(f"{__name__}.ROWS", [["comfy.samplers: CFGGuider, NoSuchGuider", "field", "0.24.1", "x"]])
    assert missing(request.config.getoption("--comfyui")) == ["NoSuchGuider"]


def test_every_module_that_is_imported_has_a_row():
    told = {names(row[0])[0] for row in ROWS}
    found = set()
    for file in HOST.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module)
    ours = {name for name in found if name.split(".")[0] in ("comfy", "comfy_api", "folder_paths", "node_helpers")}
    assert sorted(ours - told) == []


def test_every_row_names_files_that_are_there():
    for cell, used, since, test in ROWS:
        assert used == "all" or all((HOST / f"{name.strip()}.py").exists() for name in used.split(",")), cell
        assert since in VERSIONS and (ROOT / "tests" / "host" / f"{test}.py").exists(), cell
