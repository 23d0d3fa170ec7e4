"""Which classes there are of each port: the rooms' own, as their ``__init__`` exports them, and registered ones.

A port is a protocol (or an abstract class) that a room exports. A class is *of* a port when it derives from it or has
all of its members. Nothing is listed here: a new class is one line in the ``__init__`` of its room.
"""

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import ModuleType
from typing import Any, Generic, Protocol, get_args, get_type_hints

from .. import advantages, objectives, rewards, sampling
from ..evaluation import guards
from ..rewards import networks
from . import prompt_sources

_GUESTS: dict[str, type] = {}
_FINDERS: list[Callable[[], None]] = []


class Kinds:
    """What can be spelled in one place: the classes of the ports of some rooms, and guests of the same ports."""

    def __init__(self, rooms: Sequence[ModuleType]) -> None:
        exported = [getattr(room, name) for room in rooms for name in room.__all__]
        classes = [found for found in dict.fromkeys(exported) if isinstance(found, type)]
        self.ports = tuple(cls for cls in classes if _is_port(cls))
        self._own = tuple(sorted((cls for cls in classes if self._fits(cls)), key=_place))
        self._own = tuple(dict.fromkeys((*self._own, *_inside(self._own))))

    def _fits(self, cls: type) -> bool:
        return _can_be_spelled(cls) and not _is_port(cls) and bool(self.ports_of(cls))

    def ports_of(self, cls: type) -> list[type]:
        """The ports that ``cls`` is of."""
        return [port for port in self.ports if _is_of(cls, port)]

    def of(self, port: type) -> tuple[type, ...]:
        """The classes of a port: ours in the order in which they are written, then guests."""
        return tuple(cls for cls in self.by_name().values() if _is_of(cls, port))

    def by_name(self) -> Mapping[str, type]:
        """All that can be spelled."""
        for find in _FINDERS:
            find()
        guests = [cls for cls in _GUESTS.values() if self.ports_of(cls)]
        return {cls.__name__: cls for cls in (*_inside(guests), *self._own, *guests)}

    @property
    def own_names(self) -> frozenset[str]:
        """Names of the classes that are no guests."""
        return frozenset(cls.__name__ for cls in self._own)


def register(*classes: type) -> None:
    """Make classes of yours known, so that run files, flags and saved runs can spell them.

    A class is a frozen dataclass of settings, and of a port: it derives from one such as ``Objective``, ``Reward`` or
    ``Window``, or has all of its members. One that is defined again in its module takes the place of the former.

    Raises:
        ValueError: the name is taken, or the class is of no port; the sentence says which member is missing.
    """
    for cls in classes:
        name, former = cls.__name__, _GUESTS.get(cls.__name__)
        again = former is not None and (former.__module__, former.__qualname__) == (cls.__module__, cls.__qualname__)
        if name in SETTINGS.own_names | REWARDS.own_names or (former is not None and not again):
            owner = "mixgrpo_core" if former is None else former.__module__
            raise ValueError(
                f"the name {name} is taken by a class of {owner}: give the class of {cls.__module__} another"
            )
        if not is_dataclass(cls):
            raise ValueError(f"{name} cannot be written into a run file: make it a frozen dataclass")
        if not any(kinds.ports_of(cls) for kinds in (SETTINGS, REWARDS)):
            raise ValueError(of_no_port(cls))
        _GUESTS[name] = cls


def look_in(find: Callable[[], None]) -> None:
    """Call ``find``, which registers what it finds, whenever the classes that can be spelled are looked at."""
    if find not in _FINDERS:
        _FINDERS.append(find)


def classes_in(module: ModuleType) -> list[type]:
    """The classes that ``module`` itself defines and that can be registered.

    Raises:
        ValueError: a class derives from a port and does not write all that it must.
    """
    own = [found for found in vars(module).values() if isinstance(found, type) and found.__module__ == module.__name__]
    written = [cls for cls in own if is_dataclass(cls) and not cls.__name__.startswith("_")]
    ports = (*SETTINGS.ports, *REWARDS.ports)
    whole = [cls for cls in written if any(not lacking(cls, port) for port in ports)]
    for cls in written:
        is_base = any(cls in other.__mro__ for other in whole)
        if cls not in whole and not is_base and any(port in cls.__mro__ for port in ports):
            raise ValueError(of_no_port(cls))
    return whole


def guests_of(calls: Iterable[str]) -> dict[str, str]:
    """Names of the registered classes that spelled objects mention, with the module of each."""
    mentioned = {node.id for call in calls for node in ast.walk(_parsed(call)) if isinstance(node, ast.Name)}
    return {name: _brought_by(cls) for name, cls in _GUESTS.items() if name in mentioned}


def missing_guests(noted: Mapping[str, str]) -> dict[str, str]:
    """Those of ``noted`` (as `guests_of` tells them) that are not registered, or are another module's by now."""
    known = {name: _brought_by(cls) for kinds in (SETTINGS, REWARDS) for name, cls in kinds.by_name().items()}
    return {name: module for name, module in noted.items() if known.get(name) != module}


