"""GRPO-Guard: the ratio freed of its negative mean and of its per-step scale (arXiv 2510.22319)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..models.policy import Policy
from .clipped import ClippedObjective, policy_report
from .pieces import Piece
from .port import OLD_MEAN, Cells, LossReport
from .ratio import as_range, clipped_policy_loss, default_clip, normalised_log_ratio
from .step_weights import GuardWeight

_WEIGHT = GuardWeight()


@dataclass(frozen=True)
class GuardGRPO(ClippedObjective):
    """GRPO with a ratio freed of its drift, and with every trained step counting alike.

    The ratio is of the normalised log-ratio ``mean(eps * (mu - mu_old))``; a step's loss is weighted by ``1 / kappa``.
    The weights have mean 1 over the steps that the planner may train. With Flow-SDE, kappa is the step's length h times
    a constant, and ``1 / kappa`` is the published ``1 / h``.

    Attributes:
        clip: range of the normalised ratio. It is smaller than the plain one by the step's std (0.1 to 0.7);
            ``None`` takes 0.2 x ``default_clip``.
        adv_clip, kl: as in ``GRPO``.
    """

    label: ClassVar[str] = "GRPO-Guard"

    @property
    def needs(self) -> frozenset[str]:
        """The recorded steps with their means."""
        return super().needs | {OLD_MEAN}

    def clip_range(self, latent_elements: int, channels: int = 1) -> tuple[float, float]:
        """(low, high) of the normalised ratio for latents of that many elements."""
        return as_range(0.2 * default_clip(latent_elements) if self.clip is None else self.clip)

    def log_ratio(self, policy: Policy, piece: Piece) -> Tensor:
        """The normalised log-ratio per member, ``[g]``."""
        transition = piece.step
        assert transition.old_mean is not None  # OLD_MEAN
        new = transition.per_member(transition.gaussian(policy(piece.x, piece.sigma)))
        old_mean = transition.old_mean[transition.parent]
        log_prob = new.log_prob(transition.x_next)
        return normalised_log_ratio(log_prob, transition.old_log_prob, new.mean, old_mean, new.std)

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The normalised log-ratio."""
        return {"log_ratio": self.log_ratio(policy, piece)}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """``mean(-min(A r, A clip(r)))`` with the normalised ratio, times the step's factor."""
        step = cells.columns[0].step
        assert step is not None  # its columns are transitions
        log_ratio, clip = table["log_ratio"], self.clip_range(cells.latent_elements)
        policy = clipped_policy_loss(log_ratio, torch.zeros_like(log_ratio), cells.advantages, clip, self.adv_clip)
        return policy_report(policy, _WEIGHT.loss_factor(step, cells.candidates))
