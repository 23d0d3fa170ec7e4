"""Super-linear shaping of advantages over an iteration, after SLAS (arXiv 2605.10937)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from .combine import spread_of
from .port import Advantages, Credit, Looked, ScoredGroup

FLOOR = 1e-8
"""Least standard deviation of an iteration that is divided by."""


def super_linear(deviations: Tensor, gamma: float) -> Tensor:
    """``sign(D) |D|^(1 + gamma)``, in the shape and dtype of ``deviations``; computed in float64."""
    wide = deviations.double()
    return (wide.sign() * wide.abs() ** (1 + gamma)).to(deviations.dtype)


@dataclass(frozen=True)
class SuperLinear(Credit):
    """Large differences count for more than their share: ``A = sign(D) |D|^(1 + gamma)``, at unit size over the batch.

    ``D [G]`` is what the stage before gives, in SLAS the reward minus its group's mean (`CentredRewards`). All shaped
    advantages of the iteration are then divided by their unbiased standard deviation, at least 1e-8, and not centred
    again. Groups whose images hardly differ fade, where a group's own standard deviation would blow them up.

    After SLAS (Super-Linear Advantage Shaping, arXiv 2605.10937), from notes on the paper that agree on the formula.
    Differences: several rewards are mixed before the shaping, by their weights, and failed scores are left out.

    Traps: ``D`` has the reward's units, so rewards of different scales need weights that make up for it. A batch of
    one group is normalised by its own spread after all. A skewed group keeps a mean that is not 0. Large gamma makes
    a few images all that counts, and what is above the objective's ``adv_clip`` is cut off.

    Attributes:
        gamma: >= 0; 0 is linear. No value is published; this package is tested from 0.5 to 1.
    """

    label: ClassVar[str] = "super-linear (after SLAS)"

    gamma: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gamma) and self.gamma >= 0):
            raise ValueError(f"gamma must be a finite number of 0 or more, found {self.gamma}; 0 is linear")

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """The shaped values."""
        assert advantages is not None  # it is never the first stage
        return replace(advantages, values=super_linear(advantages.values, self.gamma))

    def of_iteration(self, groups: Sequence[Advantages]) -> Sequence[Advantages]:
        """Divided by the standard deviation of all counted values."""
        spread = max(spread_of(groups), FLOOR)
        return [group.changed(group.values / spread, shaped_spread=spread) for group in groups]
