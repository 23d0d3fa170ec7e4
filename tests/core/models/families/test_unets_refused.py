"""What a folder of a UNet cannot be, in one sentence before any work."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_unets
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, KDPM2DiscreteScheduler
from tiny_pipelines import opened
from tiny_unets import BETAS, SD1, SDXL, euler

from mixgrpo_core import TrainConfig
from mixgrpo_core.models.diffusers.loading import ModelFilesError


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_unets.make_folder(SDXL, tmp_path_factory.mktemp("models") / "sdxl")


def scheduled(folder: Path, scheduler: Any) -> Path:
    """The folder with another scheduler."""
    scheduler.save_pretrained(folder / "scheduler")
    return folder


@pytest.mark.parametrize(
    ("scheduler", "sentence"),
    [
        (DDPMScheduler(**BETAS, prediction_type="sample"), "expected a model that predicts noise .*found sample"),
        (EDMEulerScheduler(), "found epsilon with EDMEulerScheduler: it is no flow that is known here"),
        (euler(rescale_betas_zero_snr=True), "trained down to pure noise .*found epsilon, which says nothing there"),
        (FlowMatchEulerDiscreteScheduler(), "expected a scheduler of noise or v-prediction .*found FlowMatchEuler"),
    ],
)
def test_schedulers_of_other_models_are_told(scheduler: Any, sentence: str, sdxl: Path) -> None:
    with pytest.raises(ModelFilesError, match=sentence):
        opened(scheduled(sdxl, scheduler))


def test_a_scheduler_that_diffusers_does_not_have_is_told(sdxl: Path) -> None:
    scheduled(sdxl, euler())
    path = sdxl / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "NoScheduler"}))
    with pytest.raises(ModelFilesError, match="expected a scheduler of diffusers in .*found NoScheduler"):
        opened(sdxl)
    scheduled(sdxl, KDPM2DiscreteScheduler(**BETAS))
    with pytest.raises(ModelFilesError, match="KDPM2DiscreteScheduler makes 9 levels for 5 steps"):
        opened(sdxl).grid(5)


def test_models_that_are_given_a_picture_are_told(tmp_path: Path) -> None:
    folder = tiny_unets.make_folder(SD1, tmp_path / "model", in_channels=9)
    with pytest.raises(ModelFilesError, match="from noise alone .*takes 9 channels for the 4 of an image"):
        opened(folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "StableDiffusionInpaintPipeline"}))
    with pytest.raises(ModelFilesError, match="from noise alone .*takes 9 channels for the 4 of an image"):
        opened(folder)


def test_a_pipeline_of_two_networks_without_a_row_is_told(tmp_path: Path) -> None:
    folder = tiny_unets.make_folder(SDXL, tmp_path / "model")
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "StableDiffusionXLImg2ImgPipeline"}))
    with pytest.raises(ModelFilesError, match="StableDiffusionXLImg2ImgPipeline is in no row .*use another model"):
        opened(folder)


def test_guidance_in_the_weights_and_a_shift_are_told(sdxl: Path, tmp_path: Path) -> None:
    distilled = tiny_unets.make_folder(SD1, tmp_path / "model", time_cond_proj_dim=8)
    with pytest.raises(ValueError, match=r"expected guidance 1 for Stable Diffusion 1.5.*guidance in its weights"):
        opened(distilled, guidance=5.0)
    model = opened(scheduled(sdxl, euler()))
    with pytest.raises(ValueError, match=r"expected no shift for this model, found 3: its noise begins at 0\.9"):
        TrainConfig(shift=3.0).sigmas(model)
    with torch.no_grad(), pytest.raises(ValueError, match=r"expected a level below 1 .*its highest is 0\.936"):
        model.run([model.encode("a")], lambda v: v(model.noise(0, 1), torch.tensor(1.0)))
