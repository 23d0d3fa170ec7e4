"""What each step of one rollout is, and the planners that decide it.

A plan is a pure function of the iteration number and of what the planner remembers, which the run keeps.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from ..rewards.port import Scores
from ..support.memory import NOTHING, Memory
from ..support.seeds import derive_seed
from ..support.setting import require_finite
from .schedule import check_sigmas, flash_sigmas
from .windows import SlidingWindow, Window


@dataclass(frozen=True, kw_only=True)
class Step:
    """One denoising step.

    Attributes:
        stochastic: sampled by the kernel (SDE) instead of the solver (ODE).
        trained: its transitions are recorded and trained on; only a stochastic step can be.
        recorded: the latents before it are kept as a state without a probability (of step 0: the start noise).
        strength: factor on the kernel's eta.
        children: how many successors each row gets; above 1 the step branches (a tree).
    """

    stochastic: bool = False
    trained: bool = False
    recorded: bool = False
    strength: float = 1.0
    children: int = 1

    def __post_init__(self) -> None:
        if self.trained and not self.stochastic:
            raise ValueError("a trained step must be stochastic: a deterministic step has no probability to train on")
        if self.children < 1 or (self.children > 1 and not self.stochastic):
            raise ValueError(
                f"only a stochastic step can branch; found children={self.children} on a deterministic one"
            )
        if not self.strength > 0 and self.stochastic:
            raise ValueError(f"a stochastic step needs a noise strength above 0, found {self.strength}")


ODE = Step()
SDE = Step(stochastic=True, trained=True)


@dataclass(frozen=True)
class StepPlan:
    """The sigmas ``[T + 1]`` of one rollout and what each of its T steps is. The last step is deterministic."""

    sigmas: Tensor
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        check_sigmas(self.sigmas)
        if len(self.steps) != len(self.sigmas) - 1:
            raise ValueError(
                f"expected {len(self.sigmas) - 1} steps for {len(self.sigmas)} sigmas, found {len(self.steps)}"
            )
        if self.steps[-1].stochastic:
            raise ValueError(
                "the last step must be deterministic: it ends at sigma 0, where noise would stay in the image"
            )

    @property
    def trained(self) -> tuple[int, ...]:
        """Indices of the trained steps, ascending."""
        return tuple(i for i, step in enumerate(self.steps) if step.trained)

    @property
    def recorded(self) -> tuple[int, ...]:
        """Indices of the steps before which the latents are kept, ascending."""
        return tuple(i for i, step in enumerate(self.steps) if step.recorded)

    @property
    def stochastic(self) -> tuple[int, ...]:
        """Indices of the stochastic steps, ascending."""
        return tuple(i for i, step in enumerate(self.steps) if step.stochastic)

    def untrained(self) -> "StepPlan":
        """The same steps, of which none is trained: they stay noisy and recorded as they are."""
        return replace(self, steps=tuple(replace(step, trained=False) for step in self.steps))

    @property
    def leaves_per_row(self) -> int:
        """How many images one row becomes by the plan's own branching."""
        return prod(step.children for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """What became of one group: what a planner or a prompt source may learn from.

    Attributes:
        prompt: number of its prompt among those that are trained on.
        plan: how it was rolled out.
        scores: of the trained rewards, values ``[G]`` by name.
    """

    prompt: int
    plan: StepPlan
    scores: Mapping[str, Scores]


class Trainable(NamedTuple):
    """A step that may be trained: its levels, and the factor on the kernel's eta."""

    sigma: Tensor
    sigma_next: Tensor
    strength: float = 1.0


class Planner(Protocol):
    """Decides the plan of a rollout. What it remembers is handed to it and back; by default it remembers nothing."""

    @abstractmethod
    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """The plan of prompt number ``prompt`` in ``iteration`` (from 0) over the grid ``sigmas [T + 1]``, float."""
        ...

    def candidates(self, sigmas: Tensor) -> tuple[int, ...]:
        """Steps of the grid ``sigmas [T + 1]``, float, that it may ever train, ascending: step weights average 1."""
        return tuple(range(len(sigmas) - 2))

    def trainable(self, sigmas: Tensor) -> Sequence["Trainable"]:
        """The same steps of ``sigmas [T + 1]``, float, with levels and strengths: one per form of a trained step."""
        return [Trainable(sigmas[step], sigmas[step + 1]) for step in self.candidates(sigmas)]

    def learn(self, memory: Memory, groups: Sequence[GroupResult]) -> Memory:
        """The new memory after an iteration of these groups."""
        return memory


@dataclass(frozen=True)
class WindowPlanner(Planner):
    """MixGRPO: SDE and training inside the window, ODE everywhere else (arXiv 2507.21802, sec. 4.1).

    Attributes:
        window: where the window stands in each iteration.
        tail_ratio: share of the steps that remain after the window; below 1 it is MixGRPO-Flash (sec. 4.2).
    """

    label: ClassVar[str] = "window"

    window: Window = SlidingWindow()
    tail_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not callable(getattr(self.window, "at", None)):
            raise ValueError(f"window must be a window such as SlidingWindow(size=4), found {self.window!r}")
        if not 0 < self.tail_ratio <= 1:
            raise ValueError(f"tail_ratio must be above 0 and at most 1, found {self.tail_ratio}")

    def candidates(self, sigmas: Tensor) -> tuple[int, ...]:
        """The steps that the window ever reaches; of a window that does not tell, any but the last."""
        steps, reach = len(sigmas) - 1, getattr(self.window, "reach", None)
        return tuple(range(steps - 1) if reach is None else reach(steps))

    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """SDE inside the window of this iteration, the same for all prompts."""
        window = self.window.at(iteration, len(sigmas) - 1)
        grid = flash_sigmas(sigmas, window.stop, self.tail_ratio)
        return StepPlan(grid, tuple(SDE if i in window else ODE for i in range(len(grid) - 1)))


@dataclass(frozen=True)
class FullPlanner(Planner):
    """SDE on every step but the last (Flow-GRPO, DanceGRPO), training on a random share of them.

    Flow-GRPO (arXiv 2505.05470) trains them all, DanceGRPO (arXiv 2505.07818) a share.

    Attributes:
        trained_share: share of the T - 1 noisy steps that is trained (DanceGRPO: 0.6, i.e. 14 of 24 at T = 25,
            rounded down); every prompt draws its own. 1 trains them all.
        seed: seed of the draw.
    """

    label: ClassVar[str] = "everywhere"

    trained_share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite(self)
        if not 0 < self.trained_share <= 1:
            raise ValueError(f"trained_share must be above 0 and at most 1, found {self.trained_share}")

    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """SDE everywhere; the trained steps are a draw of (seed, iteration, prompt)."""
        noisy = len(sigmas) - 2
        count = max(1, int(noisy * self.trained_share))
        generator = torch.Generator().manual_seed(derive_seed("trained steps", self.seed, iteration, prompt))
        trained = set(torch.randperm(noisy, generator=generator)[:count].tolist())
        steps = tuple(Step(stochastic=True, trained=i in trained) for i in range(noisy))
        return StepPlan(sigmas, (*steps, ODE))


@dataclass(frozen=True)
class OdePlanner(Planner):
    """Plain ODE sampling, for objectives that make noise of their own. A group must then start from different noise.

    The rollout of DiffusionNFT (arXiv 2509.16117) and of those after it.
    """

    label: ClassVar[str] = "plain ODE"

    def candidates(self, sigmas: Tensor) -> tuple[int, ...]:
        """No step is trained."""
        return ()

    def plan(self, iteration: int, prompt: int, sigmas: Tensor, memory: Memory = NOTHING) -> StepPlan:
        """ODE everywhere."""
        return deterministic_plan(sigmas)


def deterministic_plan(sigmas: Tensor) -> StepPlan:
    """Plain ODE sampling over ``sigmas [T + 1]``: how held-out images are made."""
    return StepPlan(sigmas, (ODE,) * (len(sigmas) - 1))


def windowed_plan(sigmas: Tensor, window: Sequence[int]) -> StepPlan:
    """A plan over ``sigmas [T + 1]`` whose steps in ``window`` are SDE: what a sampler with a fixed window uses.

    Raises:
        ValueError: the last step is in the window, or ``sigmas`` is no schedule.
    """
    return StepPlan(sigmas, tuple(SDE if i in window else ODE for i in range(len(sigmas) - 1)))
