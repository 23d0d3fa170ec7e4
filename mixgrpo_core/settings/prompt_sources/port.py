"""Prompt sources: which prompts an iteration rolls out. One that learns gets its memory handed in and gives it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..sampling.planners import Heard
from ..support.memory import NOTHING, Memory
from ..support.seeds import derive_seed


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

    def choose(self, draw: PromptDraw, memory: Memory = NOTHING) -> list[int]:
        """The places of ``draw.count`` prompts among ``draw.pool``, a function of its arguments alone."""
        ...

    def visited(self, draw: PromptDraw, iterations: int) -> list[int]:
        """Which prompts may be chosen from ``draw.iteration`` on, ascending: these are encoded."""
        return list(range(draw.pool))

    def learn(self, memory: Memory, groups: Sequence[Heard]) -> Memory:
        """The new memory after an iteration of these groups."""
        return memory


@dataclass(frozen=True)
class Shuffled(PromptSource):
    """Every prompt once before any comes again, in a fresh order each time."""

    label: ClassVar[str] = "shuffled"

    def choose(self, draw: PromptDraw, memory: Memory = NOTHING) -> list[int]:
        """The next ``count`` places of the endless shuffle."""
        places = range(draw.iteration * draw.count, (draw.iteration + 1) * draw.count)
        return [int(_shuffle(draw.seed, place // draw.pool, draw.pool)[place % draw.pool]) for place in places]

    def visited(self, draw: PromptDraw, iterations: int) -> list[int]:
        """Those that come in the remaining iterations."""
        places = range(draw.iteration * draw.count, iterations * draw.count)
        return sorted({int(_shuffle(draw.seed, place // draw.pool, draw.pool)[place % draw.pool]) for place in places})


@lru_cache(maxsize=2)
def _shuffle(seed: int, epoch: int, pool: int) -> Tensor:
    return torch.randperm(pool, generator=torch.Generator().manual_seed(derive_seed("prompts", seed, epoch)))
