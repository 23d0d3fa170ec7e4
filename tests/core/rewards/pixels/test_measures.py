"""Pixel rewards on images whose answers are known by hand, and their gradients against finite differences."""

import io
from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image, ImageFilter

from mixgrpo_core.rewards.pixels.measures import (
    Brightness,
    Colourfulness,
    Contrast,
    JpegSize,
    Less,
    More,
    Near,
    PixelReward,
    Saturation,
    Sharpness,
    Symmetry,
    Tileability,
)
from mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_core.support.spelling import parse, spell

DIFFERENTIABLE = (Brightness(), Contrast(), Saturation(), Colourfulness(), Sharpness(), Symmetry(), Tileability())
EVERY = (*DIFFERENTIABLE, JpegSize())


def plain(*colour, size=(6, 8)):
    return torch.tensor(colour).expand(1, *size, 3)


def halves(left, right, size=(6, 8)):
    """Left half in one colour, right half in another."""
    image = plain(*left, size=size).clone()
    image[:, :, size[1] // 2 :] = torch.tensor(right)
    return image


def noise(std, size=(256, 256), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + std * torch.randn(1, *size, 1, generator=generator).expand(1, *size, 3)


WHITE, BLACK, GREY, RED = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "measure, image, answer",
    [
        (Brightness(), plain(*WHITE), 1.0),
        (Brightness(), plain(*RED), 0.2126),
        (Brightness(), plain(0.0, 1.0, 0.0), 0.7152),
        (Brightness(), halves(BLACK, WHITE), 0.5),
        (Contrast(), plain(*GREY), 0.0),
        (Contrast(), halves(BLACK, WHITE), 0.5),
        (Contrast(), halves((0.2, 0.2, 0.2), (0.6, 0.6, 0.6)), 0.2),
        (Saturation(), plain(*GREY), 0.0),
        (Saturation(), plain(*BLACK), 0.0),
        (Saturation(), plain(*RED), 1.0),
        (Saturation(), plain(0.8, 0.4, 0.6), 0.5),
        (Saturation(), halves(RED, BLACK), 0.5),
        (Colourfulness(), plain(*GREY), 0.0),
        (Colourfulness(), plain(*RED), 0.3 * 255 * 1.25**0.5),  # rg = 255, yb = 127.5, no spread
        (Colourfulness(), halves(RED, (0.0, 1.0, 0.0)), 255 + 0.3 * 127.5),  # rg = +-255, yb = 127.5
        (Symmetry(), plain(*RED), 1.0),
        (Symmetry(), halves(BLACK, WHITE), 0.0),
        (Tileability(), plain(*GREY), 1.0),
        (Tileability(), halves(BLACK, WHITE), 0.5),  # a full step across, none down
        (Sharpness(), plain(*GREY), 0.0),
    ],
)
def test_known_answers(measure, image, answer):
    assert measure(image).item() == pytest.approx(answer, abs=2e-4)


def test_symmetry_is_left_for_right():
    image = torch.zeros(1, 6, 8, 3)
    image[:, :3] = 1.0  # top half white: equal to its mirror image
    assert Symmetry()(image).item() == 1.0 and Tileability()(image).item() == 0.5


def test_sharpness_of_a_step_edge_by_hand():
    """A vertical step of 255: the Laplacian is +255 and -255 in the two columns at the step, 0 elsewhere."""
    image = halves(BLACK, WHITE, size=(10, 12))
    assert Sharpness()(image).item() == pytest.approx(2 * 255**2 / 10)
    slope = (torch.arange(12.0) / 12)[None, None, :, None].expand(1, 10, 12, 3)
    assert Sharpness()(slope).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("std", [0.02, 0.1])
def test_noise_is_no_sharpness(std):
    """White noise of deviation s has a Laplacian of variance 20 s^2, which the guard takes off to a few per cent."""
    variance = 20 * (255 * std) ** 2
    image = noise(std)
    assert Sharpness(guard=0.0)(image).item() == pytest.approx(variance, rel=0.03)
    assert abs(Sharpness()(image).item()) < 0.03 * variance


def test_sharpening_beats_blurring_and_grain_gains_nothing():
    photo = Image.effect_mandelbrot((96, 96), (-2.2, -1.4, 1.0, 1.4), 60).convert("RGB")

    def tensor(picture):
        return torch.from_numpy(numpy.array(picture))[None].float() / 255

    sharp, soft = tensor(photo), tensor(photo.filter(ImageFilter.GaussianBlur(1.5)))
    grainy = soft + (noise(0.05, (96, 96)) - 0.5)
    score = Sharpness()
    assert score(sharp) > 2 * score(soft)
    assert score(grainy) < score(soft) + 0.1 * score(sharp)
    assert Sharpness(guard=0.0)(grainy) > Sharpness(guard=0.0)(soft) + 0.5 * score(sharp), "without the guard it does"


def test_large_images_are_compared_at_one_size():
    def waves(side):
        """The same four waves, drawn with ``side`` pixels."""
        x = (torch.arange(side) + 0.5) / side
        return (0.5 + 0.4 * torch.sin(8 * torch.pi * x))[None, None, :, None].expand(1, side, side, 3)

    small = Sharpness(side=64)(waves(64)).item()
    assert Sharpness(side=64)(waves(256)).item() == pytest.approx(small, rel=0.05)
    assert Sharpness(side=256)(waves(256)).item() == pytest.approx(small / 4**4, rel=0.05), "unshrunk, it seems softer"


def test_jpeg_size_is_that_of_the_file():
    image = noise(0.1, (40, 48)).clamp(0, 1)
    file = io.BytesIO()
    Image.fromarray((image[0] * 255).round().byte().numpy()).save(file, "JPEG", quality=80)
    assert JpegSize(quality=80)(image).item() == pytest.approx(len(file.getvalue()) * 8 / (40 * 48))
    assert JpegSize()(image) > JpegSize()(noise(0.02, (40, 48))) > JpegSize()(plain(*GREY, size=(40, 48)))


@pytest.mark.parametrize("measure", DIFFERENTIABLE, ids=lambda item: type(item).__name__)
def test_gradients_against_finite_differences(measure):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 6, 7, 3, dtype=torch.float64, generator=generator) * 0.8 + 0.1
    small = replace(measure, side=5) if isinstance(measure, Sharpness) else measure
    assert torch.autograd.gradcheck(small, images.requires_grad_(True))


