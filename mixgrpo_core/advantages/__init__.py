"""From the scores of a group to its credit, in stages: one file each; below are those that a run can be given."""

from .combine import BatchNormalised, WeightedAdvantages, WeightedRewards
from .group import group_advantages, mix_advantages
from .port import Advantages, Credit, ScoredGroup

__all__ = [
    "Advantages",
    "BatchNormalised",
    "Credit",
    "ScoredGroup",
    "WeightedAdvantages",
    "WeightedRewards",
    "group_advantages",
    "mix_advantages",
]
