"""A method on the canvas is the method without it: one of each way through planners, credit, losses and policies.

All others are a part of ``make test-long``.
"""

from dataclasses import replace

import pytest
import torch
from canvas import loaded, policy, prompt_set
from mixgrpo_pack.mixgrpo_core import train
from mixgrpo_pack.mixgrpo_core.models.facts import DEMO
from mixgrpo_pack.mixgrpo_core.models.families.demo import load_demo
from mixgrpo_pack.mixgrpo_core.objectives.own_step import AUTO
from mixgrpo_pack.mixgrpo_core.rewards.port import Context
from mixgrpo_pack.mixgrpo_core.rewards.shapes import ShapeCleanliness, ShapeReward
from mixgrpo_pack.mixgrpo_core.settings.presets import METHODS
from mixgrpo_pack.nodes.settings.presets import PRESETS, Memory, local_config

FAMILY = replace(DEMO, steps=6, iterations=1, prompts=2)
MEMORY = Memory(images=4, rollout=8, decode=8, update=8)
WAYS = {
    "gcpo": "all columns of a member at once",
    "tmpo": "whole groups at once, a tree of splits that wander",
    "branch_grpo": "a tree with credit for each step",
    "tempflow_grpo": "several starts that branch, step weights",
    "e_grpo": "a merged step",
    "poca": "two rewards, a prompt source that remembers",
    "otca": "rewards mixed by the stage, credit that looks at latents",
    "vipo": "a ratio for each place, credit that looks at images",
    "diffusion_nft": "images noised anew, a policy that lags behind and samples",
    "dgpo": "whole groups under one noise",
    "awm": "the policy before the update, an average that pulls",
}

OTHERS = [name for name in METHODS if name not in WAYS]


@pytest.fixture(scope="module")
def parts():
    return loaded()


def small(name):
    """As Trainer Settings fits it to a model of six steps and a memory for four images."""
    label = METHODS[name].label
    if label in PRESETS:
        fitted = local_config(label, FAMILY, MEMORY)
    else:  # methods of final images are for run files
        count = 12 if name == "pareto_slider" else 4  # three slots
        images = {"images_per_prompt": count, "prompts_per_iteration": 2, "rollout_batch": 8, "update_batch": 8}
        fitted = replace(METHODS[name].config, steps=FAMILY.steps, iterations=1, **images)
    if fitted.updates == AUTO:  # of four images of each of two prompts
        fitted = replace(fitted, updates=4)
    return replace(fitted, eval_every=0, guards=(), decode_dtype="float32")  # bfloat16 rounds otherwise in each home


def trained(name, home, prompts):
    rewards = dict(zip(METHODS[name].rewards, (ShapeReward(), ShapeCleanliness()), strict=False))
    mask = (torch.arange(64) < 32).float().expand(64, 64)
    contexts = {prompt: Context(mask=mask) for prompt in prompts} if METHODS[name].masks else {}
    (report,) = train(home, prompts, rewards, small(name), contexts=contexts)
    return report, {key: tensor.clone() for key, tensor in home.lora_state().items()}


@pytest.mark.parametrize("name", [*WAYS, *(pytest.param(name, marks=pytest.mark.long("methods")) for name in OTHERS)])
def test_a_method_is_the_same_in_both_homes(name, parts):
    prompts = prompt_set(parts[1], train=2, held_out=0).train
    there, there_state = trained(name, load_demo(rank=2, seed=0), prompts)
    with torch.inference_mode(), policy(*parts) as home:
        here, here_state = trained(name, home, prompts)
    assert here.nfe == there.nfe and here.update.steps == there.update.steps > 0
    assert here.update.figures.keys() == there.update.figures.keys()
    assert here.update.figures["loss"] == pytest.approx(there.update.figures["loss"], rel=1e-2, abs=1e-4)
    assert here.update.figures["grad_norm"] == pytest.approx(there.update.figures["grad_norm"], rel=1e-2)
    moved = max(float(tensor.abs().max()) for key, tensor in there_state.items() if "lora_B" in key)
    for key, tensor in here_state.items():
        torch.testing.assert_close(tensor, there_state[key], atol=0.1 * moved, rtol=0, msg=key)
