"""Work in the company that suits it: collected by what goes together, handed on in the order that it was asked in."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from math import gcd
from typing import Generic, TypeVar

T = TypeVar("T")
_STRETCH = 16
"""Batches after which what is still alone goes, too: what came first is not kept waiting to the end."""


def collected(things: Iterable[T], most: int, key: Callable[[T], Hashable]) -> Iterator[list[T]]:
    """Lists of ``most`` things of one ``key``, wherever they stand: each once it is full, what is left at the end."""
    waiting: dict[Hashable, list[T]] = {}
    for number, thing in enumerate(things, 1):
        its = key(thing)
        alike = waiting.setdefault(its, [])
        alike.append(thing)
        if len(alike) == most:
            yield waiting.pop(its)
        if number % (_STRETCH * most) == 0:
            yield from waiting.values()
            waiting = {}
    yield from waiting.values()


def filling(rows: int, batch: int) -> int:
    """The fewest things of so many ``rows`` each that fill calls of ``batch`` rows to the last one."""
    return batch // gcd(rows, batch)


class InOrder(Generic[T]):
    """Hands on what is done of some places in their order, each as soon as those before it have been.

    Args:
        places: that will be done, in any order, each once.
    """

    def __init__(self, places: Iterable[int]) -> None:
        self._awaited, self._done = deque(places), dict[int, T]()

    def of(self, done: Iterable[tuple[int, T]]) -> Iterator[tuple[int, T]]:
        """Those whose turn it is, now that ``done`` are, by place."""
        self._done.update(done)
        while self._awaited and self._awaited[0] in self._done:
            place = self._awaited.popleft()
            yield place, self._done.pop(place)
