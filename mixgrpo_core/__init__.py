"""MixGRPO for flow-matching models: mixed ODE-SDE rollouts, rewards, LoRA updates (arXiv 2507.21802).

Imports torch, numpy, safetensors and the standard library only; a diffusers model lives in ``mixgrpo_core.models``.
"""

from .advantages.combine import BatchNormalised, WeightedAdvantages, WeightedRewards
from .advantages.group import group_advantages, mix_advantages
from .evaluation.guards import Collapse, DiversityLoss, HeldOutFall, PixelDrift, SmallPixels
from .evaluation.held_out import evaluate
from .models.lora_file import load_lora, save_lora
from .objectives import GRPO, GuardGRPO
from .objectives.ratio import PolicyLoss, clipped_policy_loss, default_clip
from .rewards.port import RewardBatch, Scores
from .runs.folder import RunFolder
from .runs.reports import StepReport
from .sampling.kernels import DanceSDE, FlowCPS, FlowSDE, Gaussian, PreciseSDE
from .sampling.ode import sample
from .sampling.planners import FullPlanner, StepPlan, WindowPlanner, deterministic_plan, windowed_plan
from .sampling.rollouts import Sampling, rollout
from .sampling.schedule import flash_sigmas, flow_sigmas
from .sampling.solvers import DPMpp2M, Euler
from .sampling.windows import DecayingWindow, FrozenWindow, RandomWindow, SlidingWindow
from .settings.config import TrainConfig
from .settings.kinds import register
from .settings.presets import (
    dance_grpo,
    flow_grpo,
    flow_grpo_fast,
    mixgrpo,
    mixgrpo_flash,
    mixgrpo_flash_star,
    mixgrpo_sd35,
    precise,
)
from .training.loop import train

__all__ = [
    "GRPO",
    "BatchNormalised",
    "Collapse",
    "DPMpp2M",
    "DanceSDE",
    "DecayingWindow",
    "DiversityLoss",
    "Euler",
    "FlowCPS",
    "FlowSDE",
    "FrozenWindow",
    "FullPlanner",
    "Gaussian",
    "GuardGRPO",
    "HeldOutFall",
    "PixelDrift",
    "PolicyLoss",
    "PreciseSDE",
    "RandomWindow",
    "RewardBatch",
    "RunFolder",
    "Sampling",
    "Scores",
    "SlidingWindow",
    "SmallPixels",
    "StepPlan",
    "StepReport",
    "TrainConfig",
    "WeightedAdvantages",
    "WeightedRewards",
    "WindowPlanner",
    "clipped_policy_loss",
    "dance_grpo",
    "default_clip",
    "deterministic_plan",
    "evaluate",
    "flash_sigmas",
    "flow_grpo",
    "flow_grpo_fast",
    "flow_sigmas",
    "group_advantages",
    "load_lora",
    "mix_advantages",
    "mixgrpo",
    "mixgrpo_flash",
    "mixgrpo_flash_star",
    "mixgrpo_sd35",
    "precise",
    "register",
    "rollout",
    "sample",
    "save_lora",
    "train",
    "windowed_plan",
]
