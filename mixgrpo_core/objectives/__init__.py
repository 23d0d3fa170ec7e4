"""Objectives: one file each, all behind one port; the names below are those that a run can be given."""

from .awm import AWM, matching_policy_loss
from .dgpo import DGPO, group_weights, stopped_cells
from .error_weights import ErrorWeight, GeneralHuber, Huber, LevelPower
from .figures import UpdateStats
from .flow_dppo import FlowDPPO, dppo_loss, dropped_cells, step_kl
from .forward import mean_square_error
from .gcpo import GCPO, chunk_log_ratios
from .grpo import GRPO
from .guard import GuardGRPO
from .lambda_damping import LambdaGRPO, damping, effective_share
from .log_hinge import hinge_cost
from .nft import DiffusionNFT, branch_errors, positive_share
from .pcpo import PCPO
from .pieces import Group
from .port import LossReport, Objective, RatioObjective
from .positional import PositionalGRPO, position_log_ratio
from .regularisers import Regulariser, VelocityKL
from .rsm import RSM, matching_cost
from .step_weights import (
    Even,
    FairClip,
    FairClipFlat,
    FlatGradient,
    GuardWeight,
    NoiseLevel,
    ProportionalCredit,
    StepWeight,
)
from .update import Updating, update_policy

__all__ = [
    "AWM",
    "DGPO",
    "GCPO",
    "GRPO",
    "PCPO",
    "RSM",
    "DiffusionNFT",
    "ErrorWeight",
    "Even",
    "FairClip",
    "FairClipFlat",
    "FlatGradient",
    "FlowDPPO",
    "GeneralHuber",
    "Group",
    "GuardGRPO",
    "GuardWeight",
    "Huber",
    "LambdaGRPO",
    "LevelPower",
    "LossReport",
    "NoiseLevel",
    "Objective",
    "PositionalGRPO",
    "ProportionalCredit",
    "RatioObjective",
    "Regulariser",
    "StepWeight",
    "UpdateStats",
    "Updating",
    "VelocityKL",
    "branch_errors",
    "chunk_log_ratios",
    "damping",
    "dppo_loss",
    "dropped_cells",
    "effective_share",
    "group_weights",
    "hinge_cost",
    "matching_cost",
    "matching_policy_loss",
    "mean_square_error",
    "position_log_ratio",
    "positive_share",
    "step_kl",
    "stopped_cells",
    "update_policy",
]
