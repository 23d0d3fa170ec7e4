"""What the clipped ratio objectives share: their settings, their terms, and the report of a policy loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..models.policy import Policy
from ..support.setting import ENDLESS, require_finite
from .pieces import Piece
from .port import RATIO_DEVIATION, TRANSITIONS, LossReport, Objective
from .ratio import ClipRange, PolicyLoss, as_range, default_clip
from .regularisers import Regulariser, VelocityKL


@dataclass(frozen=True)
class ClippedObjective(Objective):
    """The settings of a clipped objective; ``GRPO`` says what they mean."""

    clip: ClipRange | None = field(default=None, metadata=ENDLESS)
    adv_clip: float = field(default=5.0, metadata=ENDLESS)
    kl: float = 0.0

    def __post_init__(self) -> None:
        require_finite(self)
        if self.clip is not None:
            as_range(self.clip)
        if not self.adv_clip > 0:
            raise ValueError(f"adv_clip must be above 0, found {self.adv_clip}")
        if not self.kl >= 0:
            raise ValueError(f"kl is a weight and must be 0 or more, found {self.kl}")

    @property
    def needs(self) -> frozenset[str]:
        """The recorded steps."""
        return frozenset({TRANSITIONS})

    @property
    def regularisers(self) -> Sequence[Regulariser]:
        """The KL to the base model in velocity space, where ``kl`` is above 0."""
        return (VelocityKL(self.kl),) if self.kl else ()

    def clip_range(self, latent_elements: int, channels: int = 1) -> tuple[float, float]:
        """(low, high) for latents of that many elements."""
        return as_range(default_clip(latent_elements) if self.clip is None else self.clip)

    def log_ratio(self, policy: Policy, piece: Piece) -> Tensor:
        """``log_prob - old_log_prob`` per member, ``[g]``."""
        return log_prob(policy, piece) - piece.step.old_log_prob


def log_prob(policy: Policy, piece: Piece) -> Tensor:
    """Mean log-probability ``[g]`` of a recorded step under the policy being trained."""
    transition = piece.step
    rows = transition.gaussian(policy(piece.x, piece.sigma))
    return transition.per_member(rows).log_prob(transition.x_next)


def log_prob_terms(policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
    """`log_prob` as a term."""
    return {"log_prob": log_prob(policy, piece)}


def old_log_prob_terms(piece: Piece) -> Mapping[str, Tensor]:
    """The rollout's log-probability as a term without gradient."""
    return {"old_log_prob": piece.step.old_log_prob}


def policy_report(policy: PolicyLoss, factor: float = 1.0) -> LossReport:
    """The figures of a policy loss, which is multiplied with ``factor``."""
    return LossReport(
        loss=policy.loss if factor == 1.0 else policy.loss * factor,
        means={"clip_low": policy.clip_fraction_low, "clip_high": policy.clip_fraction_high},
        maxima={RATIO_DEVIATION: (policy.ratio.detach() - 1).abs().max()},
    )
