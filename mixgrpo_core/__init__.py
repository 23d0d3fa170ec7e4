"""MixGRPO for flow-matching models: mixed ODE-SDE rollouts, rewards, LoRA updates (arXiv 2507.21802).

Imports torch, numpy, safetensors and the standard library only, and each when it is needed: the names below are looked
up at their first use. A diffusers model lives in ``mixgrpo_core.models``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .support.collector import uncollected

if TYPE_CHECKING:
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
    from .sampling.rollouts import RolloutSettings, rollout
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
    "RolloutSettings",
    "RunFolder",
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

_HOMES = {
    "advantages.combine": "BatchNormalised WeightedAdvantages WeightedRewards",
    "advantages.group": "group_advantages mix_advantages",
    "evaluation.guards": "Collapse DiversityLoss HeldOutFall PixelDrift SmallPixels",
    "evaluation.held_out": "evaluate",
    "models.lora_file": "load_lora save_lora",
    "objectives": "GRPO GuardGRPO",
    "objectives.ratio": "PolicyLoss clipped_policy_loss default_clip",
    "rewards.port": "RewardBatch Scores",
    "runs.folder": "RunFolder",
    "runs.reports": "StepReport",
    "sampling.kernels": "DanceSDE FlowCPS FlowSDE Gaussian PreciseSDE",
    "sampling.ode": "sample",
    "sampling.planners": "FullPlanner StepPlan WindowPlanner deterministic_plan windowed_plan",
    "sampling.rollouts": "RolloutSettings rollout",
    "sampling.schedule": "flash_sigmas flow_sigmas",
    "sampling.solvers": "DPMpp2M Euler",
    "sampling.windows": "DecayingWindow FrozenWindow RandomWindow SlidingWindow",
    "settings.config": "TrainConfig",
    "settings.kinds": "register",
    "settings.presets": "dance_grpo flow_grpo flow_grpo_fast mixgrpo mixgrpo_flash mixgrpo_flash_star mixgrpo_sd35 "
    "precise",
    "training.loop": "train",
}
"""Where each name is from, by module."""

_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with uncollected():
        module = import_module(f".{_MODULES[name]}", __name__)
    found = globals()[name] = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
