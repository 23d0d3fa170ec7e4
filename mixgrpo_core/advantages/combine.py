"""How the scores of several rewards become one advantage per image.

    WeightedAdvantages   A = sum_k w_k A_k / sum_k w_k           (MixGRPO): each reward normalised in its group
    WeightedRewards      A = normalised(sum_k w_k r_k)           rewards keep their scales
    BatchNormalised      A of WeightedAdvantages / std(A) over all groups of the iteration     (GDPO, arXiv 2601.05242)

A failed score is a masked sample, never a 0: it counts neither in a mean nor in a spread.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..support.ranks import ALONE, Ranks
from .group import group_advantages, mix_advantages, normalised_parts
from .port import Advantages, Credit, Looked, ScoredGroup


@dataclass(frozen=True)
class WeightedAdvantages(Credit):
    """Every reward is normalised on its own; what counts is who of the group is better, not by how much."""

    label: ClassVar[str] = "weighted advantages"
    makes: ClassVar[bool] = True

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """``sum_k w_k A_k / sum_k w_k``."""
        counted = torch.stack([score.valid for score in group.scores.values()]).any(0)
        values = mix_advantages(group.scores, group.weights, group.floors)
        return Advantages(values, counted, normalised_parts(group.scores, group.floors))


@dataclass(frozen=True)
class WeightedRewards(Credit):
    """The weighted mean of the rewards is normalised; a reward of larger scale counts for more.

    An image without a score from one of them has no such mean and is left out; a reward that failed on the whole group
    is left out of the group's mean.
    """

    label: ClassVar[str] = "weighted rewards"
    makes: ClassVar[bool] = True

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """The normalised weighted mean of the scores."""
        mean, counted, floor = weighted_mean(group)
        values = group_advantages(mean, counted, floor)
        return Advantages(values, counted, normalised_parts(group.scores, group.floors))


@dataclass(frozen=True)
class BatchNormalised(WeightedAdvantages):
    """Weighted advantages, brought to unit size over the iteration: they stay large where rewards disagree."""

    label: ClassVar[str] = "weighted advantages, batch-normalised (GDPO)"

    def of_iteration(self, groups: Sequence[Advantages]) -> Sequence[Advantages]:
        """Divided by the standard deviation of all counted values; those that are 0 stay 0."""
        # Their mean is 0 already: every reward's advantages sum to 0 over the samples that it could score.
        spread = spread_of(groups)
        if not spread:
            return groups
        return [group.changed(group.values / (spread + 1e-8), batch_spread=spread) for group in groups]


def spread_of(groups: Sequence[Advantages]) -> float:
    """The unbiased standard deviation of all counted values ``[G]`` of an iteration; 0 for fewer than two."""
    counted = torch.cat([group.values[group.counted].double() for group in groups])
    return float(counted.std()) if len(counted) > 1 else 0.0


def weighted_mean(group: ScoredGroup) -> tuple[Tensor, Tensor, float]:
    """Weighted mean of the scores ``[G]``, which members have one ``[G]``, and the mean of the rewards' floors.

    A reward that failed on the whole group is left out of the mean.
    """
    scores, weights = group.scores, group.weights
    working = {name: score for name, score in scores.items() if bool(score.valid.any()) and weights[name] > 0}
    first = next(iter(scores.values()))
    if not working:
        return torch.zeros(len(first.values)), torch.zeros_like(first.valid), 0.0
    total = sum(weights[name] for name in working)
    shares = {name: weights[name] / total for name in working}
    counted = torch.stack([score.valid for score in working.values()]).all(0)
    mean = torch.zeros(len(first.values), dtype=torch.float64)
    for name, score in working.items():
        mean = mean + shares[name] * score.values.double()
    floor = sum(share * group.floors.get(name, 0.0) for name, share in shares.items())
    return mean.to(first.values.dtype), counted, floor


def initial(stages: Sequence[Credit], group: ScoredGroup, looked: Sequence[Looked]) -> Advantages:
    """What the first of ``stages`` makes of a group."""
    return stages[0].of_group(group, None, looked[0])


def credited(
    stages: Sequence[Credit],
    groups: Sequence[ScoredGroup],
    first: Sequence[Advantages],
    looked: Sequence[Sequence[Looked]],
    ranks: Ranks = ALONE,
) -> Sequence[Advantages]:
    """The advantages of this rank's groups of an iteration, after every stage.

    Args:
        first: of each group, what `initial` made.
        looked: of each group, what each stage kept of its images.
    """
    advantages = _of_iteration(stages[0], first, ranks)
    for place, stage in enumerate(stages[1:], 1):
        changed = [
            stage.of_group(group, before, kept[place])
            for group, before, kept in zip(groups, advantages, looked, strict=True)
        ]
        advantages = _of_iteration(stage, changed, ranks)
    return advantages


def _of_iteration(stage: Credit, own: Sequence[Advantages], ranks: Ranks) -> list[Advantages]:
    """What a stage makes of this rank's advantages, seeing those of all; most look at none but a group's own."""
    if type(stage).of_iteration is Credit.of_iteration:
        return list(own)
    found = stage.of_iteration(ranks.joined(own))
    return [found[place] for place in ranks.own(len(found))]


def figures_of(groups: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What the stages reported of groups, by name: the mean over those that it was reported of."""
    found: dict[str, list[float]] = defaultdict(list)
    for group in groups:
        for name, value in group.items():
            found[name].append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}
