"""Sampling: schedules, windows, plans, kernels and solvers, and the rollout that records what is trained."""

from .kernels import DanceSDE, FlowCPS, FlowSDE, Gaussian, Kernel, PreciseDanceSDE, PreciseSDE
from .ode import decode, sample
from .planners import FullPlanner, OdePlanner, Planner, Step, StepPlan, WindowPlanner, deterministic_plan, windowed_plan
from .rollouts import Sampling, rollout
from .schedule import check_sigmas, flash_sigmas, flow_sigmas
from .solvers import DPMpp2M, Euler, Solver
from .trajectory import Trajectory, Transition
from .windows import DecayingWindow, FrozenWindow, RandomWindow, SlidingWindow, Window

__all__ = [
    "DPMpp2M",
    "DanceSDE",
    "DecayingWindow",
    "Euler",
    "FlowCPS",
    "FlowSDE",
    "FrozenWindow",
    "FullPlanner",
    "Gaussian",
    "Kernel",
    "OdePlanner",
    "Planner",
    "PreciseDanceSDE",
    "PreciseSDE",
    "RandomWindow",
    "Sampling",
    "SlidingWindow",
    "Solver",
    "Step",
    "StepPlan",
    "Trajectory",
    "Transition",
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
