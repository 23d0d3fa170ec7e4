"""A probe of rewards: known answers for clear, noisy, tied, failing and finished ones."""

import math

import pytest
import torch

from mixgrpo_core.evaluation.reward_probe import extremes, probe
from mixgrpo_core.rewards import FunctionReward, PixelReward, RewardBatch
from mixgrpo_core.rewards.pixels.measures import Brightness
from mixgrpo_core.rewards.port import Scores, StatelessReward


def batches(prompts=3, images=4):
    """Even greys: image k of prompt p has the level (p + k) / 10."""
    levels = torch.arange(prompts)[:, None] / 10 + torch.arange(images) / 10 + 0.1
    return [
        RewardBatch(images=row[:, None, None, None].expand(images, 8, 8, 3), prompts=(f"prompt {number}",) * images)
        for number, row in enumerate(levels)
    ]


def mean(images):
    return images.mean((1, 2, 3))


class Noisy(StatelessReward):
    """Another value at every look, with a spread of 0.1."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, batch):
        return Scores.of(torch.randn(len(batch.images), generator=self.generator) / 10)


def probed(**rewards):
    made = {name: reward if hasattr(reward, "prepare") else FunctionReward(reward) for name, reward in rewards.items()}
    return {one.name: one for one in probe(made, batches())}


def test_a_clear_reward_can_be_learned_from_and_noise_cannot():
    found = probed(light=PixelReward(Brightness()), noisy=Noisy())
    light, noisy = found["light"], found["noisy"]
    assert light.stats.within_group == pytest.approx(torch.tensor([0.0, 0.1, 0.2, 0.3]).std().item(), rel=1e-3)
    assert light.noise < 1e-3 and light.tied == 0
    assert light.learnable and light.sentence.startswith("yes: the spread within a prompt (0.129)")
    assert noisy.noise == pytest.approx(0.1, rel=0.5)
    assert "hardly more than the reward's own noise" in noisy.sentence and not noisy.learnable


def test_what_teaches_nothing_is_told_with_its_reason():
    def broken(images, prompts):
        raise OSError("the server is gone")

    found = probed(
        same=lambda images, prompts: torch.ones(4),
        coarse=lambda images, prompts: (mean(images) > 0.25).float(),
        broken=broken,
    )
    assert found["same"].sentence.startswith("no: all images of a prompt score the same")
    assert found["coarse"].tied == pytest.approx((2 + 3 + 6) / 18)  # 2 of 4 are light, then 3, then all
    assert found["coarse"].sentence.startswith("with difficulty")
    assert "12 of 12 images got no score (OSError: the server is gone)" in found["broken"].sentence
    assert found["broken"].noise is None and math.isnan(found["broken"].stats.mean)


def test_rewards_are_compared_within_prompts_and_the_best_and_the_worst_are_known():
    found = probed(light=PixelReward(Brightness()), dark=lambda images, prompts: -mean(images))
    assert found["light"].stats.correlation["dark"] == pytest.approx(-1.0)
    best, worst = extremes(found["light"], 2)
    assert best[0] == (2, 3) and worst[0] == (0, 0)
    assert set(extremes(found["light"], 99)[0]) == {(prompt, image) for prompt in range(3) for image in range(4)}
