"""Families that edit: a prompt's picture goes the pipeline's own way, and an edit reward is trained."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_edits
import tiny_pipelines
import torch
from PIL import Image
from tiny_pipelines import opened
from torch import Tensor

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.diffusers.proof import prove
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.rewards.edits import PSNR, EditPreservation
from mixgrpo_core.sampling import FrozenWindow, WindowPlanner
from mixgrpo_core.settings.pictures import References
from mixgrpo_core.settings.prompts import read_prompts
from mixgrpo_core.support.pictured import Pictured

WORDS, STEPS = "make it red", 3
FAMILIES = {"flux-kontext": 32, "flux2-dev": 64, "flux2-klein": 64, **dict.fromkeys(tiny_edits.EDITS, tiny_edits.SIDE)}
"""Pixels of a side: FLUX.2 takes no smaller pictures than 64."""
GUIDANCE = {"flux-kontext": "true_cfg_scale", "flux2-klein": "guidance_scale"} | dict.fromkeys(
    tiny_edits.EDITS, "true_cfg_scale"
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.long("families")) if name == "qwen-edit-plus" else name
        for name in FAMILIES
    ],
)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = tiny_edits.make_folder if name in tiny_edits.EDITS else tiny_pipelines.make_folder
    return make(name, tmp_path_factory.mktemp("models") / name)


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
    return editing(name, folder, rows)


@pytest.fixture(scope="module")
def pipe(name: str, folder: Path) -> Any:
    if name in tiny_edits.EDITS:
        return tiny_edits.diffusers_own(folder)
    made = diffusers.DiffusionPipeline.from_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def editing(name: str, folder: Path, rows: Path, **changes: object) -> PipelineModel:
    made = opened(folder, resolution=(FAMILIES[name],) * 2, **changes)
    made.take_pictures(References(read_prompts(str(rows), []).contexts))
    return made


def theirs(name: str, pipe: Any, prompt: str, guidance: float) -> Tensor:
    """The picture that diffusers' own makes of a prompt with its picture."""
    asked: dict[str, Any] = {"height": FAMILIES[name], "width": FAMILIES[name], "num_inference_steps": STEPS}
    if name == "flux-kontext":
        asked |= {"max_area": FAMILIES[name] ** 2, "_auto_resize": False, "guidance_scale": 3.5}
    if name in GUIDANCE:
        asked[GUIDANCE[name]] = guidance
        if guidance > 1 and name != "flux2-klein":
            asked["negative_prompt"] = ""
    drawn, picture = torch.Generator().manual_seed(7), Image.open(prompt.picture)
    made = pipe(image=picture, prompt=WORDS, generator=drawn, output_type="pt", return_dict=False, **asked)[0]
    return made.float().movedim(1, -1)


def ours(model: PipelineModel, prompt: str, sigmas: Tensor) -> Tensor:
    def body(velocity: Callable[..., Tensor]) -> Tensor:
        x = model.noise(7, 1)
        for sigma, following in pairwise(sigmas):
            x = x + (following - sigma) * velocity(x, sigma)
        return x

    with torch.no_grad():
        return model.run([model.encode(prompt)], body)


def test_sampling_with_a_picture_is_the_pipelines_own(name: str, model: PipelineModel, pipe: Any, rows: Path) -> None:
    first, second = read_prompts(str(rows), []).train
    wanted = theirs(name, pipe, first, 1.0)
    found = ours(model, first, pipe.scheduler.sigmas)
    torch.testing.assert_close(model.decode(found), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.grid(STEPS), pipe.scheduler.sigmas, rtol=0, atol=1e-6)
    assert (found - ours(model, second, pipe.scheduler.sigmas)).norm() > 1e-3 * found.norm(), "another picture"


def test_guidance_with_a_picture_is_the_pipelines_own(name: str, folder: Path, pipe: Any, rows: Path) -> None:
    if name not in GUIDANCE:
        pytest.skip("it has none")
    model, (first, _) = editing(name, folder, rows, guidance=3.0), read_prompts(str(rows), []).train
    wanted = theirs(name, pipe, first, 3.0)
    torch.testing.assert_close(model.decode(ours(model, first, pipe.scheduler.sigmas)), wanted, rtol=0, atol=2e-6)


def test_what_it_computes_with_a_picture_is_proven(model: PipelineModel) -> None:
    own, asked = {name: tensor.clone() for name, tensor in model.lora_state().items()}, model.evaluations
    prove(model)  # raises where velocity or gradient are not right
    assert all(tensor.equal(own[name]) for name, tensor in model.lora_state().items()) and model.evaluations == asked
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_rows_of_several_pictures_are_each_ones_own(model: PipelineModel, rows: Path) -> None:
    conds = [model.encode(prompt) for prompt in read_prompts(str(rows), []).train]
    x, sigma, own = model.noise(1, 3), torch.tensor(0.6), torch.tensor([1, 0, 1])
    with torch.no_grad():
        together = model.run(conds, lambda velocity: velocity(x, sigma, own))
        apart = [model.run([conds[one]], lambda v, k=k: v(x[k : k + 1], sigma)) for k, one in enumerate(own.tolist())]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-5)


def test_an_edit_reward_is_trained_and_the_file_is_loaded(
    name: str, folder: Path, model: PipelineModel, pipe: Any, rows: Path, tmp_path: Path
) -> None:
    prompts = read_prompts(str(rows), [])
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
    reward = {"kept": EditPreservation(PSNR())}
    reports = list(train(model, prompts.train, reward, config, contexts=prompts.contexts))
    assert max(report.update.figures["ratio_first"] for report in reports) < 1e-4
    assert min(report.rewards["kept"].mean for report in reports) > 0
    path = export_lora(model, tmp_path / "lora.safetensors")
    pipe.load_lora_weights(path)
    sigmas, again = model.grid(STEPS), editing(name, folder, rows, rank=None, lora=path)
    made = model.decode(ours(model, prompts.train[0], sigmas))
    torch.testing.assert_close(theirs(name, pipe, prompts.train[0], 1.0), made, rtol=0, atol=1e-5)
    torch.testing.assert_close(again.decode(ours(again, prompts.train[0], sigmas)), made, rtol=0, atol=1e-5)
    with model.with_weights(None):
        assert (model.decode(ours(model, prompts.train[0], sigmas)) - made).abs().max() > 1e-4
    with pytest.raises(ValueError, match="reward 'kept' compares images with a reference .*'a cat' has none"):
        next(train(model, ["a cat"], reward, config))


def test_a_family_that_needs_a_picture_says_so(model: PipelineModel) -> None:
    if not model.family.needs_picture:
        pytest.skip("it does without")
    with pytest.raises(ValueError, match=r"Qwen-Image-Edit.* edits pictures, and the prompt 'a cat' has none: give it"):
        model.prepare(["a cat"])


def test_prompts_with_pictures_are_told_apart_and_go_through_files(rows: Path) -> None:
    first, second = read_prompts(str(rows), []).train
    assert (first, str(first)) != (second, str(second))
    assert str(first) == str(second) == WORDS
    assert first == Pictured(WORDS, str(rows.parent / "a.png"), str(rows.parent / "mask.png"))
