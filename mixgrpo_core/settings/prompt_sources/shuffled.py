"""The default: an endless shuffle."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from ...support.memory import NOTHING, Memory
from ...support.seeds import derive_seed
from .port import PromptDraw, PromptSource


@dataclass(frozen=True)
class Shuffled(PromptSource):
    """Every prompt once before any comes again, in a fresh order each time. Ours: the usual shuffle of a data set."""

    label: ClassVar[str] = "shuffled"

    def choose(self, draw: PromptDraw, memory: Memory = NOTHING) -> list[int]:
        """The next ``count`` places of the endless shuffle."""
        places = range(draw.iteration * draw.count, (draw.iteration + 1) * draw.count)
        return [int(_shuffle(draw.seed, place // draw.pool, draw.pool)[place % draw.pool]) for place in places]

    def visited(self, draw: PromptDraw, iterations: int) -> list[int]:
        """Those that come in the remaining iterations."""
        if (iterations - draw.iteration) * draw.count >= 2 * draw.pool:  # a whole shuffle is among them
            return list(range(draw.pool))
        places = range(draw.iteration * draw.count, iterations * draw.count)
        return sorted({int(_shuffle(draw.seed, place // draw.pool, draw.pool)[place % draw.pool]) for place in places})


@lru_cache(maxsize=2)
def _shuffle(seed: int, epoch: int, pool: int) -> Tensor:
    return torch.randperm(pool, generator=torch.Generator().manual_seed(derive_seed("prompts", seed, epoch)))
