"""Flow-DPPO: no clip; a cell is dropped where its divergence is too large and its move would enlarge it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..models.policy import Policy
from ..sampling.kernels import working
from ..support.setting import ENDLESS, require_finite
from .clipped import log_prob
from .pieces import Piece
from .port import OLD_MEAN, RATIO_DEVIATION, TRANSITIONS, Cells, LossReport, Objective
from .regularisers import Regulariser, VelocityKL


def step_kl(mean: Tensor, old_mean: Tensor, std: Tensor | float) -> Tensor:
    """KL divergence of two Gaussians of one std, mean over the latent elements: ``[g, *L]`` twice to ``[g]``."""
    squares = (working(mean) - working(old_mean)).square() / (2 * torch.as_tensor(std, device=mean.device) ** 2)
    return squares.flatten(1).mean(1)


def dropped_cells(log_ratio: Tensor, kl: Tensor, advantage: Tensor, tau: float) -> Tensor:
    """Which cells do not count: those with ``kl >= tau`` whose ratio has already gone where the advantage pulls it.

    Bool, in the shape that the three tensors broadcast to.
    """
    return (kl >= tau) & (log_ratio * advantage > 0)


def dppo_loss(log_ratio: Tensor, advantage: Tensor, dropped: Tensor) -> Tensor:
    """``mean(-A r)`` over all cells, of which the dropped ones are 0: three tensors of one shape to a scalar.

    A dropped ratio may overflow: it is taken out before it is exponentiated, so its gradient is 0 and not NaN.
    """
    ratio = torch.where(dropped, 0, log_ratio).exp()
    return -(torch.where(dropped, 0, advantage) * ratio).mean()


@dataclass(frozen=True)
class FlowDPPO(Objective):
    """GRPO without a clip: images whose step has moved too far are dropped where they would move it further.

    ``mean(-A r)`` without the cells ``KL >= tau and (r > 1, A > 0 or r < 1, A < 0)``, which count as 0.
    ``KL = mean((mu - mu_old)^2) / (2 std^2)`` over the latent elements. As read in UniRL and verl-omni, which agree.

    ``tau`` is a change per element, of sqrt(2 tau) = 0.0045 std whatever the latent's size; ``default_clip`` stands for
    0.036 std, a tau of 6.5e-4. Which side a cell is on is decided by its ratio, and that is noisy: at 65536 elements
    and KL = tau the ratio is above 1 for 28 % of the samples whether the move was right or not. Advantages are not
    clipped. Its figures are ``dropped`` (share of cells), ``kl_step`` (mean KL) and ``above_tau`` (share of cells).

    Attributes:
        tau: threshold of the KL; infinity drops nothing. Published: 1e-5, SD3.5 at 512 px, learning rate 3e-4.
        kl: weight of the KL to the base model in velocity space, as in ``GRPO``.
    """

    label: ClassVar[str] = "Flow-DPPO"

    tau: float = field(default=1e-5, metadata=ENDLESS)
    kl: float = 0.0

    def __post_init__(self) -> None:
        require_finite(self)
        if not self.tau > 0:
            raise ValueError(f"tau is a divergence and must be above 0, found {self.tau}")
        if not self.kl >= 0:
            raise ValueError(f"kl is a weight and must be 0 or more, found {self.kl}")

    @property
    def needs(self) -> frozenset[str]:
        """The recorded steps with their means."""
        return frozenset({TRANSITIONS, OLD_MEAN})

    @property
    def regularisers(self) -> Sequence[Regulariser]:
        """The KL to the base model in velocity space, where ``kl`` is above 0."""
        return (VelocityKL(self.kl),) if self.kl else ()

    def clip_range(self, latent_elements: int, channels: int = 1) -> tuple[float, float]:
        """What tau amounts to: ``sqrt(2 tau / D)``, how far log-ratios spread where every element moves to it."""
        spread = math.sqrt(2 * self.tau / latent_elements)
        return spread, spread

    def log_ratio(self, policy: Policy, piece: Piece) -> Tensor:
        """``log_prob - old_log_prob`` per member, ``[g]``."""
        return log_prob(policy, piece) - piece.step.old_log_prob

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-ratio, and the KL without gradient."""
        transition = piece.step
        assert transition.old_mean is not None  # OLD_MEAN
        new = transition.gaussian(policy(piece.x, piece.sigma))
        kl = step_kl(new.mean.detach(), transition.old_mean, new.std)[transition.parent]
        return {"log_ratio": self.log_ratio(policy, piece), "kl": kl}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The loss of the cells that are left, over all of them."""
        log_ratio, kl = table["log_ratio"], table["kl"]
        advantage = cells.advantages.reshape(len(log_ratio), -1).to(log_ratio.dtype).expand_as(log_ratio)
        dropped = dropped_cells(log_ratio.detach(), kl, advantage, self.tau)
        return LossReport(
            loss=dppo_loss(log_ratio, advantage, dropped),
            means={
                "dropped": dropped.float().mean(),
                "kl_step": kl.mean(),
                "above_tau": (kl >= self.tau).float().mean(),
            },
            maxima={RATIO_DEVIATION: (log_ratio.detach().exp() - 1).abs().max()},
        )
