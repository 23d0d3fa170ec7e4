"""The demo's edit twin: the picture alone says the shape, an edit reward is learnt for real."""

from dataclasses import replace

import pytest
import torch

from mixgrpo_core import train
from mixgrpo_core.demo import demo_config, write_edits
from mixgrpo_core.models import load_demo
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.diffusers.proof import prove
from mixgrpo_core.rewards import ShapeReward
from mixgrpo_core.rewards.edits import PSNR, EditPreservation
from mixgrpo_core.sampling.ode import sample
from mixgrpo_core.settings.pictures import References
from mixgrpo_core.settings.prompts import Prompts, read_prompts
from mixgrpo_core.shapes.captions import SHAPES, Caption
from mixgrpo_core.shapes.detector import detect


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Prompts:
    return read_prompts(str(write_edits(tmp_path_factory.mktemp("edits"))[0]), [])


@pytest.fixture
def model(edits: Prompts) -> PipelineModel:
    made = load_demo(edit=True)
    made.take_pictures(References(edits.contexts))
    return made


def test_the_shape_is_the_pictures_and_not_the_captions(edits: Prompts, model: PipelineModel) -> None:
    prove(model)
    prompts, wanted = edits.train[::8], []
    latents = []
    for number, prompt in enumerate(prompts):
        caption = Caption.parse(str(prompt))
        other = replace(caption, shape=SHAPES[(SHAPES.index(caption.shape) + 1) % len(SHAPES)])
        told = type(prompt)(str(other), prompt.picture, prompt.mask)
        model.take_pictures(References({told: edits.contexts[prompt]}))
        latents.append(sample(model, model.encode(told), model.noise(number, 1), model.grid(10)))
        wanted.append(SHAPES.index(caption.shape))
    found = detect(model.decode(torch.cat(latents))).shape
    assert (found == torch.tensor(wanted)).float().mean() > 0.8


def test_rewards_of_edits_are_learnt_from(edits: Prompts, model: PipelineModel) -> None:
    """Two iterations: the first ratio is 1, and both rewards have a say."""
    config = replace(
        demo_config(iterations=2),
        prompts_per_iteration=2,
        images_per_prompt=4,
        steps=8,
        learning_rate=5e-4,
        updates=4,
        guards=(),
        eval_every=0,
        reward_weights={"shape": 1.0, "kept": 1.0},
    )
    rewards = {"shape": ShapeReward(), "kept": EditPreservation(PSNR())}
    reports = list(train(model, edits.train, rewards, config, contexts=edits.contexts))
    assert max(report.update.figures["ratio_first"] for report in reports) < 1e-4
    assert all(report.rewards["kept"].mean > 20 for report in reports), "decibels"


def test_a_prompt_without_a_picture_is_told(model: PipelineModel) -> None:
    with pytest.raises(ValueError, match="the demo's edit twin edits pictures, and the prompt 'a small red circle"):
        model.prepare(["a small red circle on the left"])
