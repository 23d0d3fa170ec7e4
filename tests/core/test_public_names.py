"""The names that people who import the package rely on, and that none of them hides a module."""

import importlib
import types

import pytest

import mixgrpo_core

NAMES = {
    "mixgrpo_core": (
        *("flow_sigmas", "flash_sigmas", "SlidingWindow", "FrozenWindow", "RandomWindow", "DecayingWindow"),
        *("Gaussian", "FlowSDE", "DanceSDE", "FlowCPS", "PreciseSDE", "Euler", "DPMpp2M"),
        *("group_advantages", "mix_advantages", "clipped_policy_loss"),
        *("rollout", "train", "TrainConfig", "StepReport", "RunFolder", "WindowPlanner", "save_lora", "load_lora"),
        *("register", "evaluate", "sample"),
    ),
    "mixgrpo_core.demo": ("demo_config", "train_prompts", "held_out_prompts"),
    "mixgrpo_core.models": ("load_demo", "load_pipeline", "load_sd3"),
    "mixgrpo_core.rewards": ("FunctionReward", "ShapeReward", "RewardBatch", "Context", "Scores"),
    "mixgrpo_core.settings": ("presets",),
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_it_can_be_imported(module, name):
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, types.ModuleType) == (name == "presets")


def test_every_name_of_the_package_is_what_it_says():
    for name in mixgrpo_core.__all__:
        assert not isinstance(getattr(mixgrpo_core, name), types.ModuleType)


@pytest.mark.parametrize(
    ("room", "module"),
    [("training", "loop"), ("sampling", "rollouts"), ("evaluation", "held_out"), ("settings", "config")],
)
def test_a_module_is_what_its_path_says(room, module):
    path = f"mixgrpo_core.{room}"
    assert getattr(importlib.import_module(path), module) is importlib.import_module(f"{path}.{module}")
