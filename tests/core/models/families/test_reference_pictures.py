"""Families that edit: a prompt's picture goes the pipeline's own way, and an edit reward is trained."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_pipelines
import torch
from PIL import Image
from tiny_pipelines import opened
from torch import Tensor

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.rewards.edits import PSNR, EditPreservation
from mixgrpo_core.sampling import FrozenWindow, WindowPlanner
from mixgrpo_core.settings.pictures import References
from mixgrpo_core.settings.prompts import read_prompts
from mixgrpo_core.support.pictured import Pictured

WORDS, STEPS = "make it red", 3
FAMILIES = {"flux-kontext": 32, "flux2-dev": 64, "flux2-klein": 64}
"""Pixels of a side: FLUX.2 takes no smaller pictures than 64."""


@pytest.fixture(scope="module", params=FAMILIES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.make_folder(name, tmp_path_factory.mktemp("models") / name)


@pytest.fixture(scope="module")
def rows(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt file of two rows with the same words and other pictures, one of which is wider than high."""
    root, side = tmp_path_factory.mktemp("edits"), FAMILIES[name]
    draw = torch.Generator().manual_seed(0)
    for file, width in (("a.png", side), ("b.png", 2 * side)):
        pixels = (torch.rand(side, width, 3, generator=draw) * 255).byte().numpy()
        Image.fromarray(pixels).save(root / file)
    Image.new("L", (side, side), 0).save(root / "mask.png")
    lines = [{"prompt": WORDS, "image": "a.png", "mask": "mask.png"}, {"prompt": WORDS, "image": "b.png"}]
    (root / "edits.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root / "edits.jsonl"


@pytest.fixture(scope="module")
def model(name: str, folder: Path, rows: Path) -> PipelineModel:
    made = opened(folder, resolution=(FAMILIES[name],) * 2)
    made.take_pictures(References(read_prompts(str(rows), []).contexts))
    return made


def ours(model: PipelineModel, prompt: str, sigmas: Tensor) -> Tensor:
    def body(velocity: Callable[..., Tensor]) -> Tensor:
        x = model.noise(7, 1)
        for sigma, following in pairwise(sigmas):
            x = x + (following - sigma) * velocity(x, sigma)
        return x

    with torch.no_grad():
        return model.run([model.encode(prompt)], body)


def test_sampling_with_a_picture_is_the_pipelines_own(
    name: str, folder: Path, rows: Path, model: PipelineModel
) -> None:
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    first, second = read_prompts(str(rows), []).train
    asked: dict[str, Any] = {"height": FAMILIES[name], "width": FAMILIES[name], "num_inference_steps": STEPS}
    if name == "flux-kontext":
        asked |= {"max_area": FAMILIES[name] ** 2, "_auto_resize": False, "guidance_scale": 3.5}
    elif name == "flux2-klein":
        asked |= {"guidance_scale": 1.0}
    drawn = torch.Generator().manual_seed(7)
    picture = Image.open(first.picture)
    wanted = pipe(image=picture, prompt=WORDS, generator=drawn, output_type="pt", return_dict=False, **asked)[0]
    sigmas = pipe.scheduler.sigmas
    found = ours(model, first, sigmas)
    torch.testing.assert_close(model.decode(found), wanted.float().movedim(1, -1), rtol=0, atol=1e-5)
    assert (found - ours(model, second, sigmas)).norm() > 1e-3 * found.norm(), "another picture, another image"


def test_rows_of_several_pictures_are_each_ones_own(model: PipelineModel, rows: Path) -> None:
    conds = [model.encode(prompt) for prompt in read_prompts(str(rows), []).train]
    x, sigma, own = model.noise(1, 3), torch.tensor(0.6), torch.tensor([1, 0, 1])
    with torch.no_grad():
        together = model.run(conds, lambda velocity: velocity(x, sigma, own))
        apart = [model.run([conds[one]], lambda v, k=k: v(x[k : k + 1], sigma)) for k, one in enumerate(own.tolist())]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-5)


def test_an_edit_reward_is_trained(model: PipelineModel, rows: Path) -> None:
    prompts = read_prompts(str(rows), [])
    config = TrainConfig(
        iterations=1,
        steps=4,
        images_per_prompt=2,
        prompts_per_iteration=2,
        updates=1,
        planner=WindowPlanner(window=FrozenWindow(size=1, start=1)),
        eval_every=0,
    )
    reward = {"kept": EditPreservation(PSNR())}
    (report,) = train(model, prompts.train, reward, config, contexts=prompts.contexts)
    assert report.update.figures["ratio_first"] < 1e-4
    assert report.rewards["kept"].mean > 0
    with pytest.raises(ValueError, match="reward 'kept' compares images with a reference .*'a cat' has none"):
        next(train(model, ["a cat"], reward, config))


def test_prompts_with_pictures_are_told_apart_and_go_through_files(rows: Path) -> None:
    first, second = read_prompts(str(rows), []).train
    assert (first, str(first)) != (second, str(second))
    assert str(first) == str(second) == WORDS
    assert first == Pictured(WORDS, str(rows.parent / "a.png"), str(rows.parent / "mask.png"))
