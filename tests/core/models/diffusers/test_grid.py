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
