"""How much each trained step counts: a factor on its log-ratio and a factor on its loss.

On policy, the gradient of a step per unit of the rollout's noise is ``kappa / std`` times both factors, with
``kappa = |d mean / d v|`` (`Kernel.sensitivity`). A factor on the log-ratio also moves where it is clipped; a factor on
the loss does not. Loss factors have mean 1 over the steps that the planner may ever train, so that a weighting changes
which steps count and not the size of the update, and a planner of one step a prompt keeps its weighting.

For Flow-SDE ``kappa = h (1 + eta^2 / 2)``, so these are three weightings: the gradient per unit of noise is

* ``kappa / std``, growing 43-fold from step 1 to 23 (25 steps, shift 3, eta 0.7): Even, FairClip;
* flat: FlatGradient (Flash-GRPO), GuardWeight (GRPO-Guard), FairClipFlat (RSM);
* proportional to the step's length h: NoiseLevel (TempFlow-GRPO), ProportionalCredit (PCPO).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..support.facts import RunFacts
from .pieces import StepNumbers


class StepWeight(Protocol):
    """A rule for the two factors of a step."""

    def on_log_ratio(self, step: StepNumbers) -> float:
        """The factor on the log-ratio, of a rule that looks at one step only."""
        return 1.0

    def log_ratio_factor(self, step: StepNumbers, candidates: Sequence[StepNumbers]) -> float:
        """The factor on the log-ratio."""
        return self.on_log_ratio(step)

    def on_loss(self, step: StepNumbers) -> float:
        """The factor on the loss, before it is normalised over the candidates."""
        return 1.0

    def loss_factor(self, step: StepNumbers, candidates: Sequence[StepNumbers]) -> float:
        """The factor on the loss, with mean 1 over ``candidates``; without any over the step alone."""
        among = candidates or (step,)
        return self.on_loss(step) * len(among) / sum(map(self.on_loss, among))


@dataclass(frozen=True)
class Even(StepWeight):
    """All steps alike: GRPO as published. Its gradient grows along the trajectory as ``kappa / std``.

    As in Flow-GRPO, arXiv 2505.05470.
    """

    def loss_factor(self, step: StepNumbers, candidates: Sequence[StepNumbers]) -> float:
        """1, and exactly."""
        return 1.0


@dataclass(frozen=True)
class FlatGradient(StepWeight):
    """Loss times ``std / kappa``: every step's gradient has the same size (the weights of Flash-GRPO).

    As read in github.com/Shredded-Pork/Flash-GRPO.
    """

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


@dataclass(frozen=True)
class NoiseLevel(StepWeight):
    """Loss times ``std``: steps count by their noise (the weights of TempFlow-GRPO, arXiv 2508.04324, eq. 8).

    The paper's ``std_i / mean(std)`` has its mean over the trained steps, here over those that the planner may train.
    With Flow-SDE the gradient of a step is then proportional to its length h. RSM has it on the log-ratio instead, with
    2.25 for 1 / mean(std), which is that of the trained 9 of its 10 steps.
    """

    def on_loss(self, step: StepNumbers) -> float:
        """``std``."""
        return step.std


@dataclass(frozen=True)
class ProportionalCredit(StepWeight):
    """Log-ratio times ``zeta h std / kappa``: a step's credit is proportional to its length h (after PCPO).

    ``zeta = sum(kappa / std) / sum(h)`` over the steps that the planner may train keeps the mean gradient of plain
    GRPO. As read in github.com/jaylee2000/rsm, whose code has a constant of 4.3152 for its 10 steps, of
    which the 9 trained ones give 3.97 here.
    """

    def log_ratio_factor(self, step: StepNumbers, candidates: Sequence[StepNumbers]) -> float:
        """``zeta h std / kappa``."""
        among = candidates or (step,)
        zeta = sum(one.kappa / one.std for one in among) / sum(one.h for one in among)
        return zeta * step.h * step.std / step.kappa

    def loss_factor(self, step: StepNumbers, candidates: Sequence[StepNumbers]) -> float:
        """1, and exactly."""
        return 1.0


@dataclass(frozen=True)
class FairClip(StepWeight):
    """Log-ratio times ``std^2``, loss times its inverse: gradients of GRPO, clipped equally often at every step.

    Reward Score Matching's "fair clip", as read in github.com/jaylee2000/rsm.
    """

    def on_log_ratio(self, step: StepNumbers) -> float:
        """``std^2``."""
        return step.std**2

    def on_loss(self, step: StepNumbers) -> float:
        """``1 / std^2``."""
        return 1 / step.std**2

    def loss_factor(self, step: StepNumbers, candidates: Sequence[StepNumbers]) -> float:
        """The factor on the loss, where the *product* of both factors has mean 1 over ``candidates``."""
        among = candidates or (step,)
        return self.on_loss(step) * len(among) / sum(self.on_log_ratio(one) * self.on_loss(one) for one in among)


@dataclass(frozen=True)
class FairClipFlat(FairClip):
    """Log-ratio times ``std^2``, loss times ``1 / (h std)``: equally often clipped, and flat gradients.

    Reward Score Matching's "fair clip 2", as read in github.com/jaylee2000/rsm: the loss times ``g / (std^2 sqrt(h))``,
    with ``g = std / sqrt(h)``, which is the noise per root of time for every kernel. Flat is the gradient where kappa
    is proportional to h.
    """

    def on_loss(self, step: StepNumbers) -> float:
        """``1 / (h std)``."""
        return 1 / (step.h * step.std)


def require_use(weight: StepWeight, facts: RunFacts) -> None:
    """Raise ``ValueError`` for a weighting of the one step that is ever trained, which it leaves as it is."""
    steps = [StepNumbers(*numbers) for numbers in facts.candidates]
    if isinstance(weight, Even) or len(steps) != 1:
        return
    factors = (weight.log_ratio_factor(steps[0], steps), weight.loss_factor(steps[0], steps))
    if all(abs(factor - 1) < 1e-9 for factor in factors):
        raise ValueError(
            f"{type(weight).__name__} weighs steps against each other, and {facts.planner} only ever trains one: take "
            "the weighting out, or choose a planner that trains several steps over the run, such as "
            "WindowPlanner(window=RandomWindow(size=1))"
        )
