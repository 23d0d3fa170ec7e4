"""GRPO on the recorded SDE transitions (MixGRPO, arXiv 2507.21802, eq. 8-9; Flow-GRPO, arXiv 2505.05470)."""

from dataclasses import dataclass

from torch import Tensor

from ..models.port import Policy
from ..sampling.trajectory import Trajectory
from .clipped import ClippedObjective, policy_report
from .port import LossReport
from .ratio import as_range, clipped_policy_loss, default_clip


@dataclass(frozen=True)
class GRPO(ClippedObjective):
    """Clipped policy ratio times group advantage, averaged over members and trained steps.

    Attributes:
        clip: clip range of the ratio, one number or (low, high). The log-prob is the full Gaussian density, *mean*
            over the latent elements, so ranges are small; ``None`` takes ``default_clip``: 0.036 / sqrt(elements).
        adv_clip: advantages are clamped to +-adv_clip.
        kl: weight of the KL to the base model (LoRA off) in velocity space; 0 never evaluates the base model.
    """

    def clip_range(self, latent_elements: int) -> tuple[float, float]:
        """(low, high) for latents of that many elements."""
        return as_range(default_clip(latent_elements) if self.clip is None else self.clip)

    def loss(self, velocity: Policy, trajectory: Trajectory, advantage: Tensor) -> LossReport:
        (transition,) = trajectory.transitions
        v = velocity(transition.x, transition.sigma)
        log_prob = transition.per_member(transition.gaussian(v)).log_prob(transition.x_next)
        clip = self.clip_range(transition.x[0].numel())
        policy = clipped_policy_loss(log_prob, transition.log_prob_old, advantage, clip, self.adv_clip)
        return policy_report(policy, velocity, transition, v, self.kl)
