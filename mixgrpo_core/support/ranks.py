"""Several processes that train one LoRA: who does what, and what they exchange.

Work has places - the groups of an iteration, the held-out prompts - which are dealt to the ranks in turn, so that the
groups of one update (every ``updates``-th place) are of different ranks, too. Here is what one rank alone does:
everything, and nothing is exchanged. `training.ranks` has the others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from torch.nn import Parameter

from .phases import PhaseClock

T = TypeVar("T")


class Ranks:
    """One rank alone.

    Every rank makes the same calls in the same order; they wait for each other in those that exchange something.

    Attributes:
        size: how many ranks there are.
        rank: which this is, from 0. The first one writes and shows.
        updates: optimizer steps that an iteration's places are dealt out to.
    """

    size: int = 1
    rank: int = 0
    updates: int = 1

    @classmethod
    def foreseen(cls, size: int) -> "Ranks":
        """The first of so many ranks that are not there: for counting what they would do and hold."""
        made = cls()
        made.size = size
        return made

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def owner(self, place: int) -> int:
        """Whose ``place`` is."""
        return (place % self.updates + place // self.updates) % self.size

    def own(self, count: int) -> list[int]:
        """Which of the places 0 .. ``count`` - 1 are this rank's."""
        return [place for place in range(count) if self.owner(place) == self.rank]

    def all_gather(self, value: T) -> list[T]:
        """What every rank gives, by rank. Tensors arrive on the CPU."""
        return [value]

    def joined(self, own: Sequence[T]) -> list[T]:
        """What the ranks have of all places in order, where each gives one for every place of its own."""
        parts = self.all_gather(list(own))
        found = [iter(part) for part in parts]
        return [next(found[self.owner(place)]) for place in range(sum(map(len, parts)))]

    def sum_numbers(self, *numbers: float) -> list[float]:
        """Sums over the ranks, in their order."""
        return [sum(found) for found in zip(*self.all_gather(numbers), strict=True)]

    def from_first(self, ask: Callable[[], T]) -> T:
        """What ``ask`` gives on the first rank; the others do not ask."""
        return ask()

    def collective(self, work: Callable[[int], None]) -> Callable[[int], None]:
        """``work`` as what all ranks do together; all of them make it so at the same time.

        Who calls what is returned has every rank do that piece of work, by its number. The others do it in calls of
        their own, or while they wait to tell something: ranks need not call equally often, nor in one order.
        """
        return work

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Add up what the ranks have; a tensor that none has a gradient of stays without."""

    def require_alike(self, facts: Callable[[], Mapping[str, object]], otherwise: str) -> None:
        """Raise ``RuntimeError`` where ranks differ in one of the ``facts`` by name; ``otherwise`` says what to do."""

    def time_waits(self, clock: PhaseClock) -> None:
        """Let ``clock`` count the time that this rank waits for others, as the phase ``waiting``."""

    def deal_for(self, updates: int) -> None:
        """Deal places so that those of one of ``updates`` optimizer steps are of different ranks."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one rank raises inside is raised on all of them, at their next exchange."""
        yield


WAITING = "waiting"
"""The phase of an iteration in which a rank waits for others."""
ALONE = Ranks()
