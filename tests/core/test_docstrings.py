"""Ports are what strangers implement: every method says what it takes and gives, and every kind says what it is."""

import ast
import inspect
from pathlib import Path

from mixgrpo_core.settings.kinds import REWARDS, SETTINGS

CORE = Path(__file__).resolve().parents[2] / "mixgrpo_core"
IN_WORDS = ("[", "calar")
"""What a tensor's shape is told by."""


def ports():
    for file in sorted(CORE.rglob("*.py")):
        if file.relative_to(CORE).parts[0] != "cli":
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                protocol = isinstance(node, ast.ClassDef) and any(
                    "Protocol" in ast.unparse(base) for base in node.bases
                )
                if protocol and not node.name.startswith("_"):
                    yield file.relative_to(CORE).as_posix(), node


def methods():
    for file, port in ports():
        for node in port.body:
            if isinstance(node, ast.FunctionDef) and (node.name == "__call__" or not node.name.startswith("_")):
                yield f"{file}: {port.name}.{node.name}", port, node


def test_every_method_of_a_port_has_a_docstring_of_its_own():
    found = {name: ast.get_docstring(node) or "" for name, _, node in methods()}
    assert len(found) > 120, "the parser saw the ports"
    assert [name for name, told in found.items() if not told or told.lower().startswith("see the class")] == []


def test_every_tensor_of_a_port_has_its_shape_told():
    untold = []
    for name, port, node in methods():
        takes = f"{ast.unparse(node.args)} {ast.unparse(node.returns) if node.returns else ''}"
        told = f"{ast.get_docstring(node)} {ast.get_docstring(port)}"
        if "Tensor" in takes and not any(word in told for word in IN_WORDS):
            untold.append(name)
    assert untold == []


def test_every_kind_says_what_it_is():
    kinds = {cls for listed in (SETTINGS, REWARDS) for port in listed.ports for cls in listed.of(port)}
    assert len(kinds) > 100
    assert sorted(cls.__name__ for cls in kinds if not (vars(cls).get("__doc__") or "").strip(" .")) == []
    generated = [cls.__name__ for cls in kinds if (cls.__doc__ or "").startswith(f"{cls.__name__}(")]
    assert generated == [], "a dataclass without a docstring has its signature for one"


def test_every_strategy_has_its_methods_told_by_itself_or_its_port():
    untold = [
        f"{cls.__name__}.{name}"
        for listed in (SETTINGS, REWARDS)
        for port in listed.ports
        for cls in listed.of(port)
        for name, member in vars(cls).items()
        if inspect.isfunction(member) and not name.startswith("_")
        if not any(inspect.getdoc(vars(base).get(name)) for base in (*cls.__mro__, port) if name in vars(base))
    ]
    assert untold == []
