"""Families that few people train, by one test each: sampling, proof, two iterations and the file, as for the others."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_pipelines
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny_more import COSTLY, MORE
from tiny_pipelines import SIDE, opened
from torch import Tensor

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.models.diffusers.frames import Frames
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.diffusers.proof import prove
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.sampling import FrozenWindow, WindowPlanner

PROMPT, OTHER, STEPS = "a red circle", "a blue square", 3
FRAMES = {"ltx": 5, "hunyuan-video": 5, "wan-5b": 3}
ROUNDING = {"kandinsky5": 1e-3}
"""Of pictures: an autoencoder with channels last adds up a megapixel in another order; the latents are the same."""
GUIDED = {"ltx": "guidance_scale", "ovis": "guidance_scale", "bria": "guidance_scale", "wan-5b": "guidance_scale"}
GUIDED |= {"kandinsky5": "guidance_scale", "hunyuan-video": "guider"}


def side(name: str) -> int:
    return 1024 if name == "kandinsky5" else SIDE


def sampled(pipe: Any, name: str, guidance: float) -> Tensor:
    """The picture, or the frames, of diffusers' own sampling."""
    asked: dict[str, Any] = {"height": side(name), "width": side(name), "num_inference_steps": STEPS}
    if name in FRAMES:
        asked["num_frames"] = FRAMES[name]
    if GUIDED.get(name) == "guider":
        pipe.guider = diffusers.ClassifierFreeGuidance(guidance_scale=guidance, enabled=guidance > 1)
    elif name in GUIDED:
        asked[GUIDED[name]] = guidance
        asked["negative_prompt"] = ""
    drawn = torch.Generator().manual_seed(7)
    made = pipe(prompt=PROMPT, generator=drawn, output_type="pt", return_dict=False, **asked)[0]
    return torch.as_tensor(made).float().movedim(-3, -1)


def ours(model: PipelineModel, sigmas: Tensor) -> Tensor:
    """Euler's method over the port, decoded."""

    def body(velocity: Callable[..., Tensor]) -> Tensor:
        x = model.noise(7, 1)
        for sigma, following in pairwise(sigmas):
            x = x + (following - sigma) * velocity(x, sigma)
        return x

    with torch.no_grad():
        return model.decode(model.run([model.encode(PROMPT)], body))


def load(pipe: Any, path: Path) -> None:
    """By the pipeline's loader; three have none, and their network is asked."""
    if hasattr(pipe, "load_lora_weights"):
        pipe.load_lora_weights(path)
    else:
        pipe.transformer.load_lora_adapter(path, prefix="transformer")


@pytest.mark.parametrize("name", [*MORE, *(pytest.param(name, marks=pytest.mark.long("families")) for name in COSTLY)])
def test_all_of_it(name: str, tmp_path: Path) -> None:
    rounding = ROUNDING.get(name, 1e-6)
    folder = tiny_pipelines.written(*{**MORE, **COSTLY}[name], tmp_path / name)
    common: dict[str, Any] = {"resolution": (side(name),) * 2}
    if name in FRAMES:
        common["frames"] = Frames(made=FRAMES[name], seen=FRAMES[name])
    model, pipe = opened(folder, **common), diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    if not isinstance(pipe.scheduler, FlowMatchEulerDiscreteScheduler):
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=pipe.scheduler.config.flow_shift)

    wanted = sampled(pipe, name, 1.0)
    sigmas = pipe.scheduler.sigmas
    torch.testing.assert_close(ours(model, sigmas), wanted, rtol=0, atol=rounding)
    if not model.family.even_grid:
        torch.testing.assert_close(model.grid(STEPS), sigmas, rtol=0, atol=1e-6)
    if name in GUIDED:
        guided = ours(opened(folder, guidance=3.0, **common), sigmas)
        torch.testing.assert_close(guided, sampled(pipe, name, 3.0), rtol=0, atol=2 * rounding)
        assert (guided - wanted).abs().max() > 1e-5
    else:
        with pytest.raises(ValueError, match="expected guidance 1 for"):
            opened(folder, guidance=3.0, **common)
    prove(model)

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
    path = export_lora(model, tmp_path / "lora.safetensors")
    load(pipe, path)
    learned = ours(model, sigmas)
    assert (learned - wanted).abs().max() > 1e-4
    torch.testing.assert_close(sampled(pipe, name, 1.0), learned, rtol=0, atol=10 * rounding)
    torch.testing.assert_close(
        ours(opened(folder, rank=None, lora=path, **common), sigmas), learned, rtol=0, atol=10 * rounding
    )
