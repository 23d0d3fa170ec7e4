"""Prompts with sizes of their own on the canvas: a run's groups are those of runs of these sizes, and headless ones."""

import folder_paths
import pytest
import torch
from canvas import loaded, policy, short_config
from mixgrpo_pack.mixgrpo_core import train
from mixgrpo_pack.mixgrpo_core.models.families.demo import load_demo
from mixgrpo_pack.mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_pack.mixgrpo_core.runs.reports import GroupScored
from mixgrpo_pack.mixgrpo_core.support.pictured import Pictured
from mixgrpo_pack.mixgrpo_core.support.sized import Sized
from mixgrpo_pack.nodes.host.texts import PromptSet
from mixgrpo_pack.nodes.settings.prompt_set import NO_FILE, PromptSetNode

CAPTION = "a small red circle on the left"
TYPED = f"{CAPTION}\n{CAPTION} --size 32x48"
TALL = (48, 32)
SMALL = {"iterations": 1, "prompts_per_iteration": 2, "images_per_prompt": 2, "steps": 4, "updates": 1, "eval_every": 0}


@pytest.fixture(scope="module")
def parts():
    return loaded()


def node(clip, typed, **changed):
    values = {"file": NO_FILE, "held_out_prompts": "", "held_out_share": 0.0, "seed": 0, "negative": "", **changed}
    with torch.inference_mode():
        return PromptSetNode.execute(clip, typed, **values).args


def groups(home, prompts, **changes):
    heard, config = [], short_config(**{**SMALL, **changes})
    (report,) = train(home, prompts, {"shape": ShapeReward()}, config, observer=heard.append)
    return [event.images for event in heard if isinstance(event, GroupScored)], report


def test_groups_of_typed_sizes_are_those_of_runs_of_these_sizes_and_of_the_headless_run(parts):
    clip = parts[1]
    prompts, told = node(clip, TYPED)
    assert told.splitlines()[2] == f"  {CAPTION} (32 x 48)"
    assert prompts.digest != node(clip, TYPED.replace("32x48", "64x64"))[0].digest
    with torch.inference_mode(), policy(*parts, width=32, height=32) as home:
        mixed, report = groups(home, prompts.train)
        here = {name: tensor.clone() for name, tensor in home.lora_state().items()}
        assert home.at((48, 32)).evaluations == home.evaluations > 0
    assert report.update.figures["ratio_first"] < 1e-5
    assert sorted(tuple(images.shape[1:3]) for images in mixed) == [(32, 32), TALL]
    with torch.inference_mode(), policy(*parts, width=TALL[1], height=TALL[0]) as home:
        alone, _ = groups(home, [CAPTION] * 2)
    (place,) = (number for number, images in enumerate(mixed) if tuple(images.shape[1:3]) == TALL)
    torch.testing.assert_close(mixed[place], alone[place], rtol=0, atol=1e-5)
    there = load_demo(rank=2, seed=0).at((32, 32))
    headless, _ = groups(there, prompts.train)
    for mine, theirs in zip(mixed, headless, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-3)
    moved = max(float(tensor.abs().max()) for name, tensor in there.lora_state().items() if "lora_B" in name)
    for name, tensor in there.lora_state().items():
        torch.testing.assert_close(here[name], tensor, atol=0.05 * moved, rtol=0, msg=name)


def test_sizes_of_lines_files_and_pictures(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    (tmp_path / "mine.csv").write_text("prompt,width,height\na dog,48,32\na bird,,\n")
    prompts, _ = node(parts[1], "a cat --size 32x48\na fox", file="mine.csv")
    assert prompts.train == (Sized("a cat", (48, 32)), "a fox", Sized("a dog", (32, 48)), "a bird")
    pictured, _ = node(parts[1], "a cat --size 32x48", images=torch.zeros(1, 64, 64, 3))
    assert [(type(prompt), prompt.size) for prompt in pictured.train] == [(Pictured, (48, 32))]
    values = {"file": NO_FILE, "held_out_prompts": "", "held_out_share": 0.1, "seed": 0}
    refused = PromptSetNode.validate_inputs(prompts="a cat --size 832", **values)
    assert "expected a width and height behind --size" in refused


def test_a_size_that_the_model_cannot_make_names_it(parts):
    clip = parts[1]
    texts = PromptSet(train=(CAPTION, Sized("a cat", (40, 32))), held_out=(), negative="", clip=clip)
    with policy(*parts) as home, pytest.raises(ValueError, match=r"'a cat' asks for images of 32 x 40 .*multiples of"):
        groups(home, texts.train)
