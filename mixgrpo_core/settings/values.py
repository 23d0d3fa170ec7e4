"""Plain values of files and flags as settings hold them, and what is expected in words where they do not fit."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import MappingProxyType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from ..support.quoting import shown
from ..support.spelling import parse, spell
from .kinds import SETTINGS, article, noun
from .parts import require_parts


def checked(name: str, hint: Any, value: Any) -> Any:
    """``value`` as a setting of type ``hint`` holds it: a list as a tuple, a whole number as a float, text as the
    object that it spells.

    Raises:
        ValueError: "name expects ..., found ...", for a value of another kind.
    """
    kinds = get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,)
    for kind in kinds:
        try:
            return _as_kind(kind, value)
        except TypeError:
            continue
    raise ValueError(f"{name} expects {' or '.join(map(_in_words, kinds))}, found {shown(value)}")


def _as_kind(kind: Any, value: Any) -> Any:
    return _as_object(kind, value) if kind in SETTINGS.ports else _as_plain(kind, value)


def _as_plain(kind: Any, value: Any) -> Any:
    """Numbers, words, lists and tables. Raises ``TypeError`` when ``value`` is none of this kind."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or (origin is Literal and value in inner):
        return value
    if origin is tuple and isinstance(value, str) and inner[0] in SETTINGS.ports:
        return (_as_kind(inner[0], value),)  # one object stands for a list of one
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_as_kind(inner[0], item) for item in value)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {_as_plain(inner[0], key): _as_plain(inner[1], item) for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return _as_float(value)
    if origin is None and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise TypeError


def _as_float(value: int) -> float:
    """Raises ``TypeError`` for a whole number beyond every float."""
    try:
        return float(value)
    except OverflowError:
        raise TypeError from None


def _as_object(port: type, value: Any) -> Any:
    """An object of a port. One of another copy of this package (a host may load it twice) is made again here."""
    classes = SETTINGS.by_name()
    if is_dataclass(value) and not isinstance(value, type):
        try:
            made = parse(spell(value), classes)
        except ValueError as error:
            raise TypeError from error
    else:
        made = parse(value, classes) if isinstance(value, str) else value
    if type(made) not in SETTINGS.of(port):
        raise TypeError
    require_parts(made, SETTINGS)
    return made


_WORDS: Mapping[Any, str] = MappingProxyType(
    {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        type(None): "nothing",
        Mapping[str, float]: "a table of numbers, such as {aesthetic = 1.0}",
        dict[str, str]: 'a table of calls in quotes, such as {shape = "ShapeReward()"}',
        Mapping[str, Any]: "a table: its name in brackets on a line, such as [train], and a setting per line below",
        tuple[str, ...]: "a list of texts",
    }
)


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if get_origin(kind) is tuple and get_args(kind)[0] in SETTINGS.ports:
        return f"a list such as [{_example(get_args(kind)[0])}], each {article(noun(get_args(kind)[0]))}"
    if kind in SETTINGS.ports:
        return f"{article(noun(kind))} such as {_example(kind)}"
    return _WORDS[kind]


def _example(port: type) -> str:
    return repr(f"{SETTINGS.of(port)[0].__name__}()")
