"""What PCPO and Reward Score Matching share: a hinge on the log-ratio. They differ in how they weigh steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..models.policy import Policy
from ..sampling.kernels import working
from ..support.facts import RunFacts
from ..support.setting import ENDLESS, require_finite
from .clipped import log_prob
from .pieces import Piece
from .port import RATIO_DEVIATION, TRANSITIONS, Cells, LossReport, Objective
from .ratio import aligned, default_clip
from .regularisers import Regulariser, VelocityKL
from .step_weights import Even, StepWeight, require_use


def hinge_cost(log_ratio: Tensor, advantage: Tensor, margin: float) -> Tensor:
    """``max(0, xi |A| - A log r)`` of log-ratios ``[g, ...]`` and advantages that align with their first dimensions.

    Its gradient is ``-A d log r`` where ``A log r < xi |A|`` and exactly 0 elsewhere: a move that mends keeps its
    gradient however far the ratio has gone the other way.
    """
    advantage = aligned(working(advantage).to(log_ratio.dtype), log_ratio.shape)
    return (margin * advantage.abs() - advantage * log_ratio).clamp(min=0)


@dataclass(frozen=True)
class LogHingeObjective(Objective):
    """The settings of a log-hinge objective; ``PCPO`` says what they mean."""

    margin: float | None = field(default=None, metadata=ENDLESS)
    adv_clip: float = field(default=5.0, metadata=ENDLESS)
    kl: float = 0.0
    step_weight: StepWeight = Even()

    def __post_init__(self) -> None:
        require_finite(self)
        if self.margin is not None and not self.margin > 0:
            raise ValueError(f"margin is how far a log-ratio may go and must be above 0, found {self.margin}")
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

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` for a weighting of a single step."""
        require_use(self.step_weight, facts)

    def clip_range(self, latent_elements: int, channels: int = 1) -> tuple[float, float]:
        """The margin on both sides."""
        margin = 0.7 * default_clip(latent_elements) if self.margin is None else self.margin
        return margin, margin

    def log_ratio(self, policy: Policy, piece: Piece) -> Tensor:
        """``log_prob - old_log_prob`` per member, ``[g]``, without the step's factor."""
        return log_prob(policy, piece) - piece.step.old_log_prob

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-ratio."""
        return {"log_ratio": self.log_ratio(policy, piece)}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The mean hinge of the weighted log-ratio, times the step's factor."""
        step, log_ratio = cells.columns[0].step, table["log_ratio"]
        assert step is not None  # its columns are transitions
        margin, _ = self.clip_range(cells.latent_elements)
        advantage = cells.advantages.clamp(-self.adv_clip, self.adv_clip)
        factor = self.step_weight.log_ratio_factor(step, cells.candidates)
        on_loss = self.step_weight.loss_factor(step, cells.candidates)
        hinge = hinge_cost(log_ratio * factor, advantage, margin)
        stopped = (hinge.detach() == 0) & (aligned(advantage, hinge.shape) != 0)
        return LossReport(
            loss=hinge.mean() * on_loss,
            means={"stopped": stopped.float().mean(), "step_weight": torch.tensor(factor * on_loss)},
            maxima={RATIO_DEVIATION: (log_ratio.detach().exp() - 1).abs().max()},
        )
