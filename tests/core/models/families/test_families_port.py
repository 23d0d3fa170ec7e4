"""The port's duties, put to every family."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_pipelines
import tiny_unets
import torch
from port_duties import *  # noqa: F403
from tiny_pipelines import PIPELINES, opened

from mixgrpo_core.models.diffusers.model import PipelineModel

UNETS = (tiny_unets.SDXL, tiny_unets.SD1)
GUIDED = ("flux2-klein", "qwen-image", "z-image", "lumina2", "sana", tiny_unets.SDXL)  # each way of guidance once


@pytest.fixture(scope="module", params=[*PIPELINES, *UNETS])
def made(request, tmp_path_factory: pytest.TempPathFactory) -> PipelineModel:
    make = tiny_unets.make_folder if request.param in UNETS else tiny_pipelines.make_folder
    folder: Path = make(request.param, tmp_path_factory.mktemp("models") / request.param)
    return opened(folder, guidance=3.0 if request.param in GUIDED else 1.0)


@pytest.fixture
def model(made: PipelineModel) -> Iterator[PipelineModel]:
    fresh = {name: tensor.clone() for name, tensor in made.lora_state().items()}
    yield made
    made.load_lora_state(fresh)
    for parameter in made.parameters():
        parameter.grad = None
    assert torch.is_grad_enabled()
