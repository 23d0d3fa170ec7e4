"""Rewards within rewards: frozen dataclasses all the way down, of which some parts are exchanged."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

P = TypeVar("P")


def map_parts(whole: Any, kind: type[P], other: Callable[[P], Any]) -> Any:
    """``whole`` with ``other(part)`` for each outermost part of a ``kind``, also for those in dataclasses and tuples.

    What holds no such part comes back as it is, with its networks and caches.
    """
    if isinstance(whole, kind):
        return other(whole)
    if isinstance(whole, tuple):
        parts = tuple(map_parts(part, kind, other) for part in whole)
        return parts if any(new is not old for new, old in zip(parts, whole, strict=True)) else whole
    if not is_dataclass(whole) or isinstance(whole, type):
        return whole
    found = {item.name: map_parts(getattr(whole, item.name), kind, other) for item in fields(whole)}
    changed = {name: part for name, part in found.items() if part is not getattr(whole, name)}
    return replace(whole, **changed) if changed else whole
