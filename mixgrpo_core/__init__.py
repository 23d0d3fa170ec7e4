"""MixGRPO for flow-matching models: mixed ODE-SDE rollouts, rewards, LoRA updates (arXiv 2507.21802).

Imports torch, numpy, safetensors and the standard library only; a diffusers model lives in ``mixgrpo_core.models``.
"""

from .advantage import group_advantages, mix_advantages
from .combination import BatchNormalised, WeightedAdvantages, WeightedRewards
from .config import TrainConfig
from .evaluate import evaluate, sample
from .guards import DiversityLoss, HeldOutFall, PixelDrift, SmallPixels
from .lora_format import load_lora, save_lora
from .loss import PolicyLoss, clipped_policy_loss, default_clip
from .objectives import GRPO, GuardGRPO
from .plan import FullPlanner, StepPlan, WindowPlanner, deterministic_plan, windowed_plan
from .presets import dance_grpo, flow_grpo, flow_grpo_fast, mixgrpo, mixgrpo_flash, mixgrpo_flash_star, mixgrpo_sd35
from .reward import RewardBatch, Scores
from .rollout import Sampling, rollout
from .run_folder import RunFolder
from .schedule import flash_sigmas, flow_sigmas
from .solver import DPMpp2M, Euler
from .step_report import StepReport
from .train import train
from .transition import DanceSDE, FlowCPS, FlowSDE, Gaussian, PreciseSDE
from .window import DecayingWindow, FrozenWindow, RandomWindow, SlidingWindow

__all__ = [
    "GRPO",
    "BatchNormalised",
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
    "rollout",
    "sample",
    "save_lora",
    "train",
    "windowed_plan",
]
