"""What the tests of the canvas share: the demo model as nodes hand it on, and short settings."""

from dataclasses import replace

import torch
from mixgrpo_pack.mixgrpo_core.demo import demo_config, held_out_prompts, train_prompts
from mixgrpo_pack.mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_pack.mixgrpo_core.sampling.windows import FrozenWindow
from mixgrpo_pack.nodes.demo import load_clip, load_model, load_vae
from mixgrpo_pack.nodes.host.model import HostModel
from mixgrpo_pack.nodes.host.texts import PromptSet


def loaded():
    """MODEL, CLIP and VAE of the demo model, made under inference mode as a node makes them."""
    with torch.inference_mode():
        return load_model(), load_clip(), load_vae()


def prompt_set(clip, train=4, held_out=2) -> PromptSet:
    return PromptSet(train=train_prompts()[:train], held_out=held_out_prompts()[:held_out], negative="", clip=clip)


def policy(model, clip, vae, **settings) -> HostModel:
    given = {"width": 64, "height": 64, "rank": 2, "alpha": 4, "seed": 0, "checkpointing": False, **settings}
    return HostModel(model, vae, prompt_set(clip), **given)


def short_config(**changes):
    """Two iterations of a few images: seconds."""
    small = {
        "iterations": 2,
        "steps": 6,
        "images_per_prompt": 4,
        "prompts_per_iteration": 2,
        "learning_rate": 5e-4,
        "updates": 2,
        "decode_dtype": "float32",
        "planner": WindowPlanner(window=FrozenWindow(size=2, start=1)),
        "eval_every": 2,
        "eval_images": 2,
        "eval_steps": None,
        "reward_weights": {},
        **changes,
    }
    return replace(demo_config(), **small)
