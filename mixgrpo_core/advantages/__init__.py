"""From the scores of a group to its credit, in stages: one file each; below are those that a run can be given."""

from .areas import Area, Border, Inside, PromptMask
from .backed_up import BackedUp
from .branches import BranchAdvantages
from .centring import CentredRewards, centred
from .combine import BatchNormalised, WeightedAdvantages, WeightedRewards
from .depth_credit import DepthCredit, depth_advantages, width_pruned
from .group import group_advantages, mix_advantages
from .largest_spread import LargestSpread, widest
from .masks import MaskCredit, at_places
from .min_norm import MinNorm, min_norm_shares
from .novelty import NoveltyBonus, novelty_bonus
from .pareto import ParetoCredit, pareto_fronts
from .patches import DinoPatches, PatchFeatures, PixelPatches
from .port import Advantages, Credit, ScoredGroup
from .routing import Route, RoutedCredit, routed
from .shaping import SuperLinear, super_linear
from .slots import PreferenceSlots, drawn_preference, slot_advantages
from .structure import StructureCredit, structure_map
from .time_credit import TimeCredit, likeness, time_weights
from .tree import back_up, edge_means
from .uncertainty import UncertaintyCredit, place_uncertainty, top_share

__all__ = [
    "Advantages",
    "Area",
    "BackedUp",
    "BatchNormalised",
    "Border",
    "BranchAdvantages",
    "CentredRewards",
    "Credit",
    "DepthCredit",
    "DinoPatches",
    "Inside",
    "LargestSpread",
    "MaskCredit",
    "MinNorm",
    "NoveltyBonus",
    "ParetoCredit",
    "PatchFeatures",
    "PixelPatches",
    "PreferenceSlots",
    "PromptMask",
    "Route",
    "RoutedCredit",
    "ScoredGroup",
    "StructureCredit",
    "SuperLinear",
    "TimeCredit",
    "UncertaintyCredit",
    "WeightedAdvantages",
    "WeightedRewards",
    "at_places",
    "back_up",
    "centred",
    "depth_advantages",
    "drawn_preference",
    "edge_means",
    "group_advantages",
    "likeness",
    "min_norm_shares",
    "mix_advantages",
    "novelty_bonus",
    "pareto_fronts",
    "place_uncertainty",
    "routed",
    "slot_advantages",
    "structure_map",
    "super_linear",
    "time_weights",
    "top_share",
    "widest",
    "width_pruned",
]
