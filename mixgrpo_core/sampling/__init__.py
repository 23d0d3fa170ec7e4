"""Sampling: schedules, windows, plans, kernels and solvers, and the rollout that records what is trained."""

from .branch_step import BranchStepPlanner
from .branch_tree import BranchPlanner
from .iso_temporal import IsoTemporalPlanner
from .kernels import DanceSDE, FlowCPS, FlowSDE, Gaussian, Kernel, PreciseDanceSDE, PreciseSDE
from .merged_step import MergedStepPlanner
from .ode import decode, sample
from .planners import FullPlanner, OdePlanner, Planner, Step, StepPlan, WindowPlanner, deterministic_plan, windowed_plan
from .rollouts import RolloutSettings, rollout
from .schedule import check_sigmas, flash_sigmas, flow_sigmas
from .solvers import DPMpp2M, Euler, Solver
from .trajectory import Trajectory, Transition
from .tree_window import TreePlanner
from .wandering_tree import WanderingTreePlanner
from .windows import DecayingWindow, FrozenWindow, RandomWindow, SlidingWindow, Window
from .windows_geometric import GeometricWindow

__all__ = [
    "BranchPlanner",
    "BranchStepPlanner",
    "DPMpp2M",
    "DanceSDE",
    "DecayingWindow",
    "Euler",
    "FlowCPS",
    "FlowSDE",
    "FrozenWindow",
    "FullPlanner",
    "Gaussian",
    "GeometricWindow",
    "IsoTemporalPlanner",
    "Kernel",
    "MergedStepPlanner",
    "OdePlanner",
    "Planner",
    "PreciseDanceSDE",
    "PreciseSDE",
    "RandomWindow",
    "RolloutSettings",
    "SlidingWindow",
    "Solver",
    "Step",
    "StepPlan",
    "Trajectory",
    "Transition",
    "TreePlanner",
    "WanderingTreePlanner",
    "Window",
    "WindowPlanner",
    "check_sigmas",
    "decode",
    "deterministic_plan",
    "flash_sigmas",
    "flow_sigmas",
    "rollout",
    "sample",
    "windowed_plan",
]
