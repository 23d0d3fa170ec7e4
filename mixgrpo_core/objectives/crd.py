"""CRD: the gain of the velocity on a snapshot is matched to the reward, both centred within a group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..models.lagged import Lag
from ..models.policy import REFERENCE, Policy
from ..support.setting import require_finite
from .forward import difference, draws_at, mean_square_error, self_normalised
from .nft import positive_share
from .pieces import Draw, Noise, Piece
from .port import GROUP, Cells, DrawRequest, LossReport, Objective
from .ratio import velocity_kl

SNAPSHOT = "snapshot"
"""The policy that gains are measured against."""
SAMPLER = "sampler"
"""The policy that samples."""
LEAST_PULL = 1e-4
"""Weight of the pull to the base model for the worst image."""

Match = Literal["squares", "logistic"]


def centred(values: Tensor, weights: Tensor) -> Tensor:
    """``[G, C]`` less their mean by ``weights [G]``, which carries no gradient."""
    return values - (weights[:, None] * values).sum(0).detach()


def centred_match(gain: Tensor, share: Tensor, beta: float, temperature: float | None, match: Match) -> Tensor:
    """How far centred gains ``[G, C]`` are from centred rewards ``[G]`` in 0 .. 1, a mean over all cells.

    ``mean((beta (r - r_mean) - (A - A_mean))^2)``, or the cross entropy of ``beta (r - r_mean)`` to ``sigmoid(A -
    A_mean)``. Without a ``temperature`` the means are plain; with one it is the mean of two losses, with means by
    ``softmax(A / T)`` and by ``softmax(-A / T)``.
    """
    signs = (0.0,) if temperature is None else (1 / temperature, -1 / temperature)
    losses = []
    for sign in signs:
        weights = torch.softmax(sign * share, 0)
        found, wanted = beta * centred(gain, weights), centred(share[:, None], weights).expand_as(gain)
        if match == "squares":
            losses.append((found - wanted).square().mean())
        else:
            losses.append(binary_cross_entropy_with_logits(found, torch.sigmoid(wanted)))
    return torch.stack(losses).mean()


@dataclass(frozen=True)
class CRD(Objective):
    """What the velocity gains on a snapshot at noised images is matched to the rewards, both centred in the group.

    ``c / beta centred_match(r, share)``, ``r_i = -(L_i - L_i')`` with ``L = mean(e^2) / sg max(mean|e|, 1e-5)``, ``e =
    v - u``, primed of the snapshot, and ``share = clip(A, +-c) / (2 c) + 1 / 2``: see `centred_match`. Centering takes
    away what no single prompt can tell, the normaliser of its rewards. After Centered Reward Distillation, arXiv
    2603.14128, as read in Flow-Factory (the authors' code was not): there gains are centred over a batch of several
    prompts, here within each prompt's group and level.

    ``kl mean(b_i mean((v - v_ref)^2))`` is added with ``b_i = q + share_i (1 - q)``, ``q = 1e-4 / kl``: better images
    are held closer. There the base model has guidance 4.5; here it is as plain as the policy. At the snapshot the
    gradient is that of ``mean(A / mean|e| mean(e^2))``. Published: guidance 1, all levels of a grid of 20 but the last
    1 %, standard deviation of the whole batch. It costs three forwards a cell (two new, snapshot), five with ``kl``.

    Attributes:
        beta: how much a gain counts for against a reward, 1 as published.
        adv_clip: c; advantages are clamped to +-c. 5 as published.
        kl: weight of the pull to the base model, 0.1 as published.
        adaptive: whether errors are normalised by their own size, as published.
        temperature: of the two weighted means; None is plain, as published.
        match: "squares" as published, or "logistic".
        share: of the grid's levels from the noisy end that are looked at, rounded down.
        lag: of the snapshot: min(0.25 + 0.005 n, 0.999), blended after each iteration, n counting optimizer steps.
        sampler_lag: of the policy that samples: the current one for 75 steps, then min(0.0075 (n - 75), 0.999).
    """

    label: ClassVar[str] = "after CRD"

    beta: float = 1.0
    adv_clip: float = 5.0
    kl: float = 0.1
    adaptive: bool = True
    temperature: float | None = None
    match: Match = "squares"
    share: float = 0.99
    lag: Lag = Lag(start=0.25, rate=0.005, cap=0.999, every="iteration")
    sampler_lag: Lag = Lag(flat=75, rate=0.0075, cap=0.999, every="iteration")

    def __post_init__(self) -> None:
        require_finite(self)
        if not (min(self.beta, self.adv_clip) > 0 and self.kl >= 0 and 0 < self.share <= 1):
            raise ValueError(f"expected beta and adv_clip above 0, kl of 0 or more and 0 < share <= 1, found {self}")
        if not (self.temperature is None or self.temperature > 0):
            raise ValueError(f"temperature must be above 0, or None for plain means, found {self.temperature}")
        if self.match not in get_args(Match):
            raise ValueError(f"match is one of {', '.join(map(repr, get_args(Match)))}, found {self.match!r}")

    @property
    def needs(self) -> frozenset[str]:
        """Whole groups, and the base model where it pulls."""
        return frozenset({GROUP, REFERENCE}) if self.kl else frozenset({GROUP})

    @property
    def policies(self) -> Mapping[str, Lag]:
        """The snapshot and the policy that samples."""
        return {SNAPSHOT: self.lag, SAMPLER: self.sampler_lag}

    def sampled_by(self, updates: int) -> str | None:
        """The sampler makes all rollouts."""
        return SAMPLER

    def draws(self, request: DrawRequest) -> Sequence[Draw]:
        """Every level but the last, with fresh noise for each member."""
        steps = len(request.sigmas) - 1
        return draws_at(request.sigmas, list(range(max(1, int(steps * self.share)))), Noise.MEMBER)

    def _cost(self, v: Tensor, piece: Piece) -> Tensor:
        if self.adaptive:
            return self_normalised(difference(v, piece.target))
        return mean_square_error(v, piece.target)

    def fixed_terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The error of the snapshot."""
        return {"old_cost": self._cost(policy.named(SNAPSHOT, piece.x, piece.sigma), piece)}

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The error of the velocity, and its distance from the base model's where that pulls."""
        v = policy(piece.x, piece.sigma)
        found = {"cost": self._cost(v, piece)}
        return {**found, "pull": velocity_kl(v, policy.reference(piece.x, piece.sigma))} if self.kl else found

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The match, and the pull of each image by how good it is."""
        gain = table["old_cost"] - table["cost"]
        share = positive_share(cells.advantages, self.adv_clip).to(gain.dtype)
        match = centred_match(gain, share, self.beta, self.temperature, self.match)
        figures = {"match": match.detach(), "gain": gain.detach().mean()}
        loss = self.adv_clip / self.beta * match
        if self.kl:
            least = min(1.0, LEAST_PULL / self.kl)
            pull = ((least + share * (1 - least))[:, None] * table["pull"]).mean()
            loss, figures = loss + self.kl * pull, {**figures, "kl": table["pull"].detach().mean()}
        return LossReport(loss=loss, means=figures)
