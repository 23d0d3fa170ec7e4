"""Inside nodes/ imports go down the list of folders, too: what travels on wires is lowest, the list of nodes on top."""

import ast
from pathlib import Path

import pytest
from layers import House

NODES = House(
    Path(__file__).resolve().parents[2] / "nodes",
    # From the ground up: each may import from those before it.
    (
        *("sockets", "checks", "names", "one_message", "host", "live"),
        *("settings", "sampling", "training", "loras", "rewards"),
        "demo",
        "",
    ),
)


def defines_a_node(module):
    classes = [node for node in NODES.trees[module].body if isinstance(node, ast.ClassDef)]
    return any("ComfyNode" in ast.unparse(base) for cls in classes for base in cls.bases)


def test_the_parser_sees_the_imports():
    """A parser that saw nothing would pass everything below."""
    assert {"sockets", "host.model"} <= NODES.graph["training.trainer"] | NODES.graph["training.loop"]
    assert "training.trainer" in NODES.graph[""]
    assert "live.events" in NODES.graph["live.routes"]


def test_every_folder_has_its_place_in_the_list():
    assert NODES.without_a_floor() == []
    assert NODES.floors_without_modules() == []


def test_imports_only_go_down():
    assert NODES.imports_that_go_up() == []


def test_everything_imported_from_the_folder_is_there():
    assert NODES.imports_of_nothing() == []


@pytest.mark.parametrize(("one", "other"), [("host", "live"), ("live", "host")])
def test_the_host_and_the_page_do_not_know_each_other(one, other):
    def of(name, folder):
        return name.split(".")[0] == folder

    assert [(m, n) for m in NODES.modules if of(m, one) for n in NODES.graph[m] if of(n, other)] == []


def test_the_host_and_the_page_define_no_nodes():
    assert [m for m in NODES.modules if m.split(".")[0] in ("host", "live", "sockets") and defines_a_node(m)] == []


def test_no_module_imports_itself_through_others():
    assert NODES.circles() == {}


def test_no_name_of_a_package_is_both_a_module_and_something_else():
    assert NODES.names_that_shadow() == []


def test_files_and_functions_stay_short():
    assert NODES.too_long() == []


def test_nothing_prints():
    assert NODES.prints() == []
