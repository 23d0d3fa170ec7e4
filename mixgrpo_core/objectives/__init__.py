"""Objectives: one file each, all behind one port; the names below are those that a run can be given."""

from .figures import UpdateStats
from .grpo import GRPO
from .guard import GuardGRPO
from .pieces import Group
from .port import LossReport, Objective, RatioObjective
from .regularisers import Regulariser, VelocityKL
from .step_weights import Even, FlatGradient, GuardWeight, StepWeight
from .update import Updating, update_policy

__all__ = [
    "GRPO",
    "Even",
    "FlatGradient",
    "Group",
    "GuardGRPO",
    "GuardWeight",
    "LossReport",
    "Objective",
    "RatioObjective",
    "Regulariser",
    "StepWeight",
    "UpdateStats",
    "Updating",
    "VelocityKL",
    "update_policy",
]
