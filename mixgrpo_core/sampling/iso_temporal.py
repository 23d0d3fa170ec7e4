"""One SDE step for all images of a prompt, after Flash-GRPO."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..support.memory import NOTHING, Memory
from ..support.seeds import derive_seed
from ..support.setting import require_finite
from .planners import Planner, StepPlan, windowed_plan


def drawn_step(among: int, seed: int) -> int:
    """One of the steps ``0 .. among - 1``, evenly; a function of ``seed``."""
    return int(torch.randint(among, (), generator=torch.Generator().manual_seed(seed)))


def noisier(steps: int, share: float) -> int:
    """How many of ``steps`` make up a share from the noisy end: at least one, and never the last."""
    return max(1, min(steps - 1, int(steps * share)))


@dataclass(frozen=True)
class IsoTemporalPlanner(Planner):
    """One step of the noisier half is sampled by the SDE and trained, the same for all images of a prompt.

    Each prompt and iteration draws its step ``k`` evenly; ODE elsewhere. Every difference within a group then comes
    from one step of one level. After Flash-GRPO, as read in github.com/Shredded-Pork/Flash-GRPO (Wan 2.1: the noisier
    10 of 20 steps, learning rate 1e-4, clip 1e-3). It goes with ``GRPO(step_weight=FlatGradient())``, whose
    ``std / kappa`` is the published table of weights. Differences: the kernel is the run's (theirs has noise
    proportional to sigma), and weights have mean 1 over the planner's steps, not over what a batch happens to hold.

    Traps: images of a group differ by one step's noise only, less the later it is: watch the spread of rewards. With a
    step weight that is normalised over a plan's own steps the weight of a single step would always be 1.

    Attributes:
        share: of the steps, from the noisy end, that are drawn from; 0.5 as published.
        seed: of the draw.
    """

    label: ClassVar[str] = "iso-temporal (after Flash-GRPO)"

    share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite(self)
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, found {self.share}")

    def candidates(self, sigmas: Tensor) -> tuple[int, ...]:
        """The steps that are drawn from."""
        return tuple(range(noisier(len(sigmas) - 1, self.share))) if len(sigmas) > 2 else ()

    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """SDE at the step of this iteration and prompt."""
        among = len(self.candidates(sigmas))
        return windowed_plan(sigmas, [drawn_step(among, derive_seed("one step", self.seed, iteration, prompt))])
