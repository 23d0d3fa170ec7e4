"""The port of prompt sources. One that learns gets its memory handed in and gives it back."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...sampling.planners import GroupResult
from ...support.facts import RunFacts
from ...support.memory import NOTHING, Memory


@dataclass(frozen=True, kw_only=True)
class PromptDraw:
    """What is asked of a source.

    Attributes:
        seed: of the run.
        iteration: of the run, from 0.
        count: prompts of an iteration.
        pool: how many prompts there are to choose from.
    """

    seed: int
    iteration: int
    count: int
    pool: int


class PromptSource(Protocol):
    """Chooses the prompts of an iteration; a frozen dataclass of settings."""

    @abstractmethod
    def choose(self, draw: PromptDraw, memory: Memory = NOTHING) -> list[int]:
        """The places of ``draw.count`` prompts among ``draw.pool``, a function of its arguments alone."""
        ...

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` with one sentence where the run that is asked for cannot be right."""
        return

    def visited(self, draw: PromptDraw, iterations: int) -> list[int]:
        """Which prompts may be chosen from ``draw.iteration`` on, ascending: these are encoded."""
        return list(range(draw.pool))

    def learn(self, memory: Memory, groups: Sequence[GroupResult]) -> Memory:
        """The new memory after an iteration of these groups."""
        return memory


def chosen_prompts(source: PromptSource, draw: PromptDraw, memory: Memory) -> list[int]:
    """What ``source`` chooses. Raises ``ValueError`` where that is not what it was asked for."""
    chosen = source.choose(draw, memory)
    if len(chosen) != draw.count or not all(0 <= place < draw.pool for place in chosen):
        raise ValueError(
            f"expected {type(source).__name__} to choose {draw.count} numbers below {draw.pool}, found {chosen}: "
            "correct its `choose`"
        )
    return chosen
