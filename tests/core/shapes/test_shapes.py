"""The shapes world: captions, drawings, the detector and the three rewards."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_core.rewards.shapes import ShapeAdherence, ShapeCleanliness, ShapeReward
from mixgrpo_core.shapes.captions import COLOURS, SHAPES, Caption, all_captions, split_captions
from mixgrpo_core.shapes.detector import detect
from mixgrpo_core.shapes.drawing import draw

torch.set_num_threads(1)
REWARDS = (ShapeReward(), ShapeAdherence(), ShapeCleanliness())


def drawings(captions: tuple[Caption, ...], seed: int) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([draw(caption, generator) for caption in captions])).float() / 255


def batch(images: torch.Tensor, *captions: Caption) -> RewardBatch:
    prompts = tuple(str(caption) for caption in captions)
    return RewardBatch(images=images, prompts=prompts * (len(images) // len(prompts)))


def circle(colour: str = "red") -> Caption:
    return Caption(colour=colour, shape="circle", size="large", place="middle")


# Captions


@given(st.sampled_from(all_captions()))
def test_a_caption_is_its_sentence(caption: Caption) -> None:
    assert Caption.parse(str(caption)) == caption
    assert Caption.parse(f"  {str(caption).upper()} ") == caption


def test_there_are_160_different_captions() -> None:
    assert len(set(map(str, all_captions()))) == 160
    assert str(circle()) == "a large red circle in the middle"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a red circle", "7 words"),
        ("a small pink circle on the left", "colour out of red, green, blue, yellow, found 'pink'"),
        ("a small red hexagon on the left", "shape out of circle, square"),
        ("a tiny red circle on the left", "size out of small, large"),
        ("a small red circle on the north", "place out of left, right"),
        ("a small red circle in the left", "Expected 'a small red circle on the left'"),
        ("", "7 words"),
    ],
)
def test_what_is_no_caption_is_refused_in_plain_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Caption.parse(text)
    assert "found" in str(error.value)
    for reward in REWARDS:
        with pytest.raises(ValueError, match=message):
            reward.prepare([text])


def test_the_split_is_fixed_and_shares_no_caption() -> None:
    training, held_out = split_captions()
    assert (len(training), len(held_out)) == (128, 32)
    assert set(training) | set(held_out) == set(all_captions())
    assert split_captions() == (training, held_out)
    assert split_captions(seed=1) != (training, held_out)


def test_every_pair_of_colour_and_shape_is_trained_and_held_out() -> None:
    for part in split_captions():
        assert len({(caption.colour, caption.shape) for caption in part}) == 16


# Drawings and the detector


def test_a_drawing_is_decided_by_its_generator() -> None:
    assert torch.equal(drawings((circle(),), seed=3), drawings((circle(),), seed=3))
    assert not torch.equal(drawings((circle(),), seed=3), drawings((circle(),), seed=4))


@pytest.mark.parametrize("seed", range(8))
def test_the_detector_is_right_on_every_drawing(seed: int) -> None:
    captions = all_captions()
    found = detect(drawings(captions, seed))
    assert [COLOURS[i] for i in found.colour.tolist()] == [caption.colour for caption in captions]
    assert [SHAPES[i] for i in found.shape.tolist()] == [caption.shape for caption in captions]
    assert found.shape_iou.amax(1).min() > 0.85
    assert found.spread.max() < 0.01
    assert found.share.min() == 1


def test_detection_does_not_depend_on_the_batch() -> None:
    images = drawings(all_captions()[::7], seed=5)
    together = detect(images)
    for i, image in enumerate(images):
        alone = detect(image[None])
        torch.testing.assert_close(alone.shape_iou[0], together.shape_iou[i])
        torch.testing.assert_close(alone.spread[0], together.spread[i])


def test_only_the_largest_object_is_seen() -> None:
    small = Caption(colour="blue", shape="square", size="small", place="left")
    image = drawings((Caption(colour="red", shape="circle", size="large", place="right"),), seed=0)
    image[:, :, :26] = drawings((small,), seed=0)[:, :, :26]
    found = detect(image)
    assert COLOURS[found.colour.item()] == "red"
    assert SHAPES[found.shape.item()] == "circle"
    assert 0.5 < found.share.item() < 0.85


def test_a_winding_component_is_one_component() -> None:
    """A spiral is the worst case for the labelling: its ends are far apart along the way and near in the plane."""
    image = torch.ones(1, 64, 64, 3)
    x, y, length = 4, 4, 56
    for turn in range(12):
        dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[turn % 4]
        for _ in range(length):
            image[0, y, x] = 0
            x, y = x + dx, y + dy
        length -= 4 if turn % 2 else 0
    assert detect(image).share.item() == 1


def test_images_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found \[2, 3, 64, 64\]"):
        detect(torch.zeros(2, 3, 64, 64))


# Rewards


def test_every_clean_correct_drawing_scores_high() -> None:
    captions = all_captions()
    images = drawings(captions, seed=11)
    graded, adherent, clean = (reward(batch(images, *captions)) for reward in REWARDS)
    assert graded.values.min() >= 0.85
    assert graded.values.mean() >= 0.93
    assert graded.values.max() <= 1
    assert adherent.values.min() == 1
    assert clean.values.min() == 1
    assert graded.valid.all()


def test_colour_and_shape_count_alike_and_add_up() -> None:
    images = drawings((circle(),), seed=0)

    def score(colour: str, shape: str) -> float:
        wanted = Caption(colour=colour, shape=shape, size="large", place="middle")
        return ShapeReward()(batch(images, wanted)).values.item()

    assert score("red", "circle") > 0.9
    assert 0.4 < score("red", "triangle") < 0.6
    assert 0.4 < score("blue", "circle") < 0.6
    assert score("blue", "triangle") < 0.1


def test_a_two_coloured_object_does_not_pass() -> None:
    """Neither as its one colour nor as its other: half of it is wrong."""
    image = drawings((circle("red"),), seed=0)
    image[:, 32:] = drawings((circle("blue"),), seed=0)[:, 32:]
    whole = ShapeReward()(batch(drawings((circle("red"),), seed=0), circle("red"))).values.item()
    for colour in COLOURS:
        assert ShapeReward()(batch(image, circle(colour))).values.item() < 0.25 * whole
    assert ShapeCleanliness()(batch(image, circle())).values.item() == 0


def test_a_torn_object_is_not_clean() -> None:
    image = drawings((circle(),), seed=0)
    image[:, 30:35] = image[:, :1, :1]
    assert ShapeCleanliness()(batch(image, circle())).values.item() == 0


@pytest.mark.parametrize("kind", ["second colour", "fading", "noise", "cutting"])
def test_the_reward_falls_with_every_corruption(kind: str) -> None:
    image = drawings((circle(),), seed=0)
    blue = drawings((circle("blue"),), seed=0)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    scores = []
    for amount in (0.0, 0.25, 0.5, 0.75, 1.0):
        worse = image.clone()
        if kind == "second colour":
            edge = 32 - round(16 * amount)
            worse[:, edge:32] = blue[:, edge:32]
        elif kind == "fading":
            worse = worse.lerp(image[:, :1, :1], amount)
        elif kind == "noise":
            worse = (worse + 0.6 * amount * noise).clamp(0, 1)
        else:
            worse[:, 48 - round(16 * amount) :] = image[:, :1, :1]
        scores.append(ShapeReward()(batch(worse, circle())).values.item())
    assert all(later < earlier for earlier, later in itertools.pairwise(scores)), scores
    assert scores[-1] < 0.75 * scores[0]


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_blank_image_scores_zero(level: float) -> None:
    blank = torch.full((2, 64, 64, 3), level)
    for reward in REWARDS:
        scores = reward(batch(blank, circle()))
        assert scores.values.tolist() == [0, 0]
        assert scores.valid.tolist() == [True, True]


def test_noise_scores_low() -> None:
    noise = torch.rand(16, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    assert ShapeReward()(batch(noise, circle())).values.max() < 0.2
    assert ShapeCleanliness()(batch(noise, circle())).values.max() == 0


def test_an_image_that_is_not_finite_is_masked_and_its_neighbour_is_not() -> None:
    images = drawings((circle(), circle(), circle()), seed=0)
    images[0, 3, 3, 0] = torch.nan
    images[1, 3, 3, 0] = torch.inf
    for reward in REWARDS:
        scores = reward(batch(images, circle()))
        assert scores.valid.tolist() == [False, False, True]
        assert torch.isfinite(scores.values).all()
        assert scores.values[2] > 0.9


def test_rewards_remember_nothing() -> None:
    for reward in REWARDS:
        reward.prepare([str(circle())])
        assert reward.state_dict() == {}
        reward.load_state_dict({})
