"""Reward Score Matching of order zero: the matching loss, which is a hinge on the log-ratio."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..sampling.kernels import working
from .log_hinge import LogHingeObjective
from .step_weights import FairClipFlat, StepWeight


def matching_cost(v: Tensor, v_old: Tensor, noise: Tensor, kappa: float, std: float) -> Tensor:
    """``mean((w d)^2) / 2 + mean(w d z)`` with ``w = kappa / std``, ``d = v - v_old``: ``[g]``, from ``[g, *L]``.

    ``z`` is the noise of a step whose mean moves by ``kappa d``; the sign of ``d`` is the kernel's. It is minus the
    log-ratio of the step, exactly.
    """
    change = kappa / std * (working(v) - working(v_old)).flatten(1)
    return change.square().mean(1) / 2 + (change * working(noise).flatten(1)).mean(1)


@dataclass(frozen=True)
class RSM(LogHingeObjective):
    """The matching loss of Reward Score Matching: the hinge of ``PCPO``, clipped equally often at every step.

    ``mean(max(0, c |A| + A m))`` with the matching cost ``m = mean((w dv)^2) / 2 + mean(w dv z)`` of `matching_cost`,
    which is ``-log r`` exactly; the log-ratio is taken, as the velocities and the noise of the rollout would need more
    memory for the same number. As read in github.com/jaylee2000/rsm (order zero, figure 4a): ``m`` times std^2, the
    loss times ``g / (std^2 sqrt(h))``, with a mean of 1 over the steps that may be trained.

    Published: SD3.5-M, 10 steps, guidance 4.5, learning rate 3e-4, 6 to 10 images from each of the noisy steps. There
    the KL is in units of g^2, here in velocity space. The method's variants are weightings: ``FairClip``, and
    ``NoiseLevel`` for TempFlow's. Variants by the reward's gradient are not here.

    Attributes:
        margin: c, of the log-ratio times std^2. None takes 0.7 x ``default_clip``: 1e-4 as published at 65536 elements.
        adv_clip: advantages are clamped to +-adv_clip, 5 as published.
        kl: weight of the KL to the base model in velocity space, as in ``GRPO``.
        step_weight: how much each trained step counts.
    """

    label: ClassVar[str] = "RSM (matching loss)"

    step_weight: StepWeight = FairClipFlat()
