"""Objects of a configuration as text: the Python call that makes them, ``SlidingWindow(size=4, stride=1)``.

One spelling serves Python, a config file, a flag and ``config.json``. Only calls of known classes are read, whose
arguments are literals, such calls, or tuples of them; nothing is evaluated.

Strings are Python's but for one: a literal that is a Windows path with single backslashes is read as it stands, for
people write ``'C:\\models\\new.pt'`` so, and Python would take its ``\\n`` for the end of a line.
"""

import ast
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from .quoting import shown
from .setting import require_finite

_LITERAL = re.compile(r"""(?<![A-Za-z])([A-Za-z]*)(?:'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)")""", re.DOTALL)
_WINDOWS_PATH = re.compile(
    r"(?:[A-Za-z]:|~|\.\.?|\\\\[^\\\s]+)\\(?!\\)"  # C:\ ~\ .\ ..\ \\server\ and what follows
    r"|[^\s\\]+(?:\\[^\s\\]+)+\.\w+\Z"  # folder\file.suffix
)
"""The text between the quotes of a string that is a Windows path as people write it, its backslashes not doubled."""


def parse(text: str, classes: Mapping[str, type]) -> Any:
    """The object that ``text`` spells. Raises ``ValueError`` that names the known classes or the class's fields."""
    try:
        node = ast.parse(_LITERAL.sub(_as_it_stands, text.strip()), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        hint = "; in a path write / for each backslash" if "\\" in text else ""
        raise ValueError(f"expected a call like 'FlowSDE(eta=0.7)', found {shown(text)}{hint}") from error
    return _build(node, text, classes)


def spell(value: Any) -> str:
    """The call that makes ``value`` again, or the literal.

    Raises:
        ValueError: an object that is neither a literal nor a dataclass has no such form.
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(spell, value))},)" if value else "()"
    if isinstance(value, float) and math.isinf(value):
        return repr(value).replace("inf", "1e999")  # a literal, which "inf" is not
    if isinstance(value, str):
        return _spelled(value)
    if isinstance(value, int | float | None):
        return repr(value)
    if not is_dataclass(value) or isinstance(value, type):
        raise ValueError(f"{value!r} cannot be written into a config file: make its class a frozen dataclass")
    arguments = ", ".join(f"{field.name}={spell(getattr(value, field.name))}" for field in fields(value))
    return f"{type(value).__name__}({arguments})"


def _as_it_stands(literal: re.Match[str]) -> str:
    """A string literal, its backslashes doubled where it is a Windows path; only those are not Python's own."""
    inside = literal[2] if literal[3] is None else literal[3]
    if literal[1] or not _WINDOWS_PATH.match(inside) or "'" in inside or '"' in inside:
        return literal[0]
    return literal[0].replace("\\", "\\\\")


def _spelled(value: str) -> str:
    """A string as ``parse`` reads it again: one that would be taken for a Windows path has its first letter escaped."""
    literal = repr(value)
    if not _WINDOWS_PATH.match(literal[1:-1]):
        return literal
    return f"{literal[0]}\\U{ord(value[0]):08x}{literal[1:-1][len(repr(value[0])) - 2 :]}{literal[-1]}"


def _build(node: ast.expr, text: str, classes: Mapping[str, type]) -> Any:
    if isinstance(node, ast.Name):  # `Euler` is short for `Euler()`
        node = ast.Call(func=node, args=[], keywords=[])
    if isinstance(node, ast.Tuple | ast.List) and any(isinstance(part, ast.Call) for part in node.elts):
        return tuple(_build(part, text, classes) for part in node.elts)
    if not isinstance(node, ast.Call):
        try:
            return _frozen(ast.literal_eval(node))
        except (ValueError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError(f"expected a number, a tuple or a call of a known class in {shown(text)}") from error
    if not isinstance(node.func, ast.Name) or node.func.id not in classes:
        name = ast.unparse(node.func)
        raise ValueError(f"unknown class {shown(name)} in {shown(text)}; {suggest(name, classes)}")
    cls = classes[node.func.id]
    known = [field.name for field in fields(cls)]
    for keyword in node.keywords:
        if keyword.arg not in known:
            raise ValueError(f"{cls.__name__} has no setting {shown(keyword.arg)}; {suggest(str(keyword.arg), known)}")
    try:
        made = cls(
            *(_build(argument, text, classes) for argument in node.args),
            **{str(keyword.arg): _build(keyword.value, text, classes) for keyword in node.keywords},
        )
    except TypeError as error:
        raise ValueError(f"{shown(text)} does not make a {cls.__name__}: {error}") from error
    require_finite(made)  # whoever wrote the class
    return made


def _frozen(value: Any) -> Any:
    """Lists as tuples: settings are immutable, and `spell` writes no list."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def suggest(name: str, known: Iterable[str]) -> str:
    """Words of help for an unknown name."""
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(sorted(known)) or 'none'}"
