"""AWM: the ratio of GRPO with the flow-matching error in the place of the log-probability."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from ..models.lagged import Lag
from ..models.policy import OLD, Policy
from ..support.setting import ENDLESS, require_finite
from .clipped import policy_report
from .error_weights import ErrorWeight, GeneralHuber
from .forward import draws_at, error, error_of, stratified_steps
from .pieces import Draw, Noise, Piece
from .port import COLUMNS, Cells, DrawRequest, LossReport, Objective
from .ratio import ClipRange, PolicyLoss, as_range, clipped_policy_loss
from .regularisers import Regulariser, VelocityKL

EMA = "ema"
"""The policy that follows the trained one and holds it back."""


def matching_policy_loss(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: ClipRange, adv_clip: float
) -> PolicyLoss:
    """The clipped loss of log-probs ``[g, C]``, with advantages clamped to +-adv_clip and divided by it."""
    return clipped_policy_loss(log_prob, old_log_prob, advantage / adv_clip, clip, 1.0)


@dataclass(frozen=True)
class AWM(Objective):
    """GRPO's clipped ratio with the error of the velocity at noised images in the place of the log-probability.

    ``mean(-min(A r, A clip(r)))``, ``r = exp(l - l_old)``, ``l`` minus a weighted error of the velocity.
    Advantage Weighted Matching, arXiv 2509.25050, as read in github.com/scxue/advantage_weighted_matching. ``l_old`` is
    of the policy before the update, at the same level and noise; the ratio is of each draw by itself, or of the mean of
    a member's draws, which takes two passes. The levels are stratified over the rollout's grid, without the noisiest
    and without the last tenth; every member has its own noise, and the members of a group share the levels (published:
    of a batch).

    At the first update its gradient is that of ``mean(w A / c mean((v - u)^2))``. A clip of 1e-4, as of transition
    ratios, does not fit: with the default weight ``l`` is of order 3. Published: 14 steps without guidance, 24 images x
    72 prompts, learning rate 3e-4. It costs four forwards a cell: new, old, base and EMA.

    Attributes:
        weight: of the error: ``GeneralHuber(0.25)`` as published.
        clip: range of the ratio; 1 as published, which is 0 .. 2 and hardly ever met.
        adv_clip: c; advantages are clamped to +-c and divided by it. 5 as published.
        levels: draws per member and update, 6 as published.
        share: of the grid from the noisy end that levels are drawn from, 0.9 as published.
        kl: weight of the KL to the base model in velocity space, 0.001 as published.
        ema_kl: the same to an average of the policy itself, 1 as published.
        lag: of that average: min(0.001 n, 0.3) after each optimizer step, as published.
        per_draw: a ratio of each draw, as published, or of the mean over a member's draws.
    """

    label: ClassVar[str] = "AWM"

    weight: ErrorWeight = GeneralHuber()
    clip: ClipRange = field(default=1.0, metadata=ENDLESS)
    adv_clip: float = 5.0
    levels: int = 6
    share: float = 0.9
    kl: float = 0.001
    ema_kl: float = 1.0
    lag: Lag = Lag(rate=0.001, cap=0.3)
    per_draw: bool = True

    def __post_init__(self) -> None:
        require_finite(self)
        as_range(self.clip)
        if not (self.adv_clip > 0 and self.levels >= 1 and 0 < self.share <= 1 and min(self.kl, self.ema_kl) >= 0):
            raise ValueError(
                f"expected adv_clip above 0, levels of 1 or more, 0 < share <= 1 and kl weights of 0 or more, found "
                f"{self}"
            )

    @property
    def needs(self) -> frozenset[str]:
        """The policy before the update, and all draws of a member at once where they have one ratio."""
        return frozenset({OLD}) if self.per_draw else frozenset({OLD, COLUMNS})

    @property
    def policies(self) -> Mapping[str, Lag]:
        """The average that holds the policy back, where it does."""
        return {EMA: self.lag} if self.ema_kl else {}

    @property
    def regularisers(self) -> Sequence[Regulariser]:
        """The two pulls in velocity space, where their weights are above 0."""
        to_base = (VelocityKL(self.kl),) if self.kl else ()
        return (*to_base, VelocityKL(self.ema_kl, to=EMA)) if self.ema_kl else to_base

    def draws(self, request: DrawRequest) -> Sequence[Draw]:
        """Stratified levels of this group and update, with fresh noise for each member."""
        stop = int((len(request.sigmas) - 1) * self.share)
        return draws_at(request.sigmas, stratified_steps(1, stop, self.levels, request.seed), Noise.MEMBER)

    def fixed_terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The weighted error of the policy before the update."""
        return {"old_log_prob": self.weight.log_prob(error_of(OLD, policy, piece), piece.sigma)}

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The weighted error."""
        return {"log_prob": self.weight.log_prob(error(policy, piece), piece.sigma)}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The clipped loss of the ratios."""
        new, old = table["log_prob"], table["old_log_prob"]
        if not self.per_draw:
            new, old = new.mean(1, keepdim=True), old.mean(1, keepdim=True)
        report = policy_report(matching_policy_loss(new, old, cells.advantages, self.clip, self.adv_clip))
        return report.with_means(weighted_error=-new.detach().mean())
