"""What the clipped objectives share: their weights, and the step from a policy loss to a report."""

from dataclasses import dataclass

from torch import Tensor

from ..models.port import Policy
from ..sampling.trajectory import Transition
from .port import REFERENCE, TRANSITIONS, LossReport
from .ratio import ClipRange, PolicyLoss, as_range, velocity_kl


@dataclass(frozen=True)
class ClippedObjective:
    """The weights of a clipped objective; ``GRPO`` says what they mean."""

    clip: ClipRange | None = None
    adv_clip: float = 5.0
    kl: float = 0.0

    def __post_init__(self) -> None:
        if self.clip is not None:
            as_range(self.clip)
        if not self.adv_clip > 0:
            raise ValueError(f"adv_clip must be above 0, found {self.adv_clip}")
        if not self.kl >= 0:
            raise ValueError(f"kl is a weight and must be 0 or more, found {self.kl}")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({TRANSITIONS, REFERENCE} if self.kl else {TRANSITIONS})


def policy_report(policy: PolicyLoss, velocity: Policy, transition: Transition, v: Tensor, kl: float) -> LossReport:
    """Add ``kl`` times the KL to the base model in velocity space (skipped at 0) and gather the figures.

    ``v [R, *L]`` is the current policy's velocity at ``transition.x``.
    """
    loss, means = policy.loss, {"clip_low": policy.clip_fraction_low, "clip_high": policy.clip_fraction_high}
    if kl:
        divergence = velocity_kl(v, velocity.reference(transition.x, transition.sigma))[transition.parent].mean()
        loss, means = loss + kl * divergence, {**means, "kl": divergence.detach()}
    return LossReport(loss=loss, means=means, maxima={"ratio_deviation": (policy.ratio.detach() - 1).abs().max()})
