"""A tree whose splits wander to later steps over a run: the rollouts of TMPO (arXiv 2605.10983)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from ..support.memory import NOTHING, Memory
from ..support.seeds import derive_seed
from ..support.setting import require_finite
from .planners import ODE, SDE, Planner, StepPlan

_FIRST = 1
_INSIDE = 1e-3


def apart(places: Sequence[int], gap: int, last: int) -> list[int]:
    """Ascending places that are at least ``gap`` apart and end at ``last``: pushed up first, then down from the end."""
    found = sorted(places)
    for i in range(1, len(found)):
        found[i] = max(found[i], found[i - 1] + gap)
    limit = last
    for i in range(len(found) - 1, -1, -1):
        found[i] = min(found[i], limit)
        limit = found[i] - gap
    return found


@dataclass(frozen=True)
class WanderingTreePlanner(Planner):
    """ODE but at a few SDE steps, where each row splits; the splits move from ``early`` to ``late`` over the run.

    Split j stands at ``1 + (hi - 1) Beta(f kappa, (1 - f) kappa)``, rounded, with ``f`` the place of its mean
    ``early + (late - early) p`` between 1 and ``hi``, ``p = min(iteration / over, 1)`` and ``hi = T - 2``; then they
    are pushed apart. The same for all prompts of an iteration. After TMPO (arXiv 2605.10983), as read in
    github.com/MAIR-Lab-HUST/TMPO: FLUX with 6 steps, 3 children, 27 leaves, CPS 0.7, over 500 updates. Its objective is
    `TMPO`.

    Differences: splits keep their number (there a last clamp can merge them, and the tree then has fewer leaves), and a
    first split at step 1 is a step like others (there it becomes 3 start noises, with one trained step less, and the
    next is scored at a wrong level).

    Attributes:
        early, late: mean places at the start and at the end, of equal number.
        children: of each row at a split, 2 or more.
        over: iterations in which the means go from early to late.
        kappa: concentration of the draw; 0 takes the rounded means.
        gap: least distance of splits.
        seed: of the draw.
    """

    label: ClassVar[str] = "wandering tree (after TMPO)"

    early: tuple[int, ...] = (1, 2, 3)
    late: tuple[int, ...] = (1, 3, 5)
    children: int = 3
    over: int = 500
    kappa: float = 6.0
    gap: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite(self)
        if not self.early or len(self.early) != len(self.late) or min(*self.early, *self.late, 1) < 1:
            raise ValueError(f"early and late must be as many steps of 1 or more, found {self.early} and {self.late}")
        if self.children < 2 or self.over < 1 or self.gap < 1 or not self.kappa >= 0:
            raise ValueError(
                "expected children of 2 or more, over and gap of 1 or more and kappa of 0 or more, found "
                f"{self.children}, {self.over}, {self.gap} and {self.kappa}"
            )

    def candidates(self, sigmas: Tensor) -> tuple[int, ...]:
        """The steps that a split can stand at. Raises ``ValueError`` where there are too few for all splits."""
        last, needed = len(sigmas) - 3, _FIRST + self.gap * (len(self.early) - 1)
        if last < needed:
            raise ValueError(
                f"{len(self.early)} splits that are {self.gap} apart need at least {needed + 3} steps, found "
                f"{len(sigmas) - 1}: take more steps, or fewer splits"
            )
        return tuple(range(_FIRST, last + 1))

    def splits(self, iteration: int, sigmas: Tensor) -> list[int]:
        """The splits of an iteration over ``sigmas [T + 1]``, ascending."""
        last, way = self.candidates(sigmas)[-1], min(iteration / self.over, 1.0)
        means = [early + (late - early) * way for early, late in zip(self.early, self.late, strict=True)]
        drawn = [self._drawn(min(max(mean, _FIRST), last), last, (iteration, j)) for j, mean in enumerate(means)]
        return apart(drawn, self.gap, last)

    def _drawn(self, mean: float, last: int, keys: tuple[int, int]) -> int:
        if self.kappa == 0 or last == _FIRST:
            return round(mean)
        share = min(max((mean - _FIRST) / (last - _FIRST), _INSIDE), 1 - _INSIDE)
        draw = random.Random(derive_seed("splits", self.seed, *keys))
        return round(_FIRST + (last - _FIRST) * draw.betavariate(share * self.kappa, (1 - share) * self.kappa))

    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """SDE with children at the splits, ODE elsewhere."""
        splits, branch = self.splits(iteration, sigmas), replace(SDE, children=self.children)
        return StepPlan(sigmas, tuple(branch if i in splits else ODE for i in range(len(sigmas) - 1)))
