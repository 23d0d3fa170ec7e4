"""Every family as its own pipeline has it: sampling step for step, pictures, grid, and a LoRA file that it loads."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_edits
import tiny_pipelines
import tiny_unets
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny_more import COSTLY, MORE
from tiny_pipelines import SIDE, opened
from torch import Tensor

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.diffusers.proof import prove
from mixgrpo_core.models.families.table import FAMILIES as LISTED
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.sampling import FrozenWindow, WindowPlanner

PROMPT, OTHER, STEPS = "a red circle", "a blue square", 3
FAMILIES = ("sd3", *tiny_pipelines.PIPELINES, *tiny_pipelines.OTHERS)
UNGUIDED = ("flux-schnell", "flux2-dev")
ZERO_IS_OFF = ("z-image", "krea2")


@pytest.fixture(scope="module", params=FAMILIES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.make_folder(name, tmp_path_factory.mktemp("models") / name)


@pytest.fixture(scope="module")
def model(folder: Path) -> PipelineModel:
    return opened(folder)


@pytest.fixture(scope="module")
def pipe(name: str, folder: Path) -> Any:
    """Diffusers' own, with Euler's method where its folder has another."""
    found = diffusers.DiffusionPipeline.from_pretrained(folder)
    config = found.scheduler.config
    if not isinstance(found.scheduler, FlowMatchEulerDiscreteScheduler):
        found.scheduler = FlowMatchEulerDiscreteScheduler(shift=config.flow_shift)
    found.set_progress_bar_config(disable=True)
    return found


def sampled(pipe: Any, name: str, guidance: float, size: tuple[int, int] = (SIDE, SIDE)) -> tuple[list[Tensor], Tensor]:
    """The latents after each step of diffusers' own sampling, and the picture."""
    states: list[Tensor] = []

    def note(pipe: Any, step: int, timestep: Tensor, held: dict[str, Tensor]) -> dict[str, Tensor]:
        states.append(held["latents"].clone())
        return held

    asked: dict[str, Any] = {"height": size[0], "width": size[1], "num_inference_steps": STEPS, "output_type": "pt"}
    if name == "hidream":
        pipe.default_sample_size = (size[0] * size[1]) ** 0.5 / pipe.vae_scale_factor
    if name.startswith("flux-"):
        asked |= {"guidance_scale": 3.5, "true_cfg_scale": guidance, "negative_prompt": "" if guidance > 1 else None}
    elif name == "qwen-image":
        asked |= {"true_cfg_scale": guidance, "negative_prompt": "" if guidance > 1 else None}
    elif name != "flux2-dev":
        asked |= {"guidance_scale": guidance - 1 if name in ZERO_IS_OFF else guidance}
    if name == "flux-kontext":
        asked |= {"max_area": size[0] * size[1]}
    if name == "sana":
        asked |= {"use_resolution_binning": False}
    if name == "wan":
        asked |= {"num_frames": 1}
    made = pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(7), callback_on_step_end=note, **asked)[0]
    image = torch.as_tensor(made).float()
    image = image[:, 0] if image.ndim == 5 else image
    return states, image.movedim(1, -1)


def ours(model: PipelineModel, sigmas: Tensor) -> list[Tensor]:
    """Euler's method over the port."""

    def body(velocity: Callable[..., Tensor]) -> list[Tensor]:
        states = [model.noise(7, 1)]
        for sigma, following in pairwise(sigmas):
            states.append(states[-1] + (following - sigma) * velocity(states[-1], sigma))
        return states[1:]

    with torch.no_grad():
        return model.run([model.encode(PROMPT)], body)


def compare(model: PipelineModel, pipe: Any, name: str, guidance: float) -> None:
    states, image = sampled(pipe, name, guidance, model.resolution)
    found = ours(model, pipe.scheduler.sigmas)
    for mine, theirs in zip(found, states, strict=True):
        assert (mine - theirs).norm() <= 1e-6 * theirs.norm()
    torch.testing.assert_close(model.decode(found[-1]), image, rtol=0, atol=1e-5)


