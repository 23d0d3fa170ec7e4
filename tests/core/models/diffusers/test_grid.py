"""The grid of a scheduler folder is the one that diffusers' own scheduler makes."""

import json
import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from mixgrpo_core.models.diffusers.grid import SchedulerGrid, read_grid
from mixgrpo_core.models.diffusers.loading import ModelFilesError
from mixgrpo_core.sampling.schedule import check_sigmas, flow_sigmas

SD3 = {"shift": 3.0}
FLUX = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
QWEN = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "max_image_seq_len": 8192,
    "shift_terminal": 0.02,
}
COGVIEW = {
    "use_dynamic_shifting": True,
    "base_shift": 0.25,
    "max_shift": 0.75,
    "base_image_seq_len": 256,
    "time_shift_type": "linear",
}
Z_IMAGE = {"shift": 6.0}
PLAIN = {"shift": 1.0}


def folder_of(tmp_path, **config):
    FlowMatchEulerDiscreteScheduler(**config).save_pretrained(tmp_path)
    return tmp_path


def of_diffusers(config, steps, tokens):
    """As a flow pipeline asks for it: even levels, with mu from the number of tokens."""
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    known = scheduler.config
    mu = calculate_shift(tokens, known.base_image_seq_len, known.max_image_seq_len, known.base_shift, known.max_shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu if known.use_dynamic_shifting else None)
    return scheduler.sigmas


@pytest.mark.parametrize("tokens", [256, 2025, 4096])
@pytest.mark.parametrize("steps", [4, 25])
@pytest.mark.parametrize("config", [SD3, FLUX, QWEN, COGVIEW, Z_IMAGE, PLAIN])
def test_it_is_diffusers_own_grid(tmp_path, config, steps, tokens):
    sigmas = read_grid(folder_of(tmp_path, **config), tokens)(steps)
    check_sigmas(sigmas)
    torch.testing.assert_close(sigmas, of_diffusers(config, steps, tokens), atol=2e-6, rtol=0)


def test_a_constant_shift_is_the_shifted_grid_bit_for_bit(tmp_path):
    assert torch.equal(read_grid(folder_of(tmp_path, **SD3), 1024)(25), flow_sigmas(25, 3.0))


def test_the_shift_grows_with_the_resolution_and_the_terminal_is_met(tmp_path):
    small, large = (read_grid(folder_of(tmp_path, **FLUX), tokens) for tokens in (256, 4096))
    assert small.shift == pytest.approx(math.exp(0.5))
    assert large.shift == pytest.approx(math.exp(1.15))
    assert float(read_grid(folder_of(tmp_path, **QWEN), 4096)(25)[-2]) == pytest.approx(0.02, abs=1e-6)
    assert len(SchedulerGrid(shift=3.0, terminal=0.02)(1)) == 2


def test_other_kinds_of_schedules_are_refused_by_name(tmp_path):
    with pytest.raises(ModelFilesError, match="use_beta_sigmas"):
        read_grid(folder_of(tmp_path, use_beta_sigmas=True), 256)
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"shift": 0}))
    with pytest.raises(ModelFilesError, match="above 0"):
        read_grid(tmp_path, 256)


def test_solvers_of_flows_tell_their_shift_by_another_name(tmp_path):
    (tmp_path / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True, "flow_shift": 3.0})
    )
    assert torch.equal(read_grid(tmp_path, 1024)(20), flow_sigmas(20, 3.0))


@pytest.mark.parametrize("steps", [1, 4, 10, 28])
@pytest.mark.parametrize(
    "config", [SD3, Z_IMAGE, PLAIN, {**SD3, "num_train_timesteps": 500}, {**SD3, "shift_terminal": 0.02}]
)
def test_the_pipelines_grid_is_the_one_that_its_call_makes(tmp_path, config, steps):
    """Stable Diffusion 3's pipeline asks for a number of steps and nothing else."""
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    scheduler.set_timesteps(steps)
    sigmas = read_grid(folder_of(tmp_path, **config), 1024, pipeline=True)(steps)
    if steps > 1 or "shift_terminal" not in config:  # which divides by 0 there
        torch.testing.assert_close(sigmas, scheduler.sigmas, atol=2e-6, rtol=0)


def test_at_ten_steps_the_two_grids_differ_by_a_quarter(tmp_path):
    folder = folder_of(tmp_path, **SD3)
    ours, theirs = read_grid(folder, 1024)(10), read_grid(folder, 1024, pipeline=True)(10)
    assert float((ours - theirs).abs().max()) == pytest.approx(0.241, abs=1e-3)


def test_the_pipelines_grid_with_a_shift_by_resolution(tmp_path):
    scheduler = FlowMatchEulerDiscreteScheduler(**FLUX)
    known = scheduler.config
    mu = calculate_shift(1024, known.base_image_seq_len, known.max_image_seq_len, known.base_shift, known.max_shift)
    scheduler.set_timesteps(10, mu=mu)
    sigmas = read_grid(folder_of(tmp_path, **FLUX), 1024, pipeline=True)(10)
    torch.testing.assert_close(sigmas, scheduler.sigmas, atol=2e-6, rtol=0)
