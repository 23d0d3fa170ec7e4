"""One SDE step over several steps of the grid, after E-GRPO (arXiv 2601.00423)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..support.memory import NOTHING, Memory
from ..support.seeds import derive_seed
from ..support.setting import require_finite
from .iso_temporal import drawn_step, noisier
from .planners import Planner, StepPlan, Trainable, windowed_plan


@dataclass(frozen=True)
class MergedStepPlanner(Planner):
    """One SDE step from level k to level k + merge is trained; the levels between are left out, ODE elsewhere.

    ``std = eta sqrt(t / (1 - t)) sqrt(t_k - t_(k + merge))`` for Flow-SDE: a longer step explores more, and its entropy
    ``log(2 pi e std^2) / 2`` is larger. Each prompt and iteration draws its k evenly from the noisy end.

    After E-GRPO (arXiv 2601.00423), as read in github.com/shengjun-zhang/VisualGRPO (16 steps, Flow-SDE 0.7, shift 3,
    12 images, clip 1e-4). Differences: there one ODE path per prompt is left at every k of a list, and rewards of
    several tails of other step counts are added; here a prompt draws one k, which has the same expectation, and one
    tail. Its shipped settings merge nothing (merge 1), and its tail begins at k + 1 whatever was merged; here it begins
    where the step ended. ``merge=1`` is `IsoTemporalPlanner`.

    Traps: merged steps near pure noise have a std above 1 (1.05 at k = 1, merge 2). An image has merge - 1 steps less.

    Attributes:
        merge: steps of the grid that the SDE step spans, 1 or more; 2 is ours.
        share: of the steps, from the noisy end, that k is drawn from; 0.5 is ours.
        seed: of the draw.
    """

    label: ClassVar[str] = "merged step (after E-GRPO)"

    merge: int = 2
    share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite(self)
        if self.merge < 1 or not 0 < self.share <= 1:
            raise ValueError(
                f"merge must be 1 or more and share above 0 and at most 1, found {self.merge} and {self.share}"
            )

    def candidates(self, sigmas: Tensor) -> tuple[int, ...]:
        """The steps that k is drawn from. Raises ``ValueError`` where the grid is too short to merge so many."""
        steps = len(sigmas) - 1
        if steps < self.merge + 1:
            raise ValueError(
                f"MergedStepPlanner merges {self.merge} steps and the last one is never trained, found {steps} steps: "
                f"take at least {self.merge + 1}, or merge fewer"
            )
        return tuple(range(min(noisier(steps, self.share), steps - self.merge)))

    def trainable(self, sigmas: Tensor) -> Sequence[Trainable]:
        """The merged steps."""
        return [Trainable(sigmas[step], sigmas[step + self.merge]) for step in self.candidates(sigmas)]

    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """SDE at the merged step of this iteration and prompt, over the grid without the levels inside of it."""
        among = len(self.candidates(sigmas))
        step = drawn_step(among, derive_seed("merged step", self.seed, iteration, prompt))
        return windowed_plan(torch.cat([sigmas[: step + 1], sigmas[step + self.merge :]]), [step])
