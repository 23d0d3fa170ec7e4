"""GRPO with a ratio for every position of the latent, for credit that is a map."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..models.policy import Policy
from ..support.facts import RunFacts
from .clipped import ClippedObjective, policy_report
from .pieces import Piece
from .port import OLD_MEAN, Cells, Credit, LossReport
from .ratio import as_range, clipped_policy_loss

SPREAD = 0.036
"""The change per element, in units of std, that ``default_clip`` stands for."""


def position_log_ratio(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """Log-ratio of each position, elementwise log-probs ``[g, C, ...]`` summed over their channels: ``[g, 1, ...]``."""
    return (log_prob - old_log_prob).sum(1, keepdim=True)


def over_positions(log_ratio: Tensor, advantage: Tensor) -> Tensor:
    """Log-ratios ``[g, 1, 1, ...]`` once for every channel where an advantage ``[g, 1, C, ...]`` has several."""
    if advantage.ndim < log_ratio.ndim:
        return log_ratio
    return log_ratio.expand(torch.broadcast_shapes(log_ratio.shape, advantage.shape))


@dataclass(frozen=True)
class PositionalGRPO(ClippedObjective):
    """GRPO with a ratio for every position of the latent, for credit per place.

    ``mean over positions p of -min(A_p r_p, A_p clip(r_p))``, ``log r_p`` summed over a position's channels. After ViPO
    (arXiv 2511.18719), whose video code has a ratio per position (its image code broadcasts one ratio over the map,
    which is that image's loss times the map's mean: no credit for places). Here the KL may be added, the clip follows
    the number of channels, and where credit has a value per channel each of them meets the ratio of its position.

    The advantage is ``[G]``, ``[G, W]`` or ``[G, W, *L]`` (or broadcasts to it, one channel wide). With one number per
    image its gradient at ratio 1 is C times GRPO's, for a position's log-prob is a sum. Latents are ``[C, ...]``:
    their first dimension holds the channels.

    Attributes:
        clip: range of a position's ratio. ``None`` takes 0.036 sqrt(C), 0.144 for 16 channels: a sum over C channels
            spreads sqrt(C) times as far as one element, so this is ``default_clip`` for a position. The published 1e-4
            stops nearly every position after the first update.
        adv_clip, kl: as in ``GRPO``; advantages are clamped after they were multiplied with the map.
    """

    label: ClassVar[str] = "after ViPO (positional loss)"

    @property
    def needs(self) -> frozenset[str]:
        """The recorded steps with their means: old log-probs are taken per element."""
        return super().needs | {OLD_MEAN}

    @property
    def finest_credit(self) -> Credit:
        """A number per position."""
        return "place"

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` for packed latents, whose first dimension is no channels."""
        if len(facts.latent_shape) < 3:
            raise ValueError(
                f"PositionalGRPO needs latents [channels, height, width], found {list(facts.latent_shape)}: this model "
                "packs them, choose GRPO, and stages of credit without places"
            )

    def clip_range(self, latent_elements: int, channels: int = 1) -> tuple[float, float]:
        """(low, high) of a position's ratio."""
        return as_range(SPREAD * math.sqrt(channels) if self.clip is None else self.clip)

    def log_ratio(self, policy: Policy, piece: Piece) -> Tensor:
        """The log-ratio of each position, ``[g, 1, ...]``."""
        transition = piece.step
        assert transition.old_mean is not None  # OLD_MEAN
        new = transition.per_member(transition.gaussian(policy(piece.x, piece.sigma)))
        old = replace(new, mean=transition.old_mean[transition.parent])
        x = transition.x_next
        return position_log_ratio(new.log_prob(x, reduce=False), old.log_prob(x, reduce=False))

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-ratios of the positions."""
        return {"log_ratio": self.log_ratio(policy, piece)}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The clipped loss, averaged over members and positions."""
        log_ratio = over_positions(table["log_ratio"], cells.advantages)
        channels = cells.latent_elements // math.prod(table["log_ratio"].shape[2:])
        low, high = self.clip_range(cells.latent_elements, channels)
        policy = clipped_policy_loss(
            log_ratio, torch.zeros_like(log_ratio), cells.advantages, (low, high), self.adv_clip
        )
        return policy_report(policy)
