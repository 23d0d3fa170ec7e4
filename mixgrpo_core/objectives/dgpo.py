"""DGPO: direct preference optimisation between the better and the worse images of a whole group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..models.lagged import Lag
from ..models.policy import REFERENCE, Policy
from ..sampling.kernels import working
from ..support.setting import ENDLESS, require_finite
from .forward import drawn_steps, draws_at, error, error_of
from .pieces import Draw, Noise, Piece
from .port import GROUP, Cells, DrawRequest, LossReport, Objective
from .regularisers import Regulariser, VelocityKL

FAST = "fast"
"""The policy that follows the trained one closely: it stops members and, later, makes the rollouts."""


def group_weights(error: Tensor, reference_error: Tensor, advantage: Tensor, beta: float) -> Tensor:
    """``sigmoid(beta mean_i A_i (m_i - m_i^ref))`` of errors ``[G, C]`` and advantages ``[G]``: ``[C]``, no gradient.

    1/2 at the base model; less where the better members have already gained more on it than the worse ones.
    """
    return torch.sigmoid(beta * (advantage[:, None] * (error - reference_error).detach()).mean(0))


def stopped_cells(error: Tensor, fast_error: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Which cells ``[G, C]`` have gone far enough: ``exp(m_fast - m)`` beyond 1 + clip (A > 0) or 1 - clip (else)."""
    ratio = (fast_error - error).detach().exp()
    return torch.where(advantage[:, None] > 0, ratio > 1 + clip, ratio < 1 - clip)


@dataclass(frozen=True)
class DGPO(Objective):
    """The error of the velocity at noised images, less for better members of a group and more for worse ones.

    ``mean(w A_i m_i)``, ``m_i`` the error of the velocity at a noised image and ``w`` one weight of the group.
    Direct Group Preference Optimization, arXiv 2510.08425, as read in github.com/Luo-Yihong/DGPO: ``w`` is that of
    `group_weights`, per level; cells of `stopped_cells` keep their value and lose their gradient. Levels are drawn from
    the noisiest of the rollout's grid, the same for all prompts and updates of an iteration; one noise serves the whole
    group, a fresh one per level and update.

    ``beta`` multiplies a mean square: 100 suits the latents of large models, in toys with errors of order 1 it
    saturates the weight and 1 is right. The mean is over the members that are there, not over the nominal group, and an
    incomplete group has another weight. Clamping advantages breaks their zero sum slightly. Published: 10 ODE steps
    without guidance, 24 images x 24 prompts, an update per iteration. It costs five forwards a cell: two new, base,
    fast, and base again for ``kl``.

    Attributes:
        beta: 100 as published.
        clip: of the stop, 0.05; published between 0.001 (slower and more stable) and 0.05.
        adv_clip: advantages are clamped to +-adv_clip. 5 as published.
        levels: drawn per iteration, 4 as published.
        share: of the grid's levels, from the noisy end, that they are drawn from: 7 of 10; 0.5 for GenEval.
        kl: weight of the KL to the base model in velocity space: 0.001, 0.02 for GenEval.
        own_samples: for so many optimizer steps the policy makes its own rollouts, then the fast one does: 200, 500 for
            GenEval.
        lag: of the fast policy: min(0.001 n, 0.3) after each optimizer step, as published.
    """

    label: ClassVar[str] = "DGPO"

    beta: float = 100.0
    clip: float = field(default=0.05, metadata=ENDLESS)
    adv_clip: float = field(default=5.0, metadata=ENDLESS)
    levels: int = 4
    share: float = 0.7
    kl: float = 0.001
    own_samples: int = 200
    lag: Lag = Lag(rate=0.001, cap=0.3)

    def __post_init__(self) -> None:
        require_finite(self)
        positive = min(self.beta, self.clip, self.adv_clip) > 0 and self.levels >= 1
        if not (positive and 0 < self.share <= 1 and self.kl >= 0 and self.own_samples >= 0):
            raise ValueError(
                "expected beta, clip and adv_clip above 0, levels of 1 or more, 0 < share <= 1, kl and own_samples of "
                f"0 or more, found {self}"
            )

    @property
    def needs(self) -> frozenset[str]:
        """Whole groups, and the base model."""
        return frozenset({GROUP, REFERENCE})

    @property
    def policies(self) -> Mapping[str, Lag]:
        """The fast policy."""
        return {FAST: self.lag}

    @property
    def regularisers(self) -> Sequence[Regulariser]:
        """The KL to the base model in velocity space, where ``kl`` is above 0."""
        return (VelocityKL(self.kl),) if self.kl else ()

    def sampled_by(self, updates: int) -> str | None:
        """The policy itself at first, then the fast one."""
        return None if updates < self.own_samples else FAST

    def draws(self, request: DrawRequest) -> Sequence[Draw]:
        """Levels of the iteration, with one noise for the group at each."""
        among = max(1, round((len(request.sigmas) - 1) * self.share))
        return draws_at(request.sigmas, drawn_steps(among, self.levels, request.shared_seed), Noise.GROUP)

    def fixed_terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The errors of the base model and of the fast policy."""
        return {
            "reference_error": error_of(REFERENCE, policy, piece),
            "fast_error": error_of(FAST, policy, piece),
        }

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The error of the velocity."""
        return {"error": error(policy, piece)}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The weighted errors, of which those that have gone far enough are held still."""
        errors = table["error"]
        advantage = working(cells.advantages).to(errors.dtype).clamp(-self.adv_clip, self.adv_clip)
        weights = group_weights(errors, table["reference_error"], advantage, self.beta)
        stopped = stopped_cells(errors, table["fast_error"], advantage, self.clip)
        held = torch.where(stopped, errors.detach(), errors)
        return LossReport(
            loss=(weights * advantage[:, None] * held).mean(),
            means={"group_weight": weights.mean(), "stopped": stopped.float().mean(), "error": errors.detach().mean()},
        )
