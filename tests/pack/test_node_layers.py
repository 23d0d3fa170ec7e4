"""Inside nodes/ imports go down too: what travels on wires is lowest, node files are on top, and there is no circle."""

import ast
import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODES = ROOT / "nodes"

# Lowest first; a module may import from its own layer and from those before it.
LAYERS = {
    "the ground": "sockets paths checks rewards",
    "the host and the page": "host host.* live live.*",
    "between": "host_model runs training outcome presets mixed_sampling plan_words lora_layouts settings_inputs",
    "node files": "compare demo fit_check lora prompts sampler settings trainer window window_plan rewards.*",
    "the list of nodes": "__init__",
}


def name_of(path):
    parts = path.relative_to(NODES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(NODES.rglob("*.py"))}


def imports(module):
    """Modules of nodes/ that ``module`` imports anywhere in it; those of the core are not among them."""
    path = MODULES[module]
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else ())]
        if not base or base[0] != "nodes":
            continue
        for alias in node.names:
            whole = ".".join([*base[1:], alias.name])
            found.add(whole if whole in MODULES else ".".join(base[1:]) or "__init__")
    return found


GRAPH = {module: imports(module) for module in MODULES}


def layer_of(module):
    names = list(LAYERS)
    return [names.index(n) for n in names if any(fnmatch.fnmatchcase(module, p) for p in LAYERS[n].split())]


def defines_a_node(module):
    classes = [n for n in ast.parse(MODULES[module].read_text(encoding="utf-8")).body if isinstance(n, ast.ClassDef)]
    return any("ComfyNode" in ast.unparse(base) for c in classes for base in c.bases)


def test_the_parser_sees_the_imports():
    """A parser that saw nothing would pass everything below."""
    assert {"sockets", "host_model"} <= GRAPH["trainer"] | GRAPH["training"]
    assert "trainer" in GRAPH["__init__"]
    assert "live.events" in GRAPH["live.routes"]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_one_layer(module):
    assert len(layer_of(module)) == 1, f"{module} belongs in one row of LAYERS, found in {layer_of(module)}"


@pytest.mark.parametrize("layer", LAYERS)
def test_the_table_names_no_file_that_is_gone(layer):
    assert [pattern for pattern in LAYERS[layer].split() if not fnmatch.filter(MODULES, pattern)] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module):
    assert sorted(other for other in GRAPH[module] if layer_of(other) > layer_of(module)) == []


@pytest.mark.parametrize("module", MODULES)
def test_everything_imported_from_the_folder_is_there(module):
    assert sorted(GRAPH[module] - MODULES.keys()) == []


@pytest.mark.parametrize("module", MODULES)
def test_the_host_and_the_page_do_not_know_each_other(module):
    other = {"host": "live", "live": "host"}.get(module.split(".")[0])
    assert [name for name in GRAPH[module] if name.split(".")[0] == other] == []


@pytest.mark.parametrize("module", MODULES)
def test_nodes_are_defined_in_node_files(module):
    on_top = layer_of(module) == [list(LAYERS).index("node files")]
    assert defines_a_node(module) == on_top


def test_no_module_imports_itself_through_others():
    """Strip modules that import nothing that is left, until none is left; what remains is in a circle or above one."""
    # what a package's own __init__ gathers from its files is no circle: the files do not ask for the package
    left = {module: {other for other in others if other != module} for module, others in GRAPH.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_short(module):
    source = MODULES[module].read_text(encoding="utf-8")
    assert source.count("\n") <= 300, f"{module} has {source.count(chr(10))} lines; split it"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            assert length <= 70, f"{module}.{node.name} has {length} lines; split it"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_prints(module):
    calls = [n for n in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert [n.lineno for n in calls if getattr(n.func, "id", None) == "print"] == []
