"""SDXL and Stable Diffusion 1.5: as flows they sample as their own pipelines do, and their LoRA is one of theirs."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_unets
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from safetensors.torch import load_file, save_file
from tiny_pipelines import opened
from tiny_unets import SD1, SDXL, euler
from torch import Tensor

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.diffusers.proof import prove
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.models.lora_file import LoraFileError, load_lora
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.sampling import FrozenWindow, WindowPlanner
from mixgrpo_core.sampling.schedule import start_of

PROMPT, STEPS, SIDE = "a red circle", 4, 64
KARRAS = {"use_karras_sigmas": True}
TO_PURE_NOISE = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}


@pytest.fixture(scope="module", params=[SDXL, SD1])
def folder(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_unets.make_folder(request.param, tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> PipelineModel:
    return loaded(folder)


def loaded(folder: Path, **changes: object) -> PipelineModel:
    return opened(folder, resolution=(SIDE, SIDE), **changes)


def diffusers_own(folder: Path) -> Any:
    """With Euler's method, as in ComfyUI."""
    found = diffusers.DiffusionPipeline.from_pretrained(folder)
    found.scheduler = EulerDiscreteScheduler.from_config(found.scheduler.config)
    found.set_progress_bar_config(disable=True)
    return found


def assert_samples_as_the_pipeline(model: PipelineModel, pipe: Any, guidance: float = 1.0) -> None:
    """Every step of diffusers' own sampling, and the picture."""
    states: list[Tensor] = []

    def note(pipe: Any, step: int, timestep: Tensor, held: dict[str, Tensor]) -> dict[str, Tensor]:
        states.append(held["latents"].clone())
        return held

    asked = {"height": SIDE, "width": SIDE, "num_inference_steps": STEPS, "guidance_scale": guidance}
    pipe.scheduler.set_timesteps(STEPS)
    noises, sigmas, noise = pipe.scheduler.sigmas, model.grid(STEPS), model.noise(7, 1)
    torch.testing.assert_close(sigmas, noises / (1 + noises), rtol=0, atol=2e-7)
    begun = start_of(noise, sigmas)
    given = begun * (1 + noises[0]) / pipe.scheduler.init_noise_sigma  # which it makes as large as it has it
    made = pipe(prompt=PROMPT, negative_prompt="", latents=given, callback_on_step_end=note, output_type="pt", **asked)

    def body(velocity: Callable[..., Tensor]) -> list[Tensor]:
        found = [begun]
        for sigma, following in pairwise(sigmas):
            found.append(found[-1] + (following - sigma) * velocity(found[-1], sigma))
        return found[1:]

    with torch.no_grad():
        found = model.run([model.encode(PROMPT)], body)
    rounded = max(3e-6, 2e-8 * float(noises[0]))  # diffusers' own, in latents as large as their noise
    for mine, theirs, k in zip(found, states, noises[1:], strict=True):
        assert (mine - theirs / (1 + k)).norm() <= rounded * mine.norm()
    torch.testing.assert_close(model.decode(found[-1]), made[0].movedim(1, -1), rtol=0, atol=3 * rounded)


@pytest.mark.parametrize(
    ("pipeline", "settings", "guidance"),
    [
        (SDXL, {}, 1.0),
        (SDXL, {"prediction_type": "v_prediction"}, 5.0),
        (SDXL, TO_PURE_NOISE, 1.0),
        (SD1, KARRAS, 5.0),
    ],
)
def test_sampling_is_the_pipelines_own_step_for_step(
    pipeline: str, settings: dict[str, object], guidance: float, tmp_path: Path
) -> None:
    folder = tiny_unets.make_folder(pipeline, tmp_path / "model", euler(**settings))
    assert_samples_as_the_pipeline(loaded(folder, guidance=guidance), diffusers_own(folder), guidance)


def test_a_folder_with_the_scheduler_of_its_day_is_sampled_on_its_timesteps(tmp_path: Path) -> None:
    """Stable Diffusion 1.5 ships with a multistep one, whose last level is the lowest that the model knows."""
    folder = tiny_unets.make_folder(SD1, tmp_path / "model", tiny_unets.pndm())
    assert_samples_as_the_pipeline(loaded(folder), diffusers_own(folder))


@pytest.mark.parametrize(
    ("scheduler", "timesteps"),
    [
        (DDIMScheduler(**tiny_unets.BETAS, timestep_spacing="trailing"), [999, 749, 499, 249]),
        (DPMSolverMultistepScheduler(**tiny_unets.BETAS, final_sigmas_type="sigma_min"), [999, 749, 500, 250]),
        (HeunDiscreteScheduler(**tiny_unets.BETAS, timestep_spacing="leading", steps_offset=1), [751, 501, 251, 1]),
    ],
)
def test_the_grid_is_that_of_the_folders_scheduler(scheduler: Any, timesteps: list[int], tmp_path: Path) -> None:
    """Known timesteps of 4 steps, by the spacing that each of them has."""
    model = loaded(tiny_unets.make_folder(SDXL, tmp_path / "model", scheduler))
    image = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square().neg().add(1).cumprod(0)
    noises = ((1 - image) / image).sqrt()[timesteps]
    torch.testing.assert_close(model.grid(4)[:-1].double(), noises / (1 + noises), rtol=0, atol=2e-6)
    assert model.grid(4)[-1] == 0


