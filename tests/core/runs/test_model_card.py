"""What a model card tells: figures of the run, licences, and no folder of this machine."""

from dataclasses import replace

import pytest

from mixgrpo_core import RunFolder, TrainConfig
from mixgrpo_core.advantages import StructureCredit, WeightedAdvantages
from mixgrpo_core.advantages.patches import DinoPatches
from mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_core.runs.model_card import SHOWN, model_card, write_card

PLACES = ["/home/anna/models/dinov2", "C:\\\\Users\\\\anna\\\\dinov2", "~/secret/dinov2"]


USUAL = TrainConfig()


def card(folder, config=USUAL, prompts=("a red fox",), setup=None):
    run = RunFolder.create(folder / "fox", config, setup or {"model": {"folder": "/home/anna/sd35", "rank": 8}})
    names = {"pick": "PickScore: people's choices", "sharp": "PixelReward: a measure"}
    given = {"rewards": names, "licences": {"pick": "MIT", "sharp": ""}, "pictures": {"the run": "report.png"}}
    return model_card(run, **given, prompts=prompts, held_out=("a blue cat",))


def test_it_names_the_base_the_rewards_and_their_licences(tmp_path):
    told = card(tmp_path, replace(TrainConfig(), reward_weights={"sharp": 0.0}))
    assert "A LoRA of **sd35**" in told and "Rank 8." in told
    assert "| pick | PickScore: people's choices | 1 | - | - | MIT |" in told
    assert "| sharp | PixelReward: a measure | 0 | - | - | it has none |" in told
    assert "![the run](report.png)" in told and "    reward_weights = {'sharp': 0.0}" in told


@pytest.mark.parametrize("place", PLACES)
def test_it_names_no_folder_of_this_machine(tmp_path, place):
    credit = (WeightedAdvantages(), StructureCredit(DinoPatches(place)))
    told = card(tmp_path, replace(TrainConfig(), credit=credit))
    assert "dinov2" in told and "anna" not in told and "secret" not in told


def test_it_shows_a_few_prompts_of_many_and_settings_that_nobody_changed(tmp_path):
    told = card(tmp_path, prompts=[f"prompt\n{i}" for i in range(40)], setup={"cfg": 4.5})
    assert told.count("* prompt ") == SHOWN and "* ... and 28 more" in told
    assert "    (nothing)" in told and "A LoRA of **not said**" in told


def test_a_run_of_the_canvas_names_the_family_and_its_own_rank(tmp_path):
    told = card(tmp_path, setup={"model": "FLUX.1 dev 3f0a", "rank": 16})
    assert "A LoRA of **FLUX.1 dev**" in told and "Rank 16." in told


def test_pictures_are_copied_beside_the_card_and_linked_whatever_the_run_is_called(tmp_path):
    run = RunFolder.create(tmp_path / "a run", USUAL, {})
    (run.path / "report.png").write_bytes(b"a picture")
    place = tmp_path / "loras" / "a run-card.md"
    write_card(run, place, rewards={"shape": ShapeReward()}, prompts=["a"], held_out=[], prefix="a run-")
    assert "](a%20run-report.png)" in place.read_text() and "before_after" not in place.read_text()
    assert place.with_name("a run-report.png").read_bytes() == b"a picture"
