"""Parts of spelled rewards: numbers where numbers belong, calls where calls belong, and devices that are there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..rewards.networks.places import Offloaded, Released, Resident
from .devices import usable_device

_WORDS = {str: "text in quotes", int: "a whole number", float: "a number", bool: "True or False", NoneType: "None"}
_SHOWN = 12  # classes in an error


def require_parts(made: Any, classes: Sequence[type]) -> None:
    """Look through an object and all that is in it; ``classes`` are those that can be spelled.

    Raises:
        ValueError: a part is of another kind than its class declares, or the device of a place is not there.
    """
    hints = get_type_hints(type(made))
    for item in fields(made):
        value, hint = getattr(made, item.name), hints[item.name]
        if not _fits(value, hint):
            raise ValueError(
                f"expected {item.name} of {type(made).__name__} to be {_in_words(hint, classes)}, found {value!r}"
            )
        for part in _objects(value):
            require_parts(part, classes)
    if isinstance(made, Resident | Offloaded | Released) and made.where != "auto":
        usable_device(made.where, f"the device of {type(made).__name__}")


def _objects(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _objects(item)
    elif is_dataclass(value):
        yield value


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, kind) for kind in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin is Callable:
        return callable(value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in _WORDS:
        return type(value) is hint
    return is_dataclass(value) and _offers(type(value), hint)


def _offers(cls: type, port: type) -> bool:
    """Whether ``cls`` is a ``port``, or has all that this protocol asks for."""
    wanted = {*getattr(port, "__annotations__", ()), *(name for name in vars(port) if not name.startswith("_"))}
    wanted |= {"__call__"} & vars(port).keys()
    known = {item.name for item in fields(cls)}
    return port in cls.__mro__ or all(name in known or hasattr(cls, name) for name in wanted)


def _in_words(hint: Any, classes: Sequence[type]) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(kind, classes) for kind in inner)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is tuple:
        return f"a tuple of {_in_words(inner[0], classes)}"
    if hint in _WORDS:
        return _WORDS[hint]
    names = [cls.__name__ for cls in classes if _offers(cls, hint)]
    return f"a call of {', '.join(names)}" if len(names) <= _SHOWN else "a call"
