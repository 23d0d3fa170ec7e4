"""One branching step from each start, after TempFlow-GRPO (arXiv 2508.04324)."""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from ..support.memory import NOTHING, Memory
from ..support.seeds import derive_seed
from ..support.setting import require_finite
from .iso_temporal import drawn_step, noisier
from .planners import SDE, Planner, StepPlan, windowed_plan


@dataclass(frozen=True)
class BranchStepPlanner(Planner):
    """Each start is denoised by the ODE to one step, branches there by the SDE, and goes on by the ODE.

    With ``shared_noise=False`` a group is starts x children images, and the reward of an image belongs to that step
    alone: `BranchAdvantages` compares the children of one start. After TempFlow-GRPO (arXiv 2508.04324), from notes on
    the paper and a third party's sampler: 10 steps, 4 starts, 6 draws per step; the third party draws at the noisy
    steps only. Its step weights are ``std`` (`NoiseLevel`). Difference: a prompt branches at one step an iteration,
    drawn evenly, instead of at every step at once: the same expectation, and a group of the usual size.

    The steps before the branch are evaluated once for each start. Traps: a group must hold a multiple of ``children``
    images; children of a late step hardly differ.

    Attributes:
        children: successors of each start, 2 or more; 6 as published.
        share: of the steps, from the noisy end, that are drawn from; 1 is all but the last.
        seed: of the draw.
    """

    label: ClassVar[str] = "branch step (after TempFlow-GRPO)"

    children: int = 6
    share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite(self)
        if self.children < 2 or not 0 < self.share <= 1:
            raise ValueError(
                f"children must be 2 or more and share above 0 and at most 1, found {self.children} and {self.share}"
            )

    def candidates(self, sigmas: Tensor) -> tuple[int, ...]:
        """The steps that are drawn from."""
        return tuple(range(noisier(len(sigmas) - 1, self.share))) if len(sigmas) > 2 else ()

    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """SDE with children at the step of this iteration and prompt."""
        among = len(self.candidates(sigmas))
        step = drawn_step(among, derive_seed("branch step", self.seed, iteration, prompt))
        plan = windowed_plan(sigmas, [step])
        branch = replace(SDE, children=self.children)
        return replace(plan, steps=(*plan.steps[:step], branch, *plan.steps[step + 1 :]))
