"""A tree that splits at a few of its noisy steps: the rollouts of BranchGRPO (arXiv 2509.06040)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..support.memory import NOTHING, Memory
from ..support.setting import require_finite
from .planners import ODE, Planner, Step, StepPlan, Trainable


@dataclass(frozen=True)
class BranchPlanner(Planner):
    """Every step but the last is sampled by the SDE; at some of them each row splits into several.

    BranchGRPO (arXiv 2509.06040), as read in github.com/Fredreic1849/BranchGRPO: 20 steps, shift 3, Dance kernel 0.3,
    splits at 0, 3, 6, 9 into 16 leaves, clip 1e-3, learning rate 1e-5 (full), 300 iterations. Its credit is
    `DepthCredit`. Rows before a split are evaluated once for all leaves under them.

    Pruning by depth: the steps ``pruned`` are noisy and not trained; that saves their rows in the update. Every
    ``slide`` iterations they move one step to the front, until the first of them is at ``stop``. Off in the published
    script, which numbers a step by the depth it leads to: its example "15,16,17,18" with stop 9 is
    ``pruned=(14, 15, 16, 17), stop=8`` here.

    Traps: the published code draws the noise of a split four times as wide and scores it as if it were not (-7.5 per
    element); ``strength`` widens both. A tree's images are relatives: watch the group's spread. Independent starts
    (``shared_noise=False``) with fewer leaves than images make several trees, which `DepthCredit` compares as one.

    Attributes:
        splits: the steps that split, ascending.
        children: of each row there, 2 or more.
        strength: factor on the kernel's eta at the splits.
        pruned: steps that are not trained, ascending.
        slide: iterations between their moves; 0 leaves them where they are.
        stop: the least that the first of them reaches; None is the last split.
    """

    label: ClassVar[str] = "branches (BranchGRPO)"

    splits: tuple[int, ...] = (0, 3, 6, 9)
    children: int = 2
    strength: float = 1.0
    pruned: tuple[int, ...] = ()
    slide: int = 30
    stop: int | None = None

    def __post_init__(self) -> None:
        require_finite(self)
        for name, steps in (("splits", self.splits), ("pruned", self.pruned)):
            if list(steps) != sorted({*steps}) or any(step < 0 for step in steps):
                raise ValueError(f"{name} must be steps of 0 and more, ascending, found {steps}")
        if not self.splits or self.children < 2:
            raise ValueError(f"a tree splits at one step or more into 2 or more, found {self.splits}, {self.children}")
        if not self.strength > 0 or self.slide < 0:
            raise ValueError(f"strength must be above 0 and slide 0 or more, found {self.strength} and {self.slide}")

    def pruned_at(self, iteration: int) -> frozenset[int]:
        """The steps that are not trained in an iteration."""
        moves = min(iteration // self.slide, self._most_moves) if self.slide else 0
        return frozenset(step - moves for step in self.pruned)

    @property
    def _most_moves(self) -> int:
        stop = self.splits[-1] if self.stop is None else self.stop
        return max(0, self.pruned[0] - stop) if self.pruned else 0

    def candidates(self, sigmas: Tensor) -> tuple[int, ...]:
        """The steps that are not always pruned. Raises ``ValueError`` for splits that do not fit."""
        steps = len(sigmas) - 1
        if self.splits[-1] >= steps - 1:
            raise ValueError(
                f"the tree splits at step {self.splits[-1]}, and of {steps} steps the last that can is {steps - 2}: "
                f"take at least {self.splits[-1] + 2} steps, or splits that come earlier"
            )
        moves = range(self._most_moves + 1 if self.slide else 1)
        never = frozenset.intersection(*(frozenset(step - move for step in self.pruned) for move in moves))
        return tuple(step for step in range(steps - 1) if step not in never)

    def trainable(self, sigmas: Tensor) -> Sequence[Trainable]:
        """The steps with the strength of the splits."""
        return [Trainable(sigmas[i], sigmas[i + 1], self._strength(i)) for i in self.candidates(sigmas)]

    def _strength(self, step: int) -> float:
        return self.strength if step in self.splits else 1.0

    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """SDE everywhere but at the last step, the same for all prompts."""
        self.candidates(sigmas)  # splits that do not fit are told
        pruned = self.pruned_at(iteration)
        steps = [
            Step(
                stochastic=True,
                trained=i not in pruned,
                strength=self._strength(i),
                children=self.children if i in self.splits else 1,
            )
            for i in range(len(sigmas) - 2)
        ]
        return StepPlan(sigmas, (*steps, ODE))
