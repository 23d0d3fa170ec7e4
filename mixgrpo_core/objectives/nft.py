"""DiffusionNFT: regress toward good images and away from bad ones, by the forward process alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from ..models.lagged import Lag
from ..models.policy import Policy
from ..sampling.kernels import working
from ..support.setting import require_finite
from .forward import draws_at, self_normalised
from .pieces import Draw, Noise, Piece
from .port import Cells, DrawRequest, LossReport, Objective
from .regularisers import Regulariser, VelocityKL

LAGGED = "lagged"
"""The policy that samples and that the two branches start from."""

Teaching = Literal["all", "good", "bad", "good, alike", "all, alike"]
"""The published modes: all, positive only, negative only, one only, binary."""


def branch_errors(v: Tensor, lagged: Tensor, target: Tensor, sigma: Tensor | float, beta: float) -> tuple[Tensor, ...]:
    """Errors ``[g]`` of the positive and of the negative branch, of velocities and targets ``[g, *L]``.

    ``v+ = b v + (1 - b) v'`` and ``v- = (1 + b) v' - b v``; of each ``mean(d^2) / max(mean|d|, 1e-5)`` with ``d`` the
    error of the image that it predicts, ``x - t v - x0 = -t (v - u)``, and the divisor without gradient.
    """
    v, lagged, target, level = working(v), working(lagged), working(target), float(sigma)
    branches = (beta * v + (1 - beta) * lagged, (1 + beta) * lagged - beta * v)
    return tuple(self_normalised(level * (target - branch)) for branch in branches)


def positive_share(advantage: Tensor, adv_clip: float) -> Tensor:
    """How good an image is, 0 .. 1: ``clip(A, +-c) / (2 c) + 1 / 2``, in the shape of the advantages."""
    return working(advantage).clamp(-adv_clip, adv_clip) / (2 * adv_clip) + 0.5


def taken(advantage: Tensor, teaching: Teaching) -> Tensor:
    """The advantages of those that teach, those of the others 0: of all, of good, of bad, or their signs.

    In the shape that they have.
    """
    if teaching == "good":
        return advantage.clamp(min=0)
    if teaching == "bad":
        return advantage.clamp(max=0)
    if teaching == "good, alike":
        return (advantage > 0).to(advantage.dtype)
    return advantage.sign() if teaching == "all, alike" else advantage


@dataclass(frozen=True)
class DiffusionNFT(Objective):
    """Regression of the velocity towards the better images and away from the worse ones, by noised images alone.

    ``c / b mean(r L+ + (1 - r) L-)``, with ``r`` from 0 (bad) to 1 (good) and the branches of `branch_errors`.
    arXiv 2509.16117, as read in github.com/NVlabs/DiffusionNFT. ``v'`` is a lagged policy, which also makes the
    rollouts; it is blended after each iteration, ``n`` counting optimizer steps. Every image is noised anew at every
    level of its rollout's grid but the last 1 %, each with noise of its own; the members of a group share the level.

    At ``v = v'`` its gradient is that of ``mean(A t / mean|v - u| mean((v - u)^2))`` for any b. The factor c / b is
    part of the step size. The two normalisers part as v moves. Published: ODE rollouts of 10 steps without guidance
    from independent noise, 24 images x 48 prompts, learning rate 3e-4. It costs two forwards a cell, three with ``kl``.

    Attributes:
        beta: b, how far the branches reach: 1, or 0.1 for OCR and several rewards.
        adv_clip: c; advantages are clamped to +-c. 5 as published.
        kl: weight of the KL to the base model in velocity space, 1e-4 as published.
        share: of the grid's levels from the noisy end that are looked at, rounded down.
        lag: of ``v'``: min(0.001 n, 0.5) as published. For OCR ``Lag(flat=75, rate=0.0075, cap=0.999,
            every="iteration")``; ``Lag(every="iteration")`` is on policy, and ``Lag(start=1.0, every="iteration")``
            stays at the base model.
        teaching: whose advantages count: "all", "good" or "bad" images only, or by their signs alone: "all, alike" or
            "good, alike".
    """

    label: ClassVar[str] = "DiffusionNFT"

    beta: float = 1.0
    adv_clip: float = 5.0
    kl: float = 1e-4
    share: float = 0.99
    lag: Lag = Lag(rate=0.001, cap=0.5, every="iteration")
    teaching: Teaching = "all"

    def __post_init__(self) -> None:
        if self.teaching not in get_args(Teaching):
            raise ValueError(f"teaching is one of {', '.join(map(repr, get_args(Teaching)))}, found {self.teaching!r}")
        require_finite(self)
        if not (self.beta > 0 and self.adv_clip > 0 and self.kl >= 0 and 0 < self.share <= 1):
            raise ValueError(f"expected beta and adv_clip above 0, kl of 0 or more and 0 < share <= 1, found {self}")

    @property
    def policies(self) -> Mapping[str, Lag]:
        """The policy that the branches start from."""
        return {LAGGED: self.lag}

    @property
    def regularisers(self) -> Sequence[Regulariser]:
        """The KL to the base model in velocity space, where ``kl`` is above 0."""
        return (VelocityKL(self.kl),) if self.kl else ()

    def sampled_by(self, updates: int) -> str | None:
        """The lagged policy makes all rollouts."""
        return LAGGED

    def draws(self, request: DrawRequest) -> Sequence[Draw]:
        """Every level but the last, with fresh noise for each member."""
        steps = len(request.sigmas) - 1
        return draws_at(request.sigmas, list(range(max(1, int(steps * self.share)))), Noise.MEMBER)

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The errors of the two branches."""
        v, lagged = policy(piece.x, piece.sigma), policy.named(LAGGED, piece.x, piece.sigma)
        positive, negative = branch_errors(v, lagged, piece.target, piece.sigma, self.beta)
        return {"positive": positive, "negative": negative}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """Both errors, weighted by how good and how bad an image is."""
        positive, negative = table["positive"], table["negative"]
        r = positive_share(taken(cells.advantages, self.teaching), self.adv_clip).to(positive.dtype).unsqueeze(1)
        loss = (self.adv_clip / self.beta) * (r * positive + (1 - r) * negative).mean()
        return LossReport(
            loss=loss, means={"error_positive": positive.detach().mean(), "error_negative": negative.detach().mean()}
        )
