"""FPO: a clipped ratio of flow-matching errors, the errors of a member's draws averaged before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..models.policy import OLD, Policy
from ..support.setting import ENDLESS, require_finite
from .clipped import policy_report
from .error_weights import ErrorWeight, NoiseError
from .forward import draws_at, error, error_of, stratified_steps
from .pieces import Draw, Noise, Piece
from .port import COLUMNS, Cells, DrawRequest, LossReport, Objective
from .ratio import ClipRange, as_range, clipped_policy_loss
from .regularisers import Regulariser, VelocityKL


def flow_log_ratio(log_prob: Tensor, old_log_prob: Tensor, per_draw: bool) -> Tensor:
    """Of minus errors ``[g, C]``: ``[g, C]`` within +-3 for a ratio per draw, else the mean over the draws, ``[g, 1]``.

    The mean of exponentials is at least the exponential of the mean (Jensen): the two are not one method.
    """
    change = log_prob - old_log_prob
    return change.clamp(-3, 3) if per_draw else change.mean(1, keepdim=True)


@dataclass(frozen=True)
class FPO(Objective):
    """GRPO's clipped ratio with the flow-matching errors of a member's draws, averaged, for its log-probability.

    ``mean(-min(A rho, A clip(rho)))``, ``rho = exp(mean over N draws of (loss_old - loss))``, both at the same level
    and noise. After Flow Policy Optimization, a method of robotics, as read in github.com/akanazawa/fpo: there the
    draws are kept with the samples; here they are fresh in every update, the policy before the update looks at the same
    ones, levels are stratified over the rollout's grid and shared by a group, and advantages are of a group.

    At the first update its gradient is that of ``mean(w A mean((v - u)^2))``, w = (1 - t)^2 or 1. It costs three
    forwards a cell (two new, one old), two with ``per_draw``.

    Attributes:
        weight: what the loss is: ``NoiseError()``, the default of the paper, or ``LevelPower(0)`` for the velocity's.
        clip: range of the ratio, 0.05 as published.
        adv_clip: advantages are clamped to +-adv_clip, as in ``GRPO``.
        levels: N, draws per member and update; 8 as published.
        per_draw: a ratio of each draw, the difference within +-3, in the place of one of the mean.
        kl: weight of the KL to the base model in velocity space, as in ``GRPO``.
    """

    label: ClassVar[str] = "after FPO"

    weight: ErrorWeight = NoiseError()
    clip: ClipRange = field(default=0.05, metadata=ENDLESS)
    adv_clip: float = field(default=5.0, metadata=ENDLESS)
    levels: int = 8
    per_draw: bool = False
    kl: float = 0.0

    def __post_init__(self) -> None:
        require_finite(self)
        as_range(self.clip)
        if not (self.adv_clip > 0 and self.levels >= 1 and self.kl >= 0):
            raise ValueError(f"expected adv_clip above 0, levels of 1 or more and kl of 0 or more, found {self}")

    @property
    def needs(self) -> frozenset[str]:
        """The policy before the update, and all draws of a member at once where they have one ratio."""
        return frozenset({OLD}) if self.per_draw else frozenset({OLD, COLUMNS})

    @property
    def regularisers(self) -> Sequence[Regulariser]:
        """The KL to the base model in velocity space, where ``kl`` is above 0."""
        return (VelocityKL(self.kl),) if self.kl else ()

    def draws(self, request: DrawRequest) -> Sequence[Draw]:
        """Stratified levels of this group and update, with fresh noise for each member."""
        steps = stratified_steps(0, len(request.sigmas) - 1, self.levels, request.seed)
        return draws_at(request.sigmas, steps, Noise.MEMBER)

    def fixed_terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """Minus the loss of the policy before the update."""
        return {"old_log_prob": self.weight.log_prob(error_of(OLD, policy, piece), piece.sigma)}

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """Minus the loss."""
        return {"log_prob": self.weight.log_prob(error(policy, piece), piece.sigma)}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The clipped loss of the ratios."""
        log_ratio = flow_log_ratio(table["log_prob"], table["old_log_prob"], self.per_draw)
        zeros = torch.zeros_like(log_ratio)
        report = policy_report(clipped_policy_loss(log_ratio, zeros, cells.advantages, self.clip, self.adv_clip))
        return report.with_means(weighted_error=-table["log_prob"].detach().mean())
