"""The guards' port: numbers of images and iterations in, an alarm or none out; a memory for checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

from ...rewards.stats import RewardStats
from ...support.memory import Memory

Level = Literal["warn", "stop"]


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A guard's finding: ``warn`` or ``stop``, and a sentence that says what is wrong and what to do."""

    guard: str
    level: Level
    sentence: str

    def __str__(self) -> str:
        return f"{self.guard}: {self.sentence}"


@dataclass(frozen=True, kw_only=True)
class EvaluationView:
    """A held-out evaluation, as a guard sees it.

    Attributes:
        iteration: iterations done; the first evaluation of a run is at 0.
        rewards: held-out figures of all rewards.
        weights: of the rewards that are trained on.
        rollouts: their figures over the rollouts since the evaluation before; empty at the first.
        measured: what ``measure`` said of the images, joined over the prompts.
    """

    iteration: int
    rewards: Mapping[str, RewardStats]
    weights: Mapping[str, float]
    rollouts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    measured: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class IterationView:
    """An iteration of training, as a guard hears of it.

    Attributes:
        iteration: its number, from 0: the images of the first are the untrained model's.
        rewards: figures of the trained rewards over its rollouts.
        weights: of these rewards.
        groups: of every prompt, the mean of each reward that scored any of its images.
        figures: of its updates, by name (``grad_norm``, ``clip_low``, ...).
        learning_rate: of the run.
        measured: what ``look`` said of its images, joined over the prompts.
    """

    iteration: int
    rewards: Mapping[str, RewardStats]
    weights: Mapping[str, float]
    groups: Sequence[Mapping[str, float]] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    measured: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Guard(Protocol):
    """Watches a run: held-out evaluations, iterations of training, or both; by default neither.

    A frozen dataclass of settings: what it remembers is handed to it and back.
    """

    def look(self, images: Tensor) -> Mapping[str, Sequence[float]]:
        """Numbers of the rolled out images ``[G, H, W, 3]`` in 0..1 of one prompt, to be heard with the iteration."""
        return {}

    def hear(self, heard: IterationView, memory: Memory) -> tuple[Alarm | None, Memory]:
        """An alarm or None after an iteration, and the new memory; ``memory`` is empty at first."""
        return None, memory

    def measure(self, images: Tensor) -> Mapping[str, Sequence[float]]:
        """Numbers of one held-out prompt's images ``[n, H, W, 3]`` in 0..1, to be judged when all are measured."""
        return {}

    def judge(self, seen: EvaluationView, memory: Memory) -> tuple[Alarm | None, Memory]:
        """An alarm or None after an evaluation, and the new memory; ``memory`` is empty at first."""
        return None, memory


def level_of(warn: float | None, stop: float | None, passed: Callable[[float], bool]) -> Level | None:
    """The graver level whose threshold is ``passed``; None where neither is."""
    if stop is not None and passed(stop):
        return "stop"
    return "warn" if warn is not None and passed(warn) else None


def require_thresholds(warn: float | None, stop: float | None) -> None:
    """Raise ``ValueError`` unless both are above 0 or None."""
    for name, value in (("warn", warn), ("stop", stop)):
        if value is not None and not value > 0:
            raise ValueError(f"a guard's {name} must be above 0, or None for never, found {value}")
