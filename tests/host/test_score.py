"""Score Images: the order, the sheet, the words, and what cannot be scored."""

import math

import pytest
import torch
from mixgrpo_pack.mixgrpo_core.evaluation.reward_probe import probe, told
from mixgrpo_pack.mixgrpo_core.rewards import FunctionReward
from mixgrpo_pack.mixgrpo_core.rewards.port import Context, RewardBatch
from mixgrpo_pack.nodes.host.texts import PromptSet
from mixgrpo_pack.nodes.rewards.combine import DemoRewardNode, combined
from mixgrpo_pack.nodes.rewards.pixels import PixelRewardNode
from mixgrpo_pack.nodes.rewards.score import ScoreImages
from mixgrpo_pack.nodes.sockets import Rewards


def greys(*levels, side=16):
    return torch.tensor(levels)[:, None, None, None].expand(len(levels), side, side, 3).clone()


def bright(weight=1.0):
    return PixelRewardNode.execute("brightness", "more", 0.5, weight).args[0]


def scored(images, rewards, prompt="", keep=0, **context):
    with torch.inference_mode():  # as ComfyUI runs nodes
        return ScoreImages.execute(images, rewards, prompt, keep, **context)


def test_the_best_come_first_and_only_as_many_as_asked_for():
    images = greys(0.2, 0.9, 0.5)
    ranked, sheet, table, scores = scored(images, bright()).args
    assert torch.equal(ranked, images[[1, 2, 0]])
    assert scores == pytest.approx([0.9, 0.5, 0.2])
    assert table.splitlines() == [
        "1. image 2: brightness 0.9",
        "2. image 3: brightness 0.5",
        "3. image 1: brightness 0.2",
    ]
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 3
    assert torch.equal(scored(images, bright(), keep=1).args[0], images[[1]])


def test_the_sheet_shows_the_images_in_their_order_with_more_lines_for_more_rewards():
    images = greys(0.2, 0.9, 0.5, side=192)
    one = scored(images, bright()).args[1][0]
    both = combined({"reward0": bright(), "reward1": PixelRewardNode.execute("contrast", "less", 0.5, 0.0).args[0]})
    two = scored(images, both).args[1][0]
    assert two.shape[0] > one.shape[0] and two.shape[1] == one.shape[1]
    row = one[96, :, 0]
    tones = [level for level in (0.9, 0.5, 0.2) if bool(((row - level).abs() < 0.01).sum() > 100)]
    places = [int(((row - level).abs() < 0.01).nonzero()[0]) for level in tones]
    assert len(tones) >= 2 and places == sorted(places)


def test_weights_decide_between_rewards():
    against = combined(
        {"reward0": bright(0.2), "reward1": PixelRewardNode.execute("brightness", "less", 0.5, 1.0).args[0]}
    )
    ranked, _, _, scores = scored(greys(0.2, 0.9), against).args
    assert torch.equal(ranked, greys(0.2, 0.9)) and scores == pytest.approx([0.2, 0.9])


def test_an_image_with_nan_is_last_and_said():
    images = greys(0.2, 0.9)
    images[1, 3, 3, 0] = math.nan
    ranked, _, table, scores = scored(images, bright()).args
    assert torch.equal(ranked[0], images[0]) and scores[0] == pytest.approx(0.2) and math.isnan(scores[1])
    assert "NaN" in table.splitlines()[-1]


def test_one_pixel_and_one_image_are_scored():
    assert scored(greys(0.3, side=1), bright()).args[3] == pytest.approx([0.3])


def test_alpha_is_left_out_and_reference_and_mask_reach_the_reward():
    seen = []

    def look(batch: Context):
        seen.append(batch)
        return torch.zeros(len(batch.images))

    class Looking(FunctionReward):
        def __call__(self, batch):
            return self.function(batch)

    rewards = Rewards(rewards={"looking": Looking(look)}, weights={"looking": 1.0})
    reference, mask = torch.rand(1, 5, 6, 4), torch.rand(1, 5, 6)
    scored(torch.rand(2, 8, 8, 4), rewards, "a cat", reference=reference, mask=mask)
    [batch] = seen
    assert batch.images.shape[-1] == 3 and batch.prompts == ("a cat", "a cat")
    assert torch.equal(batch.context.reference, reference[0, ..., :3]) and torch.equal(batch.context.mask, mask[0])


def test_nothing_scored_is_an_error_and_a_prompt_that_a_reward_cannot_read_too():
    def broken(images, prompts):
        raise RuntimeError("the judge is away")

    with pytest.raises(ValueError, match="the judge is away"):
        scored(greys(0.1, 0.2), Rewards(rewards={"judge": FunctionReward(broken)}, weights={"judge": 1.0}))
    with pytest.raises(ValueError, match="caption"):
        scored(greys(0.1, 0.2), DemoRewardNode.execute("drawing", 1.0).args[0], "a photograph of a cat")


def of_prompts(*prompts):
    """A Prompt Set whose texts nobody encodes."""
    return PromptSet(train=prompts, held_out=(), negative="", clip=None)


def test_with_prompts_it_says_whether_rewards_can_be_learned_from():
    images = greys(0.2, 0.9, 0.5, 0.5, 0.1, 0.4)
    flat = PixelRewardNode.execute("saturation", "more", 0.5, 1.0).args[0]
    rewards = combined({"reward0": bright(), "reward1": flat})
    found = scored(images, rewards, prompts=of_prompts("a cat", "a dog"))
    _, _, table, _ = found.args
    core = told(probe(rewards.unattended, [batch_of(images[:3], "a cat"), batch_of(images[3:], "a dog")]))
    verdict, ranking = table.split("\n\n")
    assert verdict == core == found.ui["text"][0] and found.ui["images"]
    assert "brightness: can this be learned from? yes" in verdict
    assert "saturation: can this be learned from? no: all images of a prompt score the same" in verdict
    assert ranking.splitlines()[0] == "1. image 2 of “a cat”: brightness 0.9, saturation 0"
    for prompts in (("a", "b", "c", "d"), tuple("abcdef")):
        with pytest.raises(ValueError, match=f"each of the {len(prompts)} training prompts, two at least, found 6"):
            scored(images, bright(), prompts=of_prompts(*prompts))


def batch_of(images, prompt):
    return RewardBatch(images=images, prompts=(prompt,) * len(images))
