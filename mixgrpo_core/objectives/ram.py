"""RAM: regression of the velocity to the base model's, shifted towards better images and away from worse ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..models.lagged import Lag
from ..models.policy import REFERENCE, Policy
from ..sampling.kernels import working
from ..support.setting import require_finite
from .forward import difference, draws_at, weighted_steps
from .pieces import Draw, Noise, Piece
from .port import Cells, DrawRequest, LossReport, Objective

LAGGED = "lagged"
"""The policy that samples and that the target is shifted by."""


def matching_parts(v: Tensor, reference: Tensor, lagged: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means over the latent of ``(v - v_ref)^2``, ``(v - v_ref) (u - v')`` and ``(u - v')^2``: ``[g, *L]`` to ``[g]``.

    ``|v - v_ref - c (u - v')|^2`` is the first - 2 c the second + c^2 the third. No target of the size of c is built,
    in which the digits of ``v_ref`` would be lost.
    """
    away, towards = difference(v, reference).flatten(1), difference(target, lagged).flatten(1)
    return away.square().mean(1), (away * towards).mean(1), towards.square().mean(1)


@dataclass(frozen=True)
class RAM(Objective):
    """Regression of the velocity to the base model's plus a multiple of what better images would change.

    ``mean(|v - sg[v_ref + m A (u - v')]|^2)``, with ``v'`` the lagged policy, which also makes the rollouts. After
    Reinforce Adjoint Matching, whose code is not to be had: as two third-party ports of its trainer have it; the
    paper's eq. 17 has the current ``v`` in the place of ``v'``, which is unstable where m A < -1. For every sign of A
    this is a convex regression. Its gradient is that of ``|v - v_ref|^2 + m A (|v - u|^2 - |v - v'|^2)``, so 1 / m is
    the weight of the pull to the base model: the only one there is, and there is no clip.

    An image of A = 0 pulls to the base model, so flat groups are trained on. Advantages are not clamped; published are
    rewards less their group's mean, over the standard deviation of all rewards of the iteration. The loss is of order
    m^2 and says nothing: look at ``kl``, the mean of ``(v - v_ref)^2``. A clipped gradient norm would bind at every
    step; AdamW absorbs the scale. Published: one update per iteration, 24 images x 48 prompts, learning rate 3e-4,
    betas 0.9 and 0.99, rollouts of 20 steps with guidance 2 and plain fields in the loss. Where guidance cannot be
    taken off for the loss alone, as here, rollouts have none either.

    Levels are stratified over the rollout's grid, each with a chance in proportion to t^power; every member has its own
    noise. It costs three forwards a cell: new, base and lagged.

    Attributes:
        strength: m: 100 for GenEval and OCR, 1000 for PickScore. It is bound to the task.
        levels: draws per member and update, 8 as published.
        power: of the level in its chance to be drawn, 1 as published.
        lag: of ``v'``: min(0.01 n, 0.9) after each iteration, n counting iterations, as published.
    """

    label: ClassVar[str] = "after RAM"

    strength: float = 100.0
    levels: int = 8
    power: float = 1.0
    lag: Lag = Lag(rate=0.01, cap=0.9, per="iteration", every="iteration")

    def __post_init__(self) -> None:
        require_finite(self)
        if not (self.strength > 0 and self.levels >= 1 and self.power >= 0):
            raise ValueError(f"expected strength above 0, levels of 1 or more and power of 0 or more, found {self}")

    @property
    def needs(self) -> frozenset[str]:
        """The base model."""
        return frozenset({REFERENCE})

    @property
    def policies(self) -> Mapping[str, Lag]:
        """The policy that samples."""
        return {LAGGED: self.lag}

    def sampled_by(self, updates: int) -> str | None:
        """The lagged policy makes all rollouts."""
        return LAGGED

    def teaches(self, advantage: Tensor) -> bool:
        """Every group does: without an advantage it pulls to the base model."""
        return True

    def draws(self, request: DrawRequest) -> Sequence[Draw]:
        """Stratified and weighted levels of this group and update, with fresh noise for each member."""
        steps = weighted_steps(request.sigmas, self.power, self.levels, request.seed)
        return draws_at(request.sigmas, steps, Noise.MEMBER)

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The parts of the squared difference."""
        base, lagged = (policy.named(name, piece.x, piece.sigma) for name in (REFERENCE, LAGGED))
        away, along, towards = matching_parts(policy(piece.x, piece.sigma), base, lagged, piece.target)
        return {"away": away, "along": along, "towards": towards}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The mean squared difference."""
        away, along, towards = table["away"], table["along"], table["towards"]
        shift = self.strength * working(cells.advantages).to(away.dtype).unsqueeze(1)
        loss = (away - 2 * shift * along + shift**2 * towards.detach()).mean()
        return LossReport(loss=loss, means={"kl": away.detach().mean(), "error_lagged": towards.detach().mean()})
