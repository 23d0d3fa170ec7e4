"""GRPO-Guard: the ratio freed of its negative mean and of its per-step scale (arXiv 2510.22319)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models.port import Policy
from ..sampling.trajectory import Trajectory
from .clipped import ClippedObjective, policy_report
from .port import MEAN_OLD, LossReport
from .ratio import as_range, clipped_policy_loss, default_clip, guard_step_weight, normalised_log_ratio


@dataclass(frozen=True)
class GuardGRPO(ClippedObjective):
    """GRPO on the normalised log-ratio ``mean(eps * (mu - mu_old))``, each step's policy loss weighted by ``1 / h``.

    Attributes:
        clip: range of the normalised ratio. It is smaller than the plain one by the step's std (0.1 to 0.7);
            ``None`` takes 0.2 x ``default_clip``.
        adv_clip, kl: as in ``GRPO``.
    """

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | {MEAN_OLD}

    def clip_range(self, latent_elements: int) -> tuple[float, float]:
        """(low, high) of the normalised ratio for latents of that many elements."""
        return as_range(0.2 * default_clip(latent_elements) if self.clip is None else self.clip)

    def loss(self, velocity: Policy, trajectory: Trajectory, advantage: Tensor) -> LossReport:
        (transition,) = trajectory.transitions
        v = velocity(transition.x, transition.sigma)
        new = transition.per_member(transition.gaussian(v))
        mean_old = transition.mean_old[transition.parent]
        log_prob = new.log_prob(transition.x_next)
        log_ratio = normalised_log_ratio(log_prob, transition.log_prob_old, new.mean, mean_old, new.std)
        clip = self.clip_range(transition.x[0].numel())
        policy = clipped_policy_loss(log_ratio, torch.zeros_like(log_ratio), advantage, clip, self.adv_clip)
        weighted = replace(policy, loss=policy.loss * guard_step_weight(transition.sigma, transition.sigma_next))
        return policy_report(weighted, velocity, transition, v, self.kl)