@pytest.mark.parametrize("measure", DIFFERENTIABLE, ids=lambda item: type(item).__name__)
@pytest.mark.parametrize("colour", [BLACK, GREY, WHITE])
def test_gradients_are_finite_where_roots_and_divisions_meet_zero(measure, colour):
    images = plain(*colour).clone().requires_grad_(True)
    PixelReward(measure).values(RewardBatch(images=images, prompts=("",) * len(images))).sum().backward()
    assert torch.isfinite(images.grad).all()


@pytest.mark.parametrize("measure", EVERY, ids=lambda item: type(item).__name__)
def test_images_are_scored_one_by_one(measure):
    images = torch.cat([halves(RED, GREY), plain(*GREY), noise(0.1, (6, 8)).clamp(0, 1)])
    together = PixelReward(measure)(RewardBatch(images=images, prompts=("",) * 3))
    apart = torch.cat([PixelReward(measure).values(RewardBatch(images=image[None], prompts=("",))) for image in images])
    assert together.values.shape == (3,) and together.valid.all()
    torch.testing.assert_close(together.values, apart.float())
    assert not together.values.requires_grad


@pytest.mark.parametrize("measure", EVERY, ids=lambda item: type(item).__name__)
def test_a_broken_image_is_masked_and_its_neighbour_is_not(measure):
    images = torch.cat([plain(*GREY), plain(*GREY)])
    images[0, 2, 2, 1] = float("nan")
    images[0, 2, 0, 1] = float("nan")  # on the seam, too
    scores = PixelReward(measure)(RewardBatch(images=images, prompts=("a", "a")))
    assert scores.valid.tolist() == [False, True]


def test_goals():
    amount = torch.tensor([0.1, 0.4, 0.9])
    assert More()(amount).argmax() == 2 and Less()(amount).argmax() == 0
    near = Near(0.5)(amount)
    torch.testing.assert_close(near, torch.tensor([-0.4, -0.1, -0.4]))


def test_a_reward_has_a_spelling_that_makes_it_again():
    reward = PixelReward(Sharpness(side=256), Near(400.0))
    classes = {cls.__name__: cls for cls in (PixelReward, Sharpness, Near)}
    assert parse(spell(reward), classes) == reward
    assert repr(reward) == "PixelReward(measure=Sharpness(side=256, guard=1.0), goal=Near(target=400.0))"
