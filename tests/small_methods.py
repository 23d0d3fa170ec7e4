"""The methods made small: few images and prompts, and the rewards and masks that each asks for."""

from dataclasses import replace

import torch
from toy import Dark, Red

from mixgrpo_core.advantages import PreferenceSlots
from mixgrpo_core.objectives.own_step import AUTO
from mixgrpo_core.rewards.port import Context
from mixgrpo_core.sampling import BranchPlanner, TreePlanner, WanderingTreePlanner
from mixgrpo_core.sampling.windows import SlidingWindow
from mixgrpo_core.settings.presets import METHODS

PROMPTS = ("a red circle", "a blue square")


def small(name, **changes):
    """The method's settings for the toy: what it is stays, how much of it there is does not."""
    config = METHODS[name].config
    planner = config.planner
    if isinstance(planner, BranchPlanner):
        planner = replace(planner, splits=(0, 3))
    elif isinstance(planner, WanderingTreePlanner):
        planner = replace(planner, early=(1, 2), late=(1, 3), children=2)
    elif isinstance(planner, TreePlanner):
        planner = replace(planner, window=SlidingWindow(size=2, hold=1))
    leaves = planner.plan(0, 0, config.sigmas()).leaves_per_row
    slots = [2 * stage.slots for stage in config.credit if isinstance(stage, PreferenceSlots)]
    small = {
        "planner": planner,
        "iterations": 2,
        "images_per_prompt": max(4, leaves, *slots),
        "prompts_per_iteration": 2,
        "updates": 4 if config.updates == AUTO else min(2, config.updates),
        "eval_every": 0,
        "decode_dtype": "float32",  # the toy knows no other
    }
    return replace(config, **{**small, **changes})


def rewards_of(name):
    """Rewards of the names that the method asks for, which do not agree."""
    return {reward: Dark() if place else Red() for place, reward in enumerate(METHODS[name].rewards)}


def contexts_of(name, prompts=PROMPTS, side=2):
    """Masks of the left half, where the method needs them."""
    mask = torch.zeros(side, side)
    mask[:, : side // 2] = 1
    return {prompt: Context(mask=mask) for prompt in prompts} if METHODS[name].masks else {}