def test_sampling_is_the_pipelines_own_step_for_step(name: str, model: PipelineModel, pipe: Any) -> None:
    compare(model, pipe, name, 1.0)
    if not model.family.even_grid:
        torch.testing.assert_close(model.grid(STEPS), pipe.scheduler.sigmas, rtol=0, atol=1e-6)


def test_images_of_another_size_are_the_pipelines_own_and_leave_the_first_as_it_was(
    name: str, model: PipelineModel, pipe: Any
) -> None:
    tall = model.at((3 * SIDE // 2 if name == "sd3" else 2 * SIDE, SIDE))  # of SD3 the places end at 48
    compare(tall, pipe, name, 1.0)
    theirs = pipe.scheduler.sigmas
    compare(model, pipe, name, 1.0)
    same = torch.equal(pipe.scheduler.sigmas, theirs)
    assert not (same and name in ("flux-dev", "flux2-dev", "qwen-image"))
    if not model.family.even_grid:
        torch.testing.assert_close(tall.grid(STEPS), theirs, rtol=0, atol=1e-6)
        assert torch.equal(tall.grid(STEPS), model.grid(STEPS)) is same
    assert tall.evaluations == model.evaluations


def test_sampling_with_guidance_is_the_pipelines_own(name: str, folder: Path, pipe: Any) -> None:
    if name in UNGUIDED:
        with pytest.raises(ValueError, match="expected guidance 1 for FLUX"):
            opened(folder, guidance=3.0)
        return
    compare(opened(folder, guidance=3.0), pipe, name, 3.0)


def test_two_iterations_make_a_file_that_the_pipeline_loads_and_samples_with(
    name: str, folder: Path, model: PipelineModel, pipe: Any, tmp_path: Path
) -> None:
    config = TrainConfig(
        iterations=2,
        steps=4,
        images_per_prompt=2,
        prompts_per_iteration=1,
        updates=1,
        learning_rate=0.05,
        planner=WindowPlanner(window=FrozenWindow(size=1, start=1)),
        eval_every=0,
    )
    bright = FunctionReward(lambda images, prompts: images.mean((1, 2, 3)))
    reports = list(train(model, [PROMPT, OTHER], {"bright": bright}, config))
    assert max(report.update.figures["ratio_first"] for report in reports) < 1e-4
    with model.with_weights(None):
        base = ours(model, pipe.scheduler.sigmas)[-1]
    assert (ours(model, pipe.scheduler.sigmas)[-1] - base).norm() > 1e-4 * base.norm()
    path = export_lora(model, tmp_path / "lora.safetensors")
    pipe.load_lora_weights(path)
    compare(model, pipe, name, 1.0)
    compare(opened(folder, rank=None, lora=path), pipe, name, 1.0)


def test_what_it_computes_is_proven(model: PipelineModel) -> None:
    """With its blocks computed again in the backward pass, and padding behind its prompts."""
    prove(model)
    x, sigma = model.noise(0, 1), torch.tensor(0.5)

    def gradient(velocity: Callable[..., Tensor]) -> Tensor:
        (velocity(x, sigma).square().sum()).backward()
        found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        for parameter in model.parameters():
            parameter.grad = None
        return found

    plain = model.run([model.encode(PROMPT)], gradient)
    model.checkpointing = True
    again = model.run([model.encode(PROMPT)], gradient)
    model.checkpointing = False
    assert (plain - again).norm() <= 1e-6 * plain.norm()


def test_every_row_of_the_table_is_among_these() -> None:
    made = [*tiny_pipelines.PIPELINES.values(), *tiny_pipelines.OTHERS.values(), *MORE.values(), *COSTLY.values()]
    tried = {"StableDiffusion3Pipeline", *(pipeline for pipeline, _ in made), *tiny_edits.EDITS.values()}
    assert {pipeline for family in LISTED for pipeline in family.pipelines} == tried | {tiny_unets.SDXL, tiny_unets.SD1}


def test_what_is_written_of_each_row_has_been_found_by_these() -> None:
    found = json.loads((Path(__file__).parents[4] / "benchmarks" / "families.json").read_text())
    for family in LISTED:
        wanted = ["sampling", "gradient", "training and LoRA file", *(["pictures"] if family.reads_pictures else [])]
        assert {name: found.get(name) for name in family.pipelines} == dict.fromkeys(family.pipelines, wanted)
