"""What is imported when: the list of commands and the package's name alone need no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import mixgrpo_core
from mixgrpo_core.cli import dispatch, running

ROOT = Path(__file__).resolve().parents[2]


def heavy_after(code: str) -> str:
    """Which heavy packages a fresh Python has imported after ``code``."""
    told = f"{code}\nimport sys; print(sorted({{'torch', 'numpy', 'diffusers', 'tyro', 'rich'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    return found.stdout.splitlines()[-1]


def test_the_list_of_commands_imports_nothing_of_weight():
    assert heavy_after("from mixgrpo_core.cli import main; main(['--help']); main(['what'])") == "[]"
    assert "torch" in heavy_after("import mixgrpo_core; mixgrpo_core.FlowSDE(eta=0.5)"), "with the first name"


def test_the_garbage_collector_waits_while_much_is_imported():
    """Then it is on again, and what came counts as old."""
    seen = "import gc; seen = []; gc.callbacks.append(lambda phase, told: seen.append(told['generation']))"
    code = "from mixgrpo_core import train; from mixgrpo_core.cli import main; main(['plan', 'no.toml'])"
    told = "print(seen.count(2) if gc.isenabled() and len(gc.get_objects(generation=2)) > 1e5 else 'not on')"
    command = [sys.executable, "-c", "\n".join((seen, code, told))]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.splitlines()[-1] == "0", found.stdout + found.stderr


def test_every_command_that_is_listed_is_there():
    assert list(dispatch.COMMANDS) == list(running.COMMANDS)
    assert set(dispatch.SPELLING) <= set(dispatch.COMMANDS)


def test_names_are_looked_up_where_type_checkers_see_them():
    tree = ast.parse(Path(mixgrpo_core.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == mixgrpo_core._MODULES
    assert sorted(seen) == sorted(mixgrpo_core.__all__)
    assert set(mixgrpo_core.__all__) <= set(dir(mixgrpo_core))
