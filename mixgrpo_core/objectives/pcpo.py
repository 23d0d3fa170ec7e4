"""PCPO: a hinge on the log-ratio, and a credit of each step that is proportional to its length."""

from dataclasses import dataclass
from typing import ClassVar

from .log_hinge import LogHingeObjective
from .step_weights import ProportionalCredit, StepWeight


@dataclass(frozen=True)
class PCPO(LogHingeObjective):
    """A hinge on the log-ratio in the place of the clipped ratio, with steps that count by their length.

    ``mean(max(0, xi |A| - A f log r))``, ``f = zeta h std / kappa``, over members and trained steps. After
    Proportionate Credit Policy Optimization, whose code is not to be had: its formulas as notes and
    github.com/jaylee2000/rsm tell them. ``zeta`` follows from the steps that the planner may train.

    At ``log r`` near 0 its gradient is that of the unclipped ratio; ``1`` times ``d log r`` takes the place of ``r``
    times it, and cells whose ``A f log r`` has reached ``xi |A|`` have none. ``log r`` is a mean over the latent
    elements. Its figures are ``stopped``, the share of cells without a gradient, and ``step_weight``, the mean
    factor on gradients.

    Attributes:
        margin: xi, of the weighted log-ratio. None takes 0.7 x ``default_clip``: the 1e-4 of rsm at 65536 elements.
        adv_clip: advantages are clamped to +-adv_clip, 5 in rsm.
        kl: weight of the KL to the base model in velocity space, as in ``GRPO``.
        step_weight: how much each trained step counts.
    """

    label: ClassVar[str] = "after PCPO"

    step_weight: StepWeight = ProportionalCredit()
