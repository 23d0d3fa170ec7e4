"""Advantages of a group: how much better than its siblings each image of one prompt is.

For one reward, ``A = (r - mean) / (std + 1e-8)`` over the valid samples of the group, with the unbiased standard
deviation (GRPO, arXiv 2402.03300). Several rewards are normalised one by one and then averaged with weights that sum to
1, so that no reward counts for more because its scale is larger. A failed reward is a masked sample, never a 0 score.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ..rewards.stats import is_flat


class Scored(Protocol):
    """What one reward said of a group."""

    @property
    @abstractmethod
    def values(self) -> Tensor:
        """Scores [G], of a float dtype."""
        ...

    @property
    @abstractmethod
    def valid(self) -> Tensor:
        """Mask [G], bool, of those that count."""
        ...


def group_advantages(values: Tensor, valid: Tensor | None = None, floor: float = 0.0) -> Tensor:
    """Normalise the rewards of one group.

    A group is flat when the spread of its valid values is rounding noise: a standard deviation of at most
    ``8 eps max|r|``, with eps of the values' dtype (float32 where that is coarser). Its advantages are 0, not noise
    blown up to unit size. So are those of a group with fewer than two valid samples.

    Args:
        values: shape [G]; entries that are not valid are never read and may be NaN.
        valid: bool mask of shape [G]; None means all.
        floor: >= 0, least standard deviation to divide by, in units of the reward: nearly equal groups then get small
            advantages.

    Returns:
        Shape [G], 0 where not valid, sum 0; computed in float64, returned in at least float32.

    Raises:
        ValueError: wrong shapes, a negative floor, or a valid value that is not finite.
    """
    if valid is None:
        valid = torch.ones_like(values, dtype=torch.bool)
    if values.dim() != 1 or valid.shape != values.shape or valid.dtype != torch.bool:
        raise ValueError(
            f"Expected values of shape [G] and a bool mask of the same shape, found {tuple(values.shape)} and "
            f"{valid.dtype} of {tuple(valid.shape)}; pass one group at a time."
        )
    if not floor >= 0:
        raise ValueError(f"floor must be >= 0, found {floor!r}.")
    dtype = torch.promote_types(values.dtype, torch.float32)
    chosen = values[valid].double()
    if not bool(chosen.isfinite().all()):
        raise ValueError(
            f"Found {values.tolist()} with mask {valid.tolist()}: mark values that are not finite as invalid."
        )
    advantages = torch.zeros(len(values), dtype=torch.float64, device=values.device)
    if len(chosen) >= 2 and not is_flat(chosen, dtype):
        advantages[valid] = (chosen - chosen.mean()) / (chosen.std().clamp(min=floor) + 1e-8)
    return advantages.to(dtype)


def mix_advantages(
    scores: Mapping[str, Scored], weights: Mapping[str, float], floors: Mapping[str, float] | None = None
) -> Tensor:
    """Weighted mean of the advantages of several rewards on one group: ``sum_k w_k A_k / sum_k w_k``.

    Every reward is normalised with its own mask; a sample it could not score gets 0 from it. The mean is not normalised
    again, so advantages are small where rewards disagree.

    Args:
        scores: per reward, an object with `values` [G] and `valid` [G].
        weights: per reward, a number >= 0, at least one > 0; the same names as `scores`.
        floors: for some of the rewards, the least standard deviation to divide by (see group_advantages).

    Returns:
        Shape [G], float64 where a score is, else float32.

    Raises:
        ValueError: other names than `scores`, weights that are none, or rewards that scored different groups.
    """
    floors = floors or {}
    _check_mix(scores, weights, floors)
    total = math.fsum(weights.values())
    parts = [
        weights[name] / total * group_advantages(score.values, score.valid, floors.get(name, 0.0)).double()
        for name, score in scores.items()
    ]
    if len({part.shape for part in parts}) > 1:
        sizes = {name: len(score.values) for name, score in scores.items()}
        raise ValueError(f"All rewards must score the same group, found group sizes {sizes}.")
    dtypes = [score.values.dtype for score in scores.values()]
    dtype = torch.float64 if torch.float64 in dtypes else torch.float32
    return torch.stack(parts).sum(0).to(dtype)


def normalised_parts(scores: Mapping[str, Scored], floors: Mapping[str, float]) -> dict[str, Tensor]:
    """The advantages of every reward on its own, ``[G]`` each."""
    return {name: group_advantages(score.values, score.valid, floors.get(name, 0.0)) for name, score in scores.items()}


def has_spread(advantages: Tensor) -> bool:
    """Whether any advantage is not 0; where none is, the group teaches nothing and its update can be skipped."""
    return bool((advantages != 0).any())


def _check_mix(scores: Mapping[str, Scored], weights: Mapping[str, float], floors: Mapping[str, float]) -> None:
    if not scores:
        raise ValueError("Found no scores; at least one reward is needed.")
    if scores.keys() != weights.keys():
        raise ValueError(
            f"Every reward needs a weight and every weight a reward: scores are named {sorted(scores)}, weights "
            f"{sorted(weights)}; a weight of 0 switches a reward off."
        )
    if not floors.keys() <= scores.keys():
        raise ValueError(
            f"floors names unknown rewards {sorted(floors.keys() - scores.keys())}; known: {sorted(scores)}."
        )
    require_weights(weights)


def require_weights(weights: Mapping[str, float]) -> None:
    """Raise ``ValueError`` unless all are finite and >= 0, and one is above 0."""
    wrong = {name: weight for name, weight in weights.items() if not (math.isfinite(weight) and weight >= 0)}
    if wrong:
        raise ValueError(
            f"Weights must be finite and >= 0, found {wrong}; to punish what a reward likes, negate the reward."
        )
    if not any(weights.values()):
        raise ValueError(f"At least one weight must be above 0, found {dict(weights)}.")
