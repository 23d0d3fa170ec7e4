"""How the scores of several rewards become one advantage per image.

    WeightedAdvantages   A = sum_k w_k A_k / sum_k w_k           (MixGRPO): each reward normalised in its group
    WeightedRewards      A = normalised(sum_k w_k r_k)           rewards keep their scales
    BatchNormalised      A of WeightedAdvantages / std(A) over all groups of the iteration     (GDPO, arXiv 2601.05242)

A failed score is a masked sample, never a 0: it counts neither in a mean nor in a spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .group import Scored, group_advantages, mix_advantages


@dataclass(frozen=True)
class Advantages:
    """``values [G]`` of a group, and which members ``counted [G]``; the others' values are 0."""

    values: Tensor
    counted: Tensor


class Combination(Protocol):
    """Combines rewards in two stages: within each group, then over all groups of an iteration."""

    def combine(
        self, scores: Mapping[str, Scored], weights: Mapping[str, float], floors: Mapping[str, float]
    ) -> Advantages:
        """Advantages of one group. ``weights`` name the same rewards as ``scores``; see ``mix_advantages``."""
        ...

    def settle(self, groups: Sequence[Advantages]) -> Sequence[Advantages]:
        """Advantages of all groups, each of which ``combine`` made; those that are 0 stay 0."""
        ...


@dataclass(frozen=True)
class WeightedAdvantages:
    """Every reward is normalised on its own; what counts is who of the group is better, not by how much."""

    def combine(
        self, scores: Mapping[str, Scored], weights: Mapping[str, float], floors: Mapping[str, float]
    ) -> Advantages:
        counted = torch.stack([score.valid for score in scores.values()]).any(0)
        return Advantages(mix_advantages(scores, weights, floors), counted)

    def settle(self, groups: Sequence[Advantages]) -> Sequence[Advantages]:
        return groups


@dataclass(frozen=True)
class WeightedRewards:
    """The weighted mean of the rewards is normalised; a reward of larger scale counts for more.

    An image without a score from one of them has no such mean and is left out; a reward that failed on the whole group
    is left out of the group's mean.
    """

    def combine(
        self, scores: Mapping[str, Scored], weights: Mapping[str, float], floors: Mapping[str, float]
    ) -> Advantages:
        working = {name: score for name, score in scores.items() if bool(score.valid.any()) and weights[name] > 0}
        first = next(iter(scores.values()))
        if not working:
            return Advantages(torch.zeros(len(first.values)), torch.zeros_like(first.valid))
        total = sum(weights[name] for name in working)
        shares = {name: weights[name] / total for name in working}
        counted = torch.stack([score.valid for score in working.values()]).all(0)
        mean = sum(shares[name] * score.values.double() for name, score in working.items())
        floor = sum(share * floors.get(name, 0.0) for name, share in shares.items())
        return Advantages(group_advantages(mean.to(first.values.dtype), counted, floor), counted)

    def settle(self, groups: Sequence[Advantages]) -> Sequence[Advantages]:
        return groups


@dataclass(frozen=True)
class BatchNormalised(WeightedAdvantages):
    """Weighted advantages, brought to unit size over the iteration: they stay large where rewards disagree."""

    def settle(self, groups: Sequence[Advantages]) -> Sequence[Advantages]:
        # Their mean is 0 already: every reward's advantages sum to 0 over the samples that it could score.
        counted = torch.cat([group.values[group.counted].double() for group in groups])
        spread = float(counted.std()) if len(counted) > 1 else 0.0
        return [replace(group, values=group.values / (spread + 1e-8)) for group in groups] if spread else groups
