"""The drawing of the layers is a test: imports go down, never in circles, and heavy libraries stay at the top."""

import ast
import fnmatch
import subprocess
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "mixgrpo_core"

# Lowest first. A module may import from its own layer and from those before it. A new file is a name in one of the
# rows; `folder.*` stands for everything in a folder.
LAYERS = {
    "mathematics": "schedule window transition solver advantage combination loss",
    "text and files": "spelling files",
    "ports and records": "model reward plan trajectory objective",
    "parts": "rollout update evaluate checkpoint scoring phases ema lora_format prompts"
    " batches ranking reward_stats guards guards.* lora shapes shapes.* rewards rewards.* models models.*"
    " objectives objectives.*",
    "settings and runs": "config config_ranges presets cost iteration step_report preflight run_folder out_of_memory",
    "training": "train",
    "fronts": "__init__ cli cli.* demo figures grids report report_* html_report",
}
PLAIN_LAYERS = ("mathematics", "text and files", "ports and records")
HOSTS = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server", "nodes", "execution"}
HEAVY = ("diffusers", "peft", "transformers", "accelerate", "matplotlib", "tyro", "rich", "tensorboard")


def name_of(path):
    parts = path.relative_to(CORE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(CORE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def layer_of(module):
    names = list(LAYERS)
    return [names.index(n) for n in names if any(fnmatch.fnmatchcase(module, pattern) for pattern in LAYERS[n].split())]


def imports(module):
    """Modules of the core that ``module`` imports anywhere in it, and other top-level packages."""
    inside, outside = set(), set()
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    package = [] if module == "__init__" else package
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            outside.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - (node.level - 1)] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                inside.add(whole if whole in MODULES else ".".join(base) or "__init__")
    return inside, outside


GRAPH = {module: imports(module)[0] for module in MODULES}
PACKAGES = {module: imports(module)[1] for module in MODULES}


def test_the_parser_sees_the_imports():
    """A parser that saw nothing would pass everything below."""
    assert {"schedule", "window", "model"} <= GRAPH["plan"]
    assert {"loss", "objective", "trajectory"} <= GRAPH["objectives.grpo"]
    assert "objectives.grpo" in GRAPH["objectives"]
    assert {"shapes.captions", "reward"} <= GRAPH["rewards.shapes"]
    assert "diffusers" in PACKAGES["models.sd3"]
    assert len(MODULES) > 40


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_one_layer(module):
    assert len(layer_of(module)) == 1, f"{module} belongs in one row of LAYERS, found in {layer_of(module)}"


@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "fronts"])
def test_the_table_names_no_file_that_is_gone(layer):
    gone = [n for n in LAYERS[layer].split() if n != "rewards" and not fnmatch.filter(MODULES, n)]
    assert gone == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module):
    upward = sorted(other for other in GRAPH[module] if layer_of(other) > layer_of(module))
    assert upward == []


@pytest.mark.parametrize("module", MODULES)
def test_everything_imported_from_the_core_is_there(module):
    assert sorted(GRAPH[module] - MODULES.keys()) == []


def test_no_module_imports_itself_through_others():
    """Strip modules that import nothing that is left, until none is left; what remains is in a circle or above one."""
    # what a package's own __init__ gathers from its files is no circle: the files do not ask for the package
    left = {module: {other for other in others if other != module} for module, others in GRAPH.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


@pytest.mark.parametrize("module", MODULES)
def test_the_core_knows_no_host_and_not_its_own_name(module):
    assert PACKAGES[module] & HOSTS == set()
    assert "mixgrpo_core" not in PACKAGES[module], "the package lives in two homes: imports are relative"


@pytest.mark.parametrize("module", [m for m in MODULES if layer_of(m) < [len(PLAIN_LAYERS)]])
def test_the_lower_layers_need_torch_and_the_standard_library_only(module):
    allowed = {*sys.stdlib_module_names, "torch", "numpy"}
    if layer_of(module) == [0]:
        allowed.discard("numpy")
    assert PACKAGES[module] - allowed == set()


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith(("models", "rewards", "cli"))])
def test_heavy_libraries_are_imported_by_models_rewards_and_the_command_line_only(module):
    at_import = {
        alias.name.split(".")[0] if isinstance(node, ast.Import) else (node.module or "").split(".")[0]
        for node in TREES[module].body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    allowed = {"matplotlib"} if module in ("figures", "report") else set()
    assert at_import & set(HEAVY) <= allowed


def test_importing_the_core_loads_nothing_heavy():
    code = f"import sys, mixgrpo_core; print([name for name in {(*HEAVY, 'PIL')!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CORE.parent, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"


def test_importing_the_core_needs_no_other_name_for_it(tmp_path):
    """The pack is loaded by ComfyUI as a part of another package."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("")
    (tmp_path / "pack/mixgrpo_core").symlink_to(CORE)
    code = "import sys, pack.mixgrpo_core as core; core.mixgrpo(); print('mixgrpo_core' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=120
    )
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("cli")])
def test_only_the_command_line_prints(module):
    calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    assert [node.lineno for node in calls if getattr(node.func, "id", None) == "print"] == []


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_short(module):
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= 300, f"{module} has {lines} lines; split it"
    for node in ast.walk(TREES[module]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            assert length <= 70, f"{module}.{node.name} has {length} lines; split it"


def test_every_folder_of_code_is_a_package_so_that_an_installed_copy_has_it():
    folders = {path.parent for path in CORE.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