def test_two_iterations_make_a_file_that_the_pipeline_loads_and_samples_with(
    folder: Path, model: PipelineModel, tmp_path: Path
) -> None:
    config = TrainConfig(
        iterations=2,
        steps=STEPS,
        images_per_prompt=2,
        prompts_per_iteration=1,
        updates=1,
        learning_rate=0.05,
        planner=WindowPlanner(window=FrozenWindow(size=1, start=1)),
        eval_every=0,
    )
    bright = FunctionReward(lambda images, prompts: images.mean((1, 2, 3)))
    fresh = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    reports = list(train(model, [PROMPT, "a blue square"], {"bright": bright}, config))
    assert max(report.update.figures["ratio_first"] for report in reports) < 1e-4
    assert any(not torch.equal(tensor, fresh[name]) for name, tensor in model.lora_state().items())
    path, pipe = export_lora(model, tmp_path / "lora.safetensors"), diffusers_own(folder)
    pipe.load_lora_weights(path)
    assert_samples_as_the_pipeline(model, pipe)
    assert_samples_as_the_pipeline(loaded(folder, rank=None, lora=path), pipe)
    model.load_lora_state(fresh)


def test_what_it_computes_is_proven(model: PipelineModel) -> None:
    prove(model)
    x, sigma = model.noise(0, 1), torch.tensor(0.8)

    def gradient(velocity: Callable[..., Tensor]) -> Tensor:
        velocity(x, sigma).square().sum().backward()
        found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        for parameter in model.parameters():
            parameter.grad = None
        return found

    plain = model.run([model.encode(PROMPT)], gradient)
    model.checkpointing = True
    again = model.run([model.encode(PROMPT)], gradient)
    model.checkpointing = False
    assert (plain - again).norm() <= 1e-6 * plain.norm()


def test_what_it_holds_is_counted(tmp_path: Path) -> None:
    model = loaded(tiny_unets.make_folder(SDXL, tmp_path / "model", layers_per_block=1))
    counted = model.pass_memory(checkpointing=True)
    assert counted is not None
    assert counted.training.of(2) > counted.sampling.of(2) > 0


def other_names(path: Path, kind: str) -> dict[str, Tensor]:
    """The tensors of our file as others write them."""
    found = {}
    for name, tensor in load_file(path).items():
        if kind == "diffusers":
            name = (
                name.replace("lora_unet_", "unet.").replace(".lora_down.", ".lora_A.").replace(".lora_up.", ".lora_B.")
            )
            if name.endswith(".alpha"):
                continue
        else:  # of the first Stable Diffusion, for two levels of three blocks
            name = name.replace("mid_block_attentions_0", "middle_block_1")
            for place in range(3):
                name = name.replace(f"down_blocks_1_attentions_{place}", f"input_blocks_{4 + place}_1")
                name = name.replace(f"up_blocks_0_attentions_{place}", f"output_blocks_{place}_1")
        found[name] = tensor
    return found


@pytest.mark.parametrize("kind", ["diffusers", "first"])
def test_a_file_with_the_names_of_others_is_gone_on_from(
    kind: str, folder: Path, model: PipelineModel, tmp_path: Path
) -> None:
    draw = torch.Generator().manual_seed(0)
    state = {name: torch.randn(tensor.shape, generator=draw) for name, tensor in model.lora_state().items()}
    own = export_lora(model, tmp_path / "own.safetensors", weights=state)
    save_file(other_names(own, kind), tmp_path / "other.safetensors")
    found = loaded(folder, rank=None, lora=tmp_path / "other.safetensors")
    for name, tensor in found.lora_state().items():
        torch.testing.assert_close(tensor, state[name])


def test_a_file_with_more_layers_is_gone_on_from_where_they_are_linear(
    model: PipelineModel, folder: Path, tmp_path: Path
) -> None:
    tensors = load_file(export_lora(model, tmp_path / "own.safetensors"))

    def also(layer: str) -> Path:
        pair = {f"{layer}.lora_down.weight": torch.ones(2, 64), f"{layer}.lora_up.weight": torch.ones(64, 2)}
        save_file({**tensors, **pair}, tmp_path / "more.safetensors")
        return tmp_path / "more.safetensors"

    if folder.name == SDXL:
        for more in ("down_blocks_1_attentions_0_proj_in", "output_blocks_2_1_proj_out"):
            found = loaded(folder, rank=None, lora=also(f"lora_unet_{more}"))
            assert any(name.endswith("proj_in.lora_A.weight") for name in found.lora_state())
    else:  # a convolution there
        with pytest.raises(ValueError, match="also changes 1 layers that are not trained here"):
            loaded(folder, rank=None, lora=also("lora_unet_input_blocks_4_1_proj_in"))
    with pytest.raises(ValueError, match="has the names of kohya"):
        loaded(folder, rank=None, lora=also("lora_unet_input_blocks_1_0_in_layers_2"))
    half = save_half(tensors, tmp_path)
    with pytest.raises(LoraFileError, match="half a LoRA"):
        load_lora(half)


def save_half(tensors: dict[str, Tensor], folder: Path) -> Path:
    """A file that was cut in two."""
    name = next(name for name in tensors if name.endswith(".lora_up.weight"))
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, folder / "half.safetensors")
    return folder / "half.safetensors"
