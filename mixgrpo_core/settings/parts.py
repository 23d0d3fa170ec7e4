"""Parts of spelled objects: numbers where numbers belong, and calls of the right port where calls belong."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from .kinds import Kinds, field_types, lacking

_WORDS = {str: "text in quotes", int: "a whole number", float: "a number", bool: "True or False", NoneType: "None"}
_SHOWN = 12  # classes in an error


def require_parts(made: Any, kinds: Kinds) -> None:
    """Look through an object and all that is in it; ``kinds`` are what can be spelled there.

    Raises:
        ValueError: a part is of another kind than its class declares.
    """
    hints = field_types(type(made))
    for item in fields(made):
        value = getattr(made, item.name)
        if item.name in hints and not _fits(value, hints[item.name], kinds):
            expected = _in_words(hints[item.name], kinds)
            raise ValueError(f"expected {item.name} of {type(made).__name__} to be {expected}, found {value!r}")
        for part in _objects(value):
            require_parts(part, kinds)


def all_parts(made: Any) -> Iterator[Any]:
    """An object and all objects in it."""
    yield made
    for item in fields(made):
        for part in _objects(getattr(made, item.name)):
            yield from all_parts(part)


def _objects(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _objects(item)
    elif is_dataclass(value):
        yield value


def _fits(value: Any, hint: Any, kinds: Kinds) -> bool:
    """Whether ``value`` is what ``hint`` says; kinds of types that a call cannot spell are left to the class."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, kind, kinds) for kind in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        listed = inner[:1] * len(value) if inner[-1] is ... else inner
        return len(value) == len(listed) and all(_fits(*pair, kinds) for pair in zip(value, listed, strict=True))
    if origin is Callable:
        return callable(value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in _WORDS:
        return type(value) is hint
    port = origin or hint
    if isinstance(port, type) and is_dataclass(port):
        return isinstance(value, port)
    return port not in kinds.ports or (is_dataclass(value) and not lacking(type(value), port))


def _in_words(hint: Any, kinds: Kinds) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(kind, kinds) for kind in inner)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is tuple:
        return f"a tuple of {_in_words(inner[0], kinds)}"
    if hint in _WORDS:
        return _WORDS[hint]
    if isinstance(hint, type) and is_dataclass(hint):
        return f"a call of {hint.__name__}"
    names = [cls.__name__ for cls in kinds.of(origin or hint)]
    return f"a call of {', '.join(names)}" if len(names) <= _SHOWN else "a call"
