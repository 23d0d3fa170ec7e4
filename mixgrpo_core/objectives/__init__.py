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
from .nft import DiffusionNFT, branch_errors, positive_share
from .pieces import Group
from .port import LossReport, Objective, RatioObjective
from .positional import PositionalGRPO, position_log_ratio
from .regularisers import Regulariser, VelocityKL
from .step_weights import Even, FlatGradient, GuardWeight, StepWeight
from .update import Updating, update_policy

__all__ = [
    "AWM",
    "DGPO",
    "GCPO",
    "GRPO",
    "DiffusionNFT",
    "ErrorWeight",
    "Even",
    "FlatGradient",
    "FlowDPPO",
    "GeneralHuber",
    "Group",
    "GuardGRPO",
    "GuardWeight",
    "Huber",
    "LevelPower",
    "LossReport",
    "Objective",
    "PositionalGRPO",
    "RatioObjective",
    "Regulariser",
    "StepWeight",
    "UpdateStats",
    "Updating",
    "VelocityKL",
    "branch_errors",
    "chunk_log_ratios",
    "dppo_loss",
    "dropped_cells",
    "group_weights",
    "matching_policy_loss",
    "mean_square_error",
    "position_log_ratio",
    "positive_share",
    "step_kl",
    "stopped_cells",
    "update_policy",
]
