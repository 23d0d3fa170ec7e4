"""Centred rewards by the largest spread of a group in the iteration, after Geo-Align (arXiv 2605.23903)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .centring import CentredRewards
from .port import Advantages


def widest(groups: Sequence[Tensor]) -> float:
    """The largest unbiased standard deviation among groups of values ``[G]``; 0 where none has two."""
    return max((float(group.double().std()) for group in groups if len(group) > 1), default=0.0)


@dataclass(frozen=True)
class LargestSpread(CentredRewards):
    """Rewards minus their group's mean, divided by the largest standard deviation of any group of the iteration.

    ``A_i = (r_i - mean(r)) / max_g std(r_g)``, ``[G]``: no group has a larger spread than 1, and a group whose images
    hardly differ keeps small advantages where its own standard deviation would blow them up. After Geo-Align
    (arXiv 2605.23903), from notes on the paper, which takes MixGRPO and this divisor. Difference: several rewards are
    mixed first, by their weights and in their own units, as in `CentredRewards`.

    Traps: one wild group makes all others small, and which group that is changes from iteration to iteration; with one
    prompt per iteration it is the group's own standard deviation.
    """

    label: ClassVar[str] = "largest spread (after Geo-Align)"

    def of_iteration(self, groups: Sequence[Advantages]) -> Sequence[Advantages]:
        """Divided by the largest spread."""
        largest = widest([group.values[group.counted] for group in groups])
        divisor = torch.tensor(largest if largest > 0 else 1.0, dtype=torch.float64)
        return [
            group.changed((group.values / divisor).to(group.values.dtype), largest_spread=largest) for group in groups
        ]
