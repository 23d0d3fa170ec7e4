"""How much each trained step counts: a factor on its log-ratio and a factor on its loss.

On policy, the gradient of a step per unit of the rollout's noise is ``kappa / std`` times both factors, with
``kappa = |d mean / d v|`` (`Kernel.sensitivity`). A factor on the log-ratio also moves where it is clipped; a factor on
the loss does not. Loss factors have mean 1 over the steps that the planner may ever train, so that a weighting changes
which steps count and not the size of the update, and a planner of one step a prompt keeps its weighting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .pieces import StepNumbers


class StepWeight(Protocol):
    """A rule for the two factors of a step."""

    def on_log_ratio(self, step: StepNumbers) -> float:
        """The factor on the log-ratio."""
        return 1.0

    def on_loss(self, step: StepNumbers) -> float:
        """The factor on the loss, before it is normalised over the candidates."""
        return 1.0

    def loss_factor(self, step: StepNumbers, candidates: Sequence[StepNumbers]) -> float:
        """The factor on the loss, with mean 1 over ``candidates``; without any over the step alone."""
        among = candidates or (step,)
        return self.on_loss(step) * len(among) / sum(map(self.on_loss, among))


@dataclass(frozen=True)
class Even(StepWeight):
    """All steps alike: GRPO as published. Its gradient grows along the trajectory as ``kappa / std``."""

    def loss_factor(self, step: StepNumbers, candidates: Sequence[StepNumbers]) -> float:
        """1, and exactly."""
        return 1.0


@dataclass(frozen=True)
class FlatGradient(StepWeight):
    """Loss times ``std / kappa``: every step's gradient has the same size (the weights of Flash-GRPO)."""

    def on_loss(self, step: StepNumbers) -> float:
        """``std / kappa``."""
        return step.std / step.kappa


@dataclass(frozen=True)
class GuardWeight(StepWeight):
    """Log-ratio times ``std``, loss times ``1 / kappa``: GRPO-Guard (arXiv 2510.22319), for any kernel.

    The published weight ``1 / h`` is this for Flow-SDE, where kappa is h times a constant.
    """

    def on_log_ratio(self, step: StepNumbers) -> float:
        """``std``."""
        return step.std

    def on_loss(self, step: StepNumbers) -> float:
        """``1 / kappa``."""
        return 1 / step.kappa
