"""Several rewards by the least of what they ask for together, after OTCA (arXiv 2604.19234)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..support.facts import RunFacts
from ..support.setting import require_finite
from .group import normalised_parts
from .port import Advantages, Credit, Looked, ScoredGroup

_HALVINGS = 128


def min_norm_shares(parts: Tensor, prior: Tensor, judged: Tensor | None = None) -> Tensor:
    """Each member's shares of the rewards for which ``|sum_k c_k A_k|`` is least; of those the nearest to a prior.

    All parts of one sign: all on the smallest, in equal parts with those that are as small but for what the prior
    says. Both signs: the sum is 0.

    Args:
        parts: advantages per reward ``[G, K]``.
        prior: ``[K]``, shares that sum to 1.
        judged: bool ``[G, K]``, which parts there are; None means all.

    Returns:
        The shares c ``[G, K]``, >= 0, rows of sum 1 (of 0 where nothing was judged), in at least float64.
    """
    a, prior = parts.double(), prior.double().expand(parts.shape)
    judged = torch.ones_like(parts, dtype=torch.bool) if judged is None else judged
    above, below = (judged & (a > 0)), (judged & (a < 0))
    size = a.abs().masked_fill(~judged, torch.inf)
    agreed = _on_simplex(prior, judged & (size == size.amin(1, keepdim=True)))
    gap = a.masked_fill(~above, torch.inf).amin(1) - a.masked_fill(~below, -torch.inf).amax(1)
    high = 2 / gap.clamp(min=torch.finfo(a.dtype).tiny)  # beyond it one sign has all shares
    low = -high
    for _ in range(_HALVINGS):  # the sum falls as the slope rises
        middle = (low + high) / 2
        positive = (_on_simplex(prior - middle[:, None] * a, judged) * a).sum(1) > 0
        low, high = torch.where(positive, middle, low), torch.where(positive, high, middle)
    opposed = _on_simplex(prior - ((low + high) / 2)[:, None] * a, judged)
    return torch.where((above.any(1) & below.any(1))[:, None], opposed, agreed)


def _on_simplex(points: Tensor, allowed: Tensor) -> Tensor:
    """The nearest of ``{c >= 0, sum c = 1}`` to each row of points ``[G, K]``, 0 where not allowed."""
    points = points.masked_fill(~allowed, -torch.inf)
    ordered = points.sort(1, descending=True).values
    counts = torch.arange(1, points.shape[1] + 1, dtype=points.dtype, device=points.device)
    excess = (ordered.cumsum(1) - 1) / counts
    inside = (ordered > excess).sum(1, keepdim=True).clamp(min=1)
    return (points - excess.gather(1, inside - 1)).clamp(min=0).nan_to_num(nan=0.0)


@dataclass(frozen=True)
class MinNorm(Credit):
    """Several rewards mixed for each image by the least that they ask for together: a soft "and".

    ``A_i = sum_k c_ik A_ik`` with the advantages ``A_k [G]`` that each reward gives in the group, and
    ``c_i = (1 - x) argmin |sum_k c_k A_ik| + x p`` on the simplex. For one image all rewards share the direction of
    the gradient, so the minimum is scalar: where they agree in sign the weakest speaks for all, and where they do not
    the sum is 0. Minimisers are not unique; this takes the nearest to ``p``, the rewards' weights (even by default).

    After OTCA (arXiv 2604.19234, eq. 11), from notes on the paper. Differences: the share of exploration is ours (its
    constants are not public), and the weights are those of the run. Its time credit is `TimeCredit`, which goes after
    it: ``(MinNorm(), TimeCredit())``.

    Traps: it only ever trains where rewards agree. With ``explore=0`` conflicting images have no advantage at all.
    Advantages of a group need not sum to 0. The published ImageReward of the whole method (1.200) is below that of
    time credit alone (1.262). A reward that does not tell the images of a group apart has no say in that group, and
    one that failed on an image none on that image.

    Attributes:
        explore: x, 0..1, the share of the plain weighted mean; 1 is `WeightedAdvantages`. 0.1 is ours.
    """

    label: ClassVar[str] = "min-norm (after OTCA)"
    makes: ClassVar[bool] = True

    explore: float = 0.1

    def __post_init__(self) -> None:
        require_finite(self)
        if not 0 <= self.explore <= 1:
            raise ValueError(f"explore must be within 0 and 1, found {self.explore}")

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` for a run of one reward."""
        facts.require_rewards(2, "MinNorm", "WeightedAdvantages()")

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """The mixed advantages."""
        by_name = normalised_parts(group.scores, group.floors)
        valid = torch.stack([score.valid for score in group.scores.values()], 1)
        parts = torch.stack(list(by_name.values()), 1)
        weights = torch.tensor([group.weights[name] for name in by_name], dtype=torch.float64, device=parts.device)
        judged = valid & (parts != 0).any(0) & (weights > 0)
        prior = judged * weights
        prior = prior / prior.sum(1, keepdim=True).clamp(min=torch.finfo(prior.dtype).tiny)
        shares = (1 - self.explore) * min_norm_shares(parts, prior, judged) + self.explore * prior
        values = (shares * parts.double()).sum(1).to(parts.dtype)
        opposed = ((judged & (parts > 0)).any(1) & (judged & (parts < 0)).any(1)).double().mean()
        return Advantages(values, valid.any(1), by_name).changed(values, rewards_opposed=opposed)
