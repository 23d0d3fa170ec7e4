"""Several processes that train one LoRA: who does what, and what they tell each other.

Work has places - the groups of an iteration, the held-out prompts - and place p is of rank p modulo the number of
ranks. Here is what one rank alone does: everything, and nothing is told. `training.ranks` has the others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from torch.nn import Parameter

from .phases import PhaseClock

T = TypeVar("T")


class Ranks:
    """One rank alone.

    Every rank makes the same calls in the same order; they wait for each other in those that tell.

    Attributes:
        size: how many ranks there are.
        rank: which this is, from 0. The first one writes and shows.
    """

    size: int = 1
    rank: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def own(self, count: int) -> range:
        """Which of the places 0 .. ``count`` - 1 are this rank's."""
        return range(self.rank, count, self.size)

    def told(self, value: T) -> list[T]:
        """What every rank gives, by rank. Tensors arrive on the CPU."""
        return [value]

    def joined(self, own: Sequence[T]) -> list[T]:
        """What the ranks have of all places in order, where each gives one for every place of its own."""
        parts = self.told(list(own))
        return [part[turn] for turn in range(max(map(len, parts))) for part in parts if turn < len(part)]

    def added(self, *numbers: float) -> list[float]:
        """Sums over the ranks, in their order."""
        return [sum(found) for found in zip(*self.told(numbers), strict=True)]

    def from_first(self, ask: Callable[[], T]) -> T:
        """What ``ask`` gives on the first rank; the others do not ask."""
        return ask()

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Add up what the ranks have; a tensor that none has a gradient of stays without."""

    def require_alike(self, facts: Callable[[], Mapping[str, object]], otherwise: str) -> None:
        """Raise ``RuntimeError`` where ranks differ in one of the ``facts`` by name; ``otherwise`` says what to do."""

    def time_waits(self, clock: PhaseClock) -> None:
        """Let ``clock`` count the time that this rank waits for others, as the phase ``waiting``."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one rank raises inside is raised on all of them, as soon as they are told something."""
        yield


WAITING = "waiting"
"""The phase of an iteration in which a rank waits for others."""
ALONE = Ranks()
