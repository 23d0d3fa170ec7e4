"""Images in the order of their rewards."""

import math

import pytest
import torch

from mixgrpo_core.evaluation.ranking import ranked
from mixgrpo_core.rewards import FunctionReward, PixelReward
from mixgrpo_core.rewards.pixels.measures import Brightness, Less
from mixgrpo_core.rewards.port import RewardBatch


def greys(*levels, side=4, group=0):
    images = torch.tensor(levels)[:, None, None, None].expand(len(levels), side, side, 3).clone()
    return RewardBatch(images=images, prompts=("",) * len(levels), group=group)


def test_brightest_first_over_batches_of_several_sizes():
    found = ranked([greys(0.2, 0.9), greys(0.5, side=7, group=1)], {"light": PixelReward(Brightness())})
    assert found.order == (1, 2, 0)
    assert torch.allclose(found.scores["light"].values, torch.tensor([0.2, 0.9, 0.5]))


def test_weights_decide_and_scales_do_not():
    rewards = {
        "light": FunctionReward(lambda images, prompts: images.mean((1, 2, 3))),
        "dark, in large numbers": FunctionReward(lambda images, prompts: -1e6 * images.mean((1, 2, 3))),
    }
    batch = [greys(0.2, 0.9, 0.5)]
    assert ranked(batch, rewards, {"dark, in large numbers": 0.9}).order == (1, 2, 0)
    assert ranked(batch, rewards, {"light": 0.9}).order == (0, 2, 1)
    assert ranked(batch, rewards, {"light": 0.0}).order == (0, 2, 1)


def test_what_was_not_scored_comes_last_and_is_said():
    def half(images, prompts):
        values = -images.mean((1, 2, 3))
        return torch.where(values < -0.8, math.nan, values)

    found = ranked([greys(0.9, 0.2, 0.5)], {"half": FunctionReward(half)})
    assert found.order == (1, 2, 0)
    assert found.words(0) == ["half -"] and found.words(1) == ["half -0.2"]
    lines = found.table(["a", "b", "c"]).splitlines()
    assert lines[:3] == ["1. b: half -0.2", "2. c: half -0.5", "3. a: half -"]
    assert "half" in lines[3] and "1 images" in lines[3]


def test_equal_images_stay_in_their_order():
    assert ranked([greys(0.5, 0.5, 0.5)], {"light": PixelReward(Brightness(), Less())}).order == (0, 1, 2)


def test_a_black_hole_of_an_image_harms_no_other():
    batch = greys(0.2, 0.9)
    batch.images[0, 1, 1, 1] = math.nan
    found = ranked([batch], {"light": PixelReward(Brightness())})
    assert found.order == (1, 0) and found.scores["light"].valid.tolist() == [False, True]
    assert "NaN" in found.failures[0].reason


@pytest.mark.parametrize("batches,rewards", [([], {"a": PixelReward(Brightness())}), ([greys(0.1)], {})])
def test_nothing_to_rank(batches, rewards):
    with pytest.raises(ValueError, match="found none"):
        ranked(batches, rewards)
