"""Rewards minus the mean of their group, in the reward's own units."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..rewards.stats import is_flat
from .combine import weighted_mean
from .group import normalised_parts
from .port import Advantages, Credit, Looked, ScoredGroup


def centred(values: Tensor, valid: Tensor | None = None) -> Tensor:
    """``D = r - mean(r)`` over the valid values of one group.

    A group whose spread is rounding noise (`is_flat`), or with fewer than two valid values, gives zeros.

    Args:
        values: ``[G]``; entries that are not valid are never read and may be NaN.
        valid: bool ``[G]``; None means all.

    Returns:
        ``[G]``, 0 where not valid, sum 0; computed in float64, returned in at least float32.
    """
    valid = torch.ones_like(values, dtype=torch.bool) if valid is None else valid
    dtype = torch.promote_types(values.dtype, torch.float32)
    chosen = values[valid].double()
    deviations = torch.zeros(len(values), dtype=torch.float64, device=values.device)
    if len(chosen) >= 2 and not is_flat(chosen, dtype):
        deviations[valid] = chosen - chosen.mean()
    return deviations.to(dtype)


@dataclass(frozen=True)
class CentredRewards(Credit):
    """The weighted mean of the rewards minus its mean over the group: it matters by how much an image is better.

    ``A_i = R_i - mean_j R_j`` with ``R_i = sum_k w_k r_ik / sum_k w_k``, ``[G]``. It is GRPO without the group's
    standard deviation (as Dr. GRPO, arXiv 2503.20783, has it, and as SLAS, arXiv 2605.10937, begins). Failed scores
    are treated as in `WeightedRewards`: an image that one reward failed on is left out, and so is a reward that failed
    on the whole group.

    Traps: the units are the reward's, and so is the size of the gradient: a reward in 0..100 teaches a hundred times
    as much as one in 0..1, and advantages above the objective's ``adv_clip`` are cut off. Follow it by a stage that
    brings the iteration to unit size (`SuperLinear`). Nothing is divided by, so ``spread_floor`` has nothing to do.
    """

    label: ClassVar[str] = "centred rewards"
    makes: ClassVar[bool] = True

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """The centred weighted mean of the scores."""
        mean, counted, _ = weighted_mean(group)
        return Advantages(centred(mean, counted), counted, normalised_parts(group.scores, group.floors))
