"""Objectives: one file each, all behind one port; the names below are those that a run can be given."""

from .awm import AWM, matching_policy_loss
from .crd import CRD, centred_match
from .dgpo import DGPO, group_weights, stopped_cells
from .error_weights import ErrorWeight, GeneralHuber, Huber, LevelPower, NoiseError
from .figures import UpdateStats
from .flow_dppo import FlowDPPO, dppo_loss, dropped_cells, step_kl
from .forward import mean_square_error, self_normalised
from .fpo import FPO, flow_log_ratio
from .gcpo import GCPO, chunk_log_ratios
from .grpo import GRPO
from .guard import GuardGRPO
from .lambda_damping import LambdaGRPO, damping, effective_share
from .log_hinge import hinge_cost
from .nft import DiffusionNFT, branch_errors, positive_share, taken
from .pcpo import PCPO
from .pieces import Group
from .port import LossReport, Objective, RatioObjective
from .positional import PositionalGRPO, position_log_ratio
from .ram import RAM, matching_parts
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
from .tmpo import TMPO, path_balance, path_loss
from .update import UpdateSettings, update_policy
from .vgrpo import VGRPO, softly_clipped

__all__ = [
    "AWM",
    "CRD",
    "DGPO",
    "FPO",
    "GCPO",
    "GRPO",
    "PCPO",
    "RAM",
    "RSM",
    "TMPO",
    "VGRPO",
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
    "NoiseError",
    "NoiseLevel",
    "Objective",
    "PositionalGRPO",
    "ProportionalCredit",
    "RatioObjective",
    "Regulariser",
    "StepWeight",
    "UpdateSettings",
    "UpdateStats",
    "VelocityKL",
    "branch_errors",
    "centred_match",
    "chunk_log_ratios",
    "damping",
    "dppo_loss",
    "dropped_cells",
    "effective_share",
    "flow_log_ratio",
    "group_weights",
    "hinge_cost",
    "matching_cost",
    "matching_parts",
    "matching_policy_loss",
    "mean_square_error",
    "path_balance",
    "path_loss",
    "position_log_ratio",
    "positive_share",
    "self_normalised",
    "softly_clipped",
    "step_kl",
    "stopped_cells",
    "taken",
    "update_policy",
]
