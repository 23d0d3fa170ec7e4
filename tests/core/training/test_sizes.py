"""Prompts with sizes of their own in one run: each group is that of a run of its size, whatever else is rolled."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_pipelines
import torch
from PIL import Image
from tiny_pipelines import opened
from toy import Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner, load_lora, train
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.objectives import GRPO
from mixgrpo_core.objectives.step_weights import NoiseLevel
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.runs.errors import RunError
from mixgrpo_core.runs.gallery import Gallery
from mixgrpo_core.runs.reports import GroupScored, StepReport
from mixgrpo_core.settings.prompts import read_prompts

CONFIG = TrainConfig(
    iterations=1,
    steps=4,
    images_per_prompt=3,
    prompts_per_iteration=3,
    updates=1,
    learning_rate=0.05,
    planner=WindowPlanner(window=FrozenWindow(size=2, start=1)),
    objective=GRPO(step_weight=NoiseLevel()),  # whose weights depend on the grid
    eval_every=2,
    eval_images=2,
    checkpoint_every=1,
)
ONE_GROUP = replace(CONFIG, prompts_per_iteration=1)
TALL, WIDE = (48, 32), (32, 64)
LINES = ("a red circle", "a red circle --size 32x48", "a blue square --size 64x32")
BRIGHT = {"bright": FunctionReward(lambda images, prompts: images.mean((1, 2, 3)))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX.1: packed latents, of which one shape is of several sizes, and a grid by size."""
    return tiny_pipelines.make_folder("flux-dev", tmp_path_factory.mktemp("models") / "flux")


def groups(model: PipelineModel, prompts: Sequence[str]) -> list[GroupScored]:
    heard: list[object] = []
    list(train(model, prompts, BRIGHT, CONFIG, observer=heard.append))
    return [event for event in heard if isinstance(event, GroupScored)]


def test_each_group_of_a_mixed_run_is_that_of_a_run_with_its_size_alone(folder: Path) -> None:
    prompts = read_prompts(LINES, []).train
    mixed = groups(opened(folder), prompts)
    assert sorted(tuple(event.images.shape[1:3]) for event in mixed) == [(32, 32), WIDE, TALL]
    for size in (WIDE, TALL):
        alone = groups(opened(folder, resolution=size), ["a red circle", "a red circle", "a blue square"])
        (place,) = (number for number, event in enumerate(mixed) if tuple(event.images.shape[1:3]) == size)
        torch.testing.assert_close(mixed[place].images, alone[place].images, rtol=0, atol=1e-5)
        torch.testing.assert_close(mixed[place].advantage, alone[place].advantage, rtol=0, atol=1e-2)


@pytest.mark.parametrize("size", [WIDE, TALL])
def test_the_step_that_a_group_of_a_size_takes_is_that_of_a_run_of_this_size(
    folder: Path, size: tuple[int, int]
) -> None:
    """The whole update, with weights by the grid of that size, held-out figures and the LoRA behind it."""
    line = f"a red circle --size {size[1]}x{size[0]}"
    mixed, alone = opened(folder), opened(folder, resolution=size)
    held_out = read_prompts([f"a blue square --size {size[1]}x{size[0]}"], []).train
    (one,) = train(mixed, read_prompts([line], []).train, BRIGHT, ONE_GROUP, held_out=held_out)
    (other,) = train(alone, ["a red circle"], BRIGHT, ONE_GROUP, held_out=["a blue square"])
    assert one.update.figures["ratio_first"] < 1e-4
    assert one.rewards["bright"].mean == other.rewards["bright"].mean
    assert [e.rewards["bright"].mean for e in one.evaluations] == [e.rewards["bright"].mean for e in other.evaluations]
    for name, tensor in mixed.lora_state().items():
        torch.testing.assert_close(tensor, alone.lora_state()[name], rtol=0, atol=1e-7)


def test_a_mixed_run_that_is_cut_off_goes_on_bit_for_bit_and_shows_each_size(folder: Path, tmp_path: Path) -> None:
    prompts = read_prompts(LINES, ["a green star --size 64x32", "a green star"])
    config = replace(CONFIG, iterations=2, images_per_prompt=2, prompts_per_iteration=2)

    def reports(run: str, lines: Sequence[str] = prompts.train) -> Iterator[StepReport]:
        home = RunFolder.open_or_create(tmp_path / run, config)
        return train(opened(folder), lines, BRIGHT, config, held_out=prompts.held_out, run=home)

    list(reports("whole"))
    begun = reports("cut")
    next(begun)
    begun.close()
    list(reports("cut"))
    whole, cut = (load_lora(RunFolder.open(tmp_path / name).lora("last")).state for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    first = Gallery(RunFolder.open(tmp_path / "cut")).entries()[0]
    assert {Image.open(path).size for path in first.pictures} == {(64, 32), (32, 32)}
    with pytest.raises(RunError, match="was trained on other prompts"):
        next(reports("cut", read_prompts([line.replace("64x32", "32x64") for line in LINES], []).train))


def test_a_size_that_cannot_be_is_told_before_any_work(folder: Path) -> None:
    odd = read_prompts(["a cat", "a red circle --size 30x48"], []).train
    with pytest.raises(
        ValueError, match=r"'a red circle' asks for images of 30 x 48 .*multiples of \d+, found 48 x 30"
    ):
        next(train(opened(folder), odd, BRIGHT, CONFIG))
    with pytest.raises(ValueError, match="expected prompts without a size of their own for ToyModel"):
        next(train(ToyModel(), odd, {"red": Red()}, CONFIG))
    with pytest.raises(ValueError, match="but 1 are in both lists"):
        next(train(opened(folder), ["a cat"], BRIGHT, CONFIG, held_out=read_prompts(["a cat --size 32x48"], []).train))
