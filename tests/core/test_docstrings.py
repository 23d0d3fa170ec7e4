"""What strangers read and implement: every method says what it takes and gives, every kind what it is and whence.

Looked at are the methods of all ports, and the functions, classes and methods that a room exports.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import pytest

import mixgrpo_core
from mixgrpo_core.settings.kinds import REWARDS, SETTINGS

CORE = Path(__file__).resolve().parents[2] / "mixgrpo_core"
SHAPE = re.compile(r"\[[^\]]*\]|\b[Ss]calars?\b|\bshapes?\b")
"""What a tensor's shape is told by."""
DTYPE = re.compile(r"float|\bdtype|\bbool\b|uint8|whole numbers|\b0\.\.1\b")
"""What its dtype is told by; pixels in 0..1 are of a float dtype everywhere."""
SOURCE = re.compile(
    r"arXiv \d{4}\.\d{4,5}|github\.com/\S+|\b[Oo]urs\b|\b[Aa]s read in\b|\bcode is not to be had\b"
    r"|[A-Z]\w+(?: et al\.| and [A-Z]\w+)?,? \(?(?:19|20)\d\d\b"
)
ENTRY = re.compile(r"^    (?P<names>\w+(?:, \w+)*): (?P<told>.*(?:\n {5,}.*)*)", re.MULTILINE)
STRATEGIES = (
    *("Kernel", "Solver", "Window", "Planner", "Credit", "Objective", "Regulariser", "StepWeight", "ErrorWeight"),
    *("Reward", "Guard", "PromptSource", "ImageEncoder", "Comparison"),
)
"""Ports whose kinds are methods that somebody published, or that are ours."""


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


def exported():
    """What the rooms export: an ``__init__`` with an ``__all__`` is a room."""
    rooms = [name for _, name, is_room in pkgutil.walk_packages([str(CORE)], "mixgrpo_core.") if is_room]
    for room in map(importlib.import_module, ["mixgrpo_core", *rooms]):
        for name in getattr(room, "__all__", ()):
            found = getattr(room, name)
            if getattr(found, "__module__", "").startswith("mixgrpo_core"):
                yield found


def kinds(names=None):
    return {
        cls
        for listed in (SETTINGS, REWARDS)
        for port in listed.ports
        for cls in listed.of(port)
        if names is None or port.__name__ in names
    }


def callables():
    """Functions, and methods and properties of classes, each with all that its docstring may lean on."""
    own = {found for found in exported() if inspect.isfunction(found) or inspect.isclass(found)}
    for found in sorted(own | kinds(), key=lambda found: (found.__module__, found.__qualname__)):
        if inspect.isfunction(found):
            yield found.__qualname__, found, inspect.getdoc(found) or "", ""
            continue
        listed = [port for listed in (SETTINGS, REWARDS) for port in listed.ports_of(found)]
        for name, member in vars(found).items():
            of = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(of) and (name == "__call__" or not name.startswith("_")):
                above = [vars(base)[name] for base in (*found.__mro__[1:], *listed) if name in vars(base)]
                told = [inspect.getdoc(of), *map(inspect.getdoc, above)]
                yield f"{found.__qualname__}.{name}", of, "\n".join(filter(None, told)), found.__doc__ or ""


def tensors(function):
    """The parameters that are tensors, and whether what is returned is made of tensors."""
    found = {
        name: annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        for name, annotation in function.__annotations__.items()
    }
    taken = [name for name, kind in found.items() if name != "return" and re.search(r"(?<!\w)Tensor\b", str(kind))]
    return [name for name in taken if "Callable" not in str(found[name])], "Tensor" in str(found.get("return", ""))


def raised(function):
    """What the function's own body raises, without what it defines inside."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    waiting, found = list(ast.iter_child_nodes(node)), []
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Raise) and part.exc is not None:
            found.append(ast.unparse(part.exc).partition("(")[0])
        if not isinstance(part, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(part))
    return [name for name in found if name not in ("NotImplementedError", "StopIteration", "AttributeError")]


def test_every_method_of_a_port_has_a_docstring_of_its_own():
    found = {name: ast.get_docstring(node) or "" for name, _, node in methods()}
    assert len(found) > 120, "the parser saw the ports"
    assert [name for name, told in found.items() if not told or told.lower().startswith("see the class")] == []


@pytest.mark.parametrize("what", [SHAPE, DTYPE], ids=["shape", "dtype"])
def test_every_tensor_of_a_port_has_its_shape_and_dtype_told(what):
    untold = []
    for name, port, node in methods():
        takes = f"{ast.unparse(node.args)} {ast.unparse(node.returns) if node.returns else ''}"
        told = f"{ast.get_docstring(node)} {ast.get_docstring(port)}"
        if "Tensor" in takes and not what.search(told):
            untold.append(name)
    assert untold == []


def test_everything_exported_has_a_docstring():
    found = list(callables())
    assert len(found) > 400
    assert [name for name, of, told, _ in found if not told and of.__name__ != "about"] == [], "about is a port's word"
    assert [found.__name__ for found in exported() if not (inspect.getdoc(found) or "").strip(" .")] == []


def test_every_tensor_that_is_taken_or_given_has_its_shape_told():
    untold = []
    for name, of, told, around in callables():
        taken, given = tensors(of)
        if (taken or given) and not SHAPE.search(told + around):
            untold.append(name)
        for entry in ENTRY.finditer(told):
            if set(entry["names"].split(", ")) & set(taken) and not SHAPE.search(entry["told"]):
                untold.append(f"{name}: {entry['names']}")
    assert untold == []


def test_what_raises_says_what():
    found = {name: (raised(of), told + around) for name, of, told, around in callables()}
    assert sum(bool(errors) for errors, _ in found.values()) > 40
    untold = {name: errors for name, (errors, told) in found.items() if errors and not re.search(r"\b[Rr]aise", told)}
    assert untold == {}


def test_every_strategy_names_its_source():
    found = kinds(STRATEGIES)
    assert len(found) > 80
    told = {
        cls.__name__: " ".join(f"{cls.__doc__} {importlib.import_module(cls.__module__).__doc__}".split())
        for cls in found
    }
    assert sorted(name for name, words in told.items() if not SOURCE.search(words)) == []


@pytest.mark.parametrize(
    ("words", "is_source"),
    [
        ("GRPO-Guard (arXiv 2510.22319), for any kernel.", True),
        ("Hasler and Suesstrunk (2003): ``sqrt(s)``", True),
        ("After Flash-GRPO, as read in github.com/Shredded-Pork/Flash-GRPO.", True),
        ("A pull to another policy. Ours.", True),
        ("All steps alike: GRPO as published.", False),
        ("No more than yours or the others', in 25 steps.", False),
    ],
)
def test_a_source_is_told_from_words(words, is_source):
    assert bool(SOURCE.search(words)) == is_source


def test_every_kind_says_what_it_is():
    found = kinds()
    assert len(found) > 100
    assert sorted(cls.__name__ for cls in found if not (vars(cls).get("__doc__") or "").strip(" .")) == []
    generated = [cls.__name__ for cls in found if (cls.__doc__ or "").startswith(f"{cls.__name__}(")]
    assert generated == [], "a dataclass without a docstring has its signature for one"


def test_the_package_itself_says_what_it_is():
    assert mixgrpo_core.__doc__
