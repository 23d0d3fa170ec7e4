"""GRPO whose steps are damped where the policy has moved too far to be told from the rollout's samples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..models.policy import Policy
from .clipped import ClippedObjective, policy_report
from .flow_dppo import step_kl
from .pieces import Piece
from .port import OLD_MEAN, Cells, LossReport
from .ratio import aligned, clipped_policy_loss, normalised_log_ratio


def effective_share(lam: Tensor) -> Tensor:
    """Share of samples that still count: ``(E r)^2 / E r^2 = exp(-lambda)`` for ratios of two Gaussians.

    In the shape of ``lam``, the variance of the log-ratio.
    """
    return torch.exp(-lam)


def damping(lam: Tensor, share: float) -> Tensor:
    """``min(1, -log(share) / lambda)``, in lambda's shape: 1 while the effective share is at least ``share``."""
    most = -math.log(share)
    return most / lam.clamp(min=most)


@dataclass(frozen=True)
class LambdaGRPO(ClippedObjective):
    """GRPO with a ratio free of its drift, damped where too few samples of the rollout still count.

    ``mean(-d min(A r, A clip(r)))``, ``log r`` plus ``lambda / (2 D)`` and ``d = min(1, -log(share) / lambda)``, where
    ``lambda = |mu - mu_old|^2 / std^2`` is the *sum* over the D latent elements, per member and step. Inspired by
    lambda-controlled GRPO: its constants and its calibration by the clip range are not public; this is our own rule.

    For noise of the rollout the joint log-ratio is normal with mean -lambda / 2 and variance lambda, so a share
    exp(-lambda) of the samples is effective. Its mean over D, which is what is clipped, has the mean -lambda / (2 D)
    that is added back here, and a spread of sqrt(lambda) / D. The factor only damps and is 1 at the first update. Its
    figures are ``lambda`` and ``damping``, means over the cells.

    Attributes:
        clip, adv_clip, kl: as in ``GRPO``.
        share: of effective samples that is to be kept, above 0 and below 1. A half is ours.
    """

    label: ClassVar[str] = "inspired by lambda-controlled GRPO"

    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1:
            raise ValueError(f"share of effective samples must be above 0 and below 1, found {self.share}")

    @property
    def needs(self) -> frozenset[str]:
        """The recorded steps with their means."""
        return super().needs | {OLD_MEAN}

    def log_ratio(self, policy: Policy, piece: Piece) -> Tensor:
        """The log-ratio without its drift, per member, ``[g]``."""
        return self.terms(policy, piece)["log_ratio"]

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-ratio, and lambda without gradient."""
        transition = piece.step
        assert transition.old_mean is not None  # OLD_MEAN
        new = transition.per_member(transition.gaussian(policy(piece.x, piece.sigma)))
        old = transition.old_mean[transition.parent]
        log_prob = new.log_prob(transition.x_next)
        free = normalised_log_ratio(log_prob, transition.old_log_prob, new.mean, old, new.std) / new.std
        return {"log_ratio": free, "lambda": 2 * step_kl(new.mean.detach(), old, new.std) * old[0].numel()}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The clipped loss, each cell damped by its own lambda."""
        log_ratio, lam = table["log_ratio"], table["lambda"]
        factor = damping(lam, self.share)
        advantage = aligned(cells.advantages.to(log_ratio.dtype), log_ratio.shape).clamp(-self.adv_clip, self.adv_clip)
        clip = self.clip_range(cells.latent_elements)
        policy = clipped_policy_loss(  # the loss is linear in factors of the advantage that are not negative
            log_ratio, torch.zeros_like(log_ratio), advantage * factor, clip, math.inf
        )
        report = policy_report(policy)
        means = {**report.means, "lambda": lam.mean(), "damping": factor.mean()}
        return LossReport(loss=report.loss, means=means, maxima=report.maxima)
