"""Videos: frames as the pipeline makes them, the number of them, and rewards of pictures that score them."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_pipelines
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny_pipelines import SIDE, opened
from torch import Tensor

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.models.diffusers.frames import Frames
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.rewards import FunctionReward, RewardBatch, Scores
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.sampling import FrozenWindow, WindowPlanner
from mixgrpo_core.sampling.ode import decode_frames

PROMPT, MADE = "a red circle", 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.make_folder("wan", tmp_path_factory.mktemp("models") / "wan")


def sampled(model: PipelineModel, sigmas: Tensor) -> Tensor:
    def body(velocity: Callable[..., Tensor]) -> Tensor:
        x = model.noise(7, 1)
        for sigma, following in pairwise(sigmas):
            x = x + (following - sigma) * velocity(x, sigma)
        return x

    with torch.no_grad():
        return model.run([model.encode(PROMPT)], body)


def test_frames_are_the_pipelines_own_and_evenly_chosen(folder: Path) -> None:
    model = opened(folder, frames=Frames(made=MADE, seen=MADE))
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    drawn = torch.Generator().manual_seed(7)
    asked = {"height": SIDE, "width": SIDE, "num_frames": MADE, "num_inference_steps": 3, "guidance_scale": 1.0}
    made = pipe(prompt=PROMPT, generator=drawn, output_type="pt", return_dict=False, **asked)[0].movedim(2, -1)
    latents = sampled(model, pipe.scheduler.sigmas)
    torch.testing.assert_close(model.decode(latents), made, rtol=0, atol=1e-6)
    middle, three = (opened(folder, frames=Frames(made=MADE, seen=seen)).decode(latents) for seen in (1, 3))
    torch.testing.assert_close(middle, made[:, 2], rtol=0, atol=1e-6)
    torch.testing.assert_close(three, made[:, [0, 2, 4]], rtol=0, atol=1e-6)
    images, frames = decode_frames(model, latents, 1)
    assert torch.equal(images, frames[:, 2])


def test_rewards_of_pictures_score_every_frame_that_is_seen(folder: Path) -> None:
    model = opened(folder, frames=Frames(made=MADE, seen=3))
    planner = WindowPlanner(window=FrozenWindow(size=1, start=1))
    config = TrainConfig(
        iterations=2,
        steps=4,
        images_per_prompt=2,
        prompts_per_iteration=1,
        updates=1,
        learning_rate=0.05,
        planner=planner,
        eval_every=1,
        eval_images=2,
    )
    seen: list[Tensor] = []

    def first_is_bright(images: Tensor, prompts: object) -> Tensor:
        seen.append(images)
        return images.mean((1, 2, 3))

    held_out = {"held_out": ["a blue square"]}
    reports = list(train(model, [PROMPT], {"bright": FunctionReward(first_is_bright)}, config, **held_out))
    assert max(report.update.figures["ratio_first"] for report in reports) < 1e-4
    assert {images.shape for images in seen} == {(2, SIDE, SIDE, 3)}
    assert not torch.equal(seen[0], seen[1]), "each frame by itself"


def test_the_mean_over_frames_counts_and_a_frame_that_does_not_count_masks_its_video() -> None:
    frames = torch.rand(3, 4, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    batch = RewardBatch(images=frames[:, 1], frames=frames, prompts=("a",) * 3)

    class Dark:
        def __call__(self, batch: RewardBatch) -> Scores:
            values = batch.images.mean((1, 2, 3))
            return Scores(values, values < 0.9)

    class Voted(Dark):
        about = property(lambda self: type("About", (), {"held_out": False})())

    found, _ = score({"dark": Dark(), "voted": Voted()}, batch)
    torch.testing.assert_close(found["dark"].values, frames.mean((1, 2, 3, 4)), rtol=0, atol=1e-6)
    torch.testing.assert_close(found["voted"].values, frames[:, 1].mean((1, 2, 3)), rtol=0, atol=1e-6)
    frames[1, 3] = 1.0
    found, _ = score({"dark": Dark()}, batch)
    assert found["dark"].valid.tolist() == [True, False, True]
    frames[2, 0, 0, 0, 0] = torch.nan
    found, failures = score({"dark": Dark()}, batch)
    assert found["dark"].valid.tolist() == [True, False, False]
    assert "NaN" in failures[0].reason


@pytest.mark.parametrize(
    ("family", "asked", "sentence"),
    [
        ("wan", {"made": 4}, "1 more than a multiple of 2 for Wan .*found 4: take 3 or 5"),
        ("wan", {"made": 0}, "expected 1 frame or more, found 0"),
        ("wan", {"made": 3, "seen": 4}, "expected 1 to 3 frames to be seen, as many as are made, found 4"),
        ("flux-dev", {"made": 5}, "expected one frame of FLUX.1, found 5: it makes pictures"),
    ],
)
def test_a_number_of_frames_that_does_not_fit_is_told(
    folder: Path, tmp_path: Path, family: str, asked: dict[str, int], sentence: str
) -> None:
    where = folder if family == "wan" else tiny_pipelines.make_folder(family, tmp_path / family)
    with pytest.raises(ValueError, match=sentence):
        opened(where, frames=Frames(**asked))