def _brought_by(cls: type) -> str:
    """The module of a class. ComfyUI names that of a custom node by its whole path: here it is the folder's name."""
    return cls.__module__.replace("\\", "/").rpartition("/")[2]


def lacking(cls: type, port: type) -> list[str]:
    """Members of ``port`` that ``cls`` does not have; none when it is of the port."""
    known = {item.name for item in fields(cls)} if is_dataclass(cls) else set()
    missing = [name for name in _members(port) if name not in known and not _written(cls, name)]
    if port in cls.__mro__ or "__call__" not in _members(port) or "__call__" in missing:
        return missing
    asked, answered = (list(inspect.signature(owner.__call__).parameters)[1:] for owner in (port, cls))
    return missing if asked == answered else [f"__call__({', '.join(asked)})", *missing]  # many ports are called


@cache
def _is_of(cls: type, port: type) -> bool:
    return not lacking(cls, port)


def field_types(cls: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields; none for a class that names types which only a type checker can find."""
    try:
        hints = get_type_hints(cls)
    except NameError:
        return {}
    return {item.name: hints[item.name] for item in fields(cls)}


def noun(port: type) -> str:
    """A port in words: ``prompt source``."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in port.__name__)
    return "stage of credit" if port is advantages.Credit else words.strip()


def article(words: str) -> str:
    """The words with "a" or "an"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def summary(cls: type) -> str:
    """What a class is, for tables and help: the first sentence of its docstring."""
    paragraph = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
    ends = [at + 1 for at in range(len(paragraph)) if paragraph[at] == "." and paragraph[at + 1 : at + 2] in (" ", "")]
    whole = [end for end in ends if not paragraph[:end].endswith(("e.g.", "i.e.", "eq.", "sec.", "al."))]
    return paragraph[: whole[0]] if whole else paragraph


def label_of(cls: type) -> str:
    """What a choice of the canvas is called: the class's ``label``, or its name."""
    return getattr(cls, "label", cls.__name__)


def of_no_port(cls: type) -> str:
    """Why a class cannot be registered: what it lacks of the nearest port."""
    ports = (*SETTINGS.ports, *REWARDS.ports)
    derived = [port for port in ports if port in cls.__mro__]
    nearest = derived[0] if derived else min(ports, key=lambda port: len(lacking(cls, port)) / len(_members(port)))
    missing = lacking(cls, nearest)
    if not derived and len(missing) == len(_members(nearest)):
        return f"{cls.__name__} is of no port: derive it from one, such as Objective, Reward or Window"
    return f"{cls.__name__} is not yet {article(noun(nearest))}: {' and '.join(missing)} must be written"


def _is_port(cls: type) -> bool:
    return bool(vars(cls).get("_is_protocol")) or inspect.isabstract(cls)


def _can_be_spelled(cls: type) -> bool:
    """A dataclass that does not ask for a function or a tensor, which have no text."""
    if not is_dataclass(cls):
        return False
    required = [item.type for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING]
    return not any("Callable" in str(kind) or "Tensor" in str(kind) for kind in required)


def _inside(classes: Iterable[type]) -> Iterator[type]:
    """The dataclasses that stand in fields of ``classes``, of no port themselves: ``Lag`` in an objective."""
    for cls in classes:
        for hint in field_types(cls).values():
            for part in get_args(hint) or (hint,):
                if isinstance(part, type) and _can_be_spelled(part) and not _is_port(part):
                    yield part
                    yield from _inside([part])


def _place(cls: type) -> tuple[int, int]:
    """Where a class is written: its module in the order of imports, its line in it."""
    modules = list(dict.fromkeys(owner.__module__ for owner in _exports()))
    return modules.index(cls.__module__), list(vars(inspect.getmodule(cls))).index(cls.__name__)


def _exports() -> Iterator[type]:
    return (
        found
        for room in (*_ROOMS, networks, *_REWARD_ROOMS)
        for found in vars(room).values()
        if isinstance(found, type)
    )


@cache
def _members(port: type) -> list[str]:
    """What a class must have to be of the port: its public members, and ``__call__`` where it has one."""
    bases = [base for base in port.__mro__ if base not in (object, Protocol, Generic)]
    named = {name for base in bases for name in (*vars(base), *inspect.get_annotations(base))}
    return sorted(name for name in named if not name.startswith("_") or name == "__call__")


def _written(cls: type, name: str) -> bool:
    """Whether ``cls`` has the member itself, and not only a port's declaration of it."""
    found = [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
    return bool(found) and not getattr(found[0], "__isabstractmethod__", False)


def _parsed(call: str) -> ast.AST:
    try:
        return ast.parse(call.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ast.Module(body=[], type_ignores=[])


_ROOMS = (sampling, advantages, objectives, guards, prompt_sources)
_FAMILIES = (found for found in vars(rewards).values() if isinstance(found, ModuleType) and hasattr(found, "__all__"))
_REWARD_ROOMS = (rewards, *_FAMILIES)

SETTINGS = Kinds((*_ROOMS, networks))
"""What the settings of a training are made of."""
REWARDS = Kinds(_REWARD_ROOMS)
"""Rewards, and what stands inside their calls."""
