"""Figures of one reward over the groups of an iteration or of an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from .port import Scores


@dataclass(frozen=True, kw_only=True)
class RewardStats:
    """One reward over many images.

    Attributes:
        mean, spread: of the valid values; the spread is the unbiased standard deviation. NaN without any.
        valid: values that count, of ``count``; the others failed or were not judged.
        within_group: mean of the groups' own spreads; None where no group has two valid values.
        tied: share of the groups whose valid values are all alike, so that they teach nothing of this reward.
        reason: why values were masked, as told first; empty where none was.
        correlation: with other rewards within groups, over the images that both scored, in -1..1.
    """

    mean: float
    spread: float
    valid: int
    count: int
    within_group: float | None = None
    tied: float | None = None
    reason: str = ""
    correlation: Mapping[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Values that do not count."""
        return self.count - self.valid

    @classmethod
    def of(cls, groups: Sequence[Scores], others: Mapping[str, Sequence[Scores]] | None = None) -> "RewardStats":
        """Over ``groups``; ``others`` are further rewards of the same groups to be correlated with."""
        kept = [scores.values[scores.valid].double() for scores in groups]
        values = torch.cat(kept)
        compared = [group for group in kept if len(group) > 1]
        correlation = {name: within_groups(groups, other) for name, other in (others or {}).items()}
        return cls(
            mean=float(values.mean()) if len(values) else float("nan"),
            spread=float(values.std()) if len(values) > 1 else float("nan"),
            valid=len(values),
            count=sum(len(scores.values) for scores in groups),
            within_group=sum(float(group.std()) for group in compared) / len(compared) if compared else None,
            tied=sum(map(is_flat, compared)) / len(compared) if compared else None,
            reason=next((scores.note for scores in groups if scores.note and not bool(scores.valid.all())), ""),
            correlation={name: round(value, 4) for name, value in correlation.items() if value is not None},
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; what has nothing to say is left out."""
        values = asdict(self)
        silent: dict[str, object] = {"reason": "", "correlation": {}, "tied": None}
        return {name: value for name, value in values.items() if name not in silent or value != silent[name]}


def all_stats(scores: Mapping[str, Sequence[Scores]]) -> dict[str, RewardStats]:
    """Figures of every reward by name, with their correlations."""
    return {
        name: RewardStats.of(groups, {other: found for other, found in scores.items() if other != name})
        for name, groups in scores.items()
    }


def within_groups(one: Sequence[Scores], two: Sequence[Scores]) -> float | None:
    """Correlation of two rewards about their groups' means, over the images that both scored; None without spread."""
    products = torch.zeros(3, dtype=torch.float64)  # of one with two, with itself, of two with itself
    for a, b in zip(one, two, strict=True):
        both = a.valid & b.valid
        if int(both.sum()) > 1 and not is_flat(a.values[both]) and not is_flat(b.values[both]):
            x, y = _centred(a.values[both]), _centred(b.values[both])
            products += torch.stack([x @ y, x @ x, y @ y])
    return float(products[0] / (products[1] * products[2]).sqrt()) if bool((products[1:] > 0).all()) else None


def rank_correlation(one: Scores, two: Scores) -> float | None:
    """Spearman's, of two scorings of a group, over the images that both scored; images alike share the mean of their
    ranks. 0 where one of the two has no spread; None where neither has, or fewer than two images are left."""
    both = one.valid & two.valid
    if int(both.sum()) < 2:
        return None
    a, b = one.values[both], two.values[both]
    flat = (is_flat(a), is_flat(b))
    if any(flat):
        return None if all(flat) else 0.0
    x, y = _centred(_ranks(a)), _centred(_ranks(b))
    return float(x @ y / (x.norm() * y.norm()))


def _ranks(values: Tensor) -> Tensor:
    below = (values[:, None] > values[None, :]).sum(1).double()
    return below + ((values[:, None] == values[None, :]).sum(1) - 1) / 2


def _centred(values: Tensor) -> Tensor:
    values = values.double()
    return values - values.mean()


def is_flat(values: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether the spread of at least two finite ``values`` is no more than the rounding noise of ``dtype``."""
    return float(values.std()) <= 8 * torch.finfo(dtype).eps * float(values.abs().max())
