"""A window whose steps branch: the rollouts of TreeGRPO, and noise that grows with depth after Dynamic-TreeRPO."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from ..support.memory import NOTHING, Memory
from ..support.setting import require_finite
from .planners import SDE, Step, StepPlan, Trainable, WindowPlanner
from .windows import SlidingWindow, Window


@dataclass(frozen=True)
class TreePlanner(WindowPlanner):
    """Inside the window every row of a step gets ``children`` successors: ``children ** size`` images of one start.

    After TreeGRPO (arXiv 2512.08153): SDE with children inside a contiguous window, ODE elsewhere, so that
    ``(k^w - 1) / (k - 1)`` rows are trained for ``k^w`` images. A copy of its code has 10 steps, k 2, w 4, a window
    that moves by 1 every 50 epochs, Flow-SDE 0.7, clip 1e-4; a note on the paper has k 3, w 3 and a start drawn by
    `GeometricWindow`. With plain advantages and ``GRPO`` this is TreeGRPO already: see `BackedUp`.

    ``growth`` above 0 makes the noise grow with depth: ``strength = 1 + growth d / w`` at the window's step d, in the
    sample and in its log-prob alike. Inspired by Dynamic-TreeRPO (arXiv 2509.23352), of which only the linear growth is
    public; its clip by reward and its regression to the best path are left out.

    Sharing saves rows: with 10 steps and a window of 4 at the start, 16 images take 6.9 evaluations each in the rollout
    and 0.94 in the update, where a chain takes 9.1 and 3.06. Traps: the images are relatives; a group must hold a
    multiple of the leaves.

    Attributes:
        window: its size is the tree's depth.
        tail_ratio: as in `WindowPlanner`.
        children: of each row, 2 or more.
        growth: of the noise along the window, 0 or more.
    """

    label: ClassVar[str] = "tree (after TreeGRPO)"

    window: Window = SlidingWindow(size=4, stride=1, hold=50)
    children: int = 2
    growth: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite(self)
        if self.children < 2 or not self.growth >= 0:
            raise ValueError(
                f"children must be 2 or more and growth 0 or more, found {self.children} and {self.growth}"
            )

    def step_at(self, depth: int) -> Step:
        """The window's step number ``depth``."""
        return replace(SDE, children=self.children, strength=1 + self.growth * depth / self.window.size)

    def trainable(self, sigmas: Tensor) -> Sequence[Trainable]:
        """Each step at each depth of the window that it can stand at."""
        steps, size = self.candidates(sigmas), self.window.size
        depths = range(size) if self.growth else range(1)
        first, last = steps[0], steps[-1]
        return [
            Trainable(sigmas[step], sigmas[step + 1], self.step_at(depth).strength)
            for step in steps
            for depth in depths
            if not self.growth or first <= step - depth <= last + 1 - size
        ]

    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """The window's plan with steps that branch."""
        plan = super().plan(iteration, prompt, sigmas, memory)
        first = plan.trained[0]
        return replace(
            plan, steps=tuple(self.step_at(i - first) if step.trained else step for i, step in enumerate(plan.steps))
        )
