"""From the scores of a group to its credit, in stages: one file each; below are those that a run can be given."""

from .areas import Area, Border, Inside, PromptMask
from .centring import CentredRewards, centred
from .combine import BatchNormalised, WeightedAdvantages, WeightedRewards
from .group import group_advantages, mix_advantages
from .masks import MaskCredit, at_places
from .pareto import ParetoCredit, pareto_fronts
from .port import Advantages, Credit, ScoredGroup
from .shaping import SuperLinear, super_linear
from .time_credit import TimeCredit, likeness, time_weights

__all__ = [
    "Advantages",
    "Area",
    "BatchNormalised",
    "Border",
    "CentredRewards",
    "Credit",
    "Inside",
    "MaskCredit",
    "ParetoCredit",
    "PromptMask",
    "ScoredGroup",
    "SuperLinear",
    "TimeCredit",
    "WeightedAdvantages",
    "WeightedRewards",
    "at_places",
    "centred",
    "group_advantages",
    "likeness",
    "mix_advantages",
    "pareto_fronts",
    "super_linear",
    "time_weights",
]
