"""Preprocessing in torch against PIL, which every reference pipeline resizes with: pixels, places and gradients.

Tolerances in steps of 256: PIL rounds to whole steps and clips between and after its two passes.
"""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from mixgrpo_core.rewards.networks.preprocessing import (
    CLIP_MEAN,
    CLIP_STD,
    HALF,
    centre_cropped,
    in_eight_bits,
    letterboxed,
    normalised,
    pixels_of,
    squashed,
)

SIZES = [(1024, 1024), (832, 1216), (720, 1280), (512, 512), (227, 225), (100, 50), (1, 1), (1, 7), (9, 1), (1, 300)]


def picture(height, width):
    """Slopes, hard edges and grain, as ``[H, W, 3]`` of whole steps of 256."""
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    image = torch.stack((rows * columns, (6.3 * columns).sin().abs() * rows, (1 - rows).expand(height, width)), -1)
    image[height // 3 : height // 2, width // 4 : width // 2] = torch.tensor((0.9, 0.1, 0.2))
    image += 0.05 * torch.randn(image.shape, generator=torch.Generator().manual_seed(height * width))
    return image.clamp(0, 1).mul(255).round().to(torch.uint8)


def of(image):
    return pixels_of(image.float()[None] / 255)


def by_pil(image, height, width):
    resized = Image.fromarray(image.numpy()).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).movedim(-1, 0).float()


def assert_within(found, expected, *, mean, largest):
    difference = (255 * found[0] - expected).abs()
    assert found[0].shape == expected.shape
    assert difference.mean() < mean and difference.max() < largest


@pytest.mark.parametrize("start", [math.floor, round])
@pytest.mark.parametrize("height,width", SIZES)
def test_the_middle_is_that_of_pil(height, width, start):
    image = picture(height, width)
    size = (224, int(224 * width / height)) if height <= width else (int(224 * height / width), 224)
    if max(size) > 8000:  # the ends of a very long picture are cut first: the same middle to a part of its pixel
        image = image[:, 142:158]
        size = (224, 3584)
    whole = by_pil(image, *size)
    top, left = start((size[0] - 224) / 2), start((size[1] - 224) / 2)
    found = centre_cropped(of(picture(height, width)), 224, start=start)
    expected = whole[:, top : top + 224, left : left + 224]
    enlarged = min(height, width) < 256  # then PIL's rounding between the passes is not averaged away
    assert_within(found, expected, mean=0.35 if enlarged else 0.3, largest=16)
    assert_within(in_eight_bits(found), expected, mean=0.3 if enlarged else 0.15, largest=16)


def test_the_two_roundings_differ_where_the_margin_is_odd():
    """832 x 1216 becomes 224 x 327: a margin of 51.5."""
    pixels = of(picture(832, 1216))
    low, even = (centre_cropped(pixels, 224, start=start) for start in (math.floor, round))
    assert torch.equal(low[..., 1:], even[..., :-1])
    assert (low - even).abs().max() > 0.1


@pytest.mark.parametrize("height,width", SIZES)
def test_squashed_is_that_of_pil(height, width):
    image = picture(height, width)
    assert_within(squashed(of(image), 378), by_pil(image, 378, 378), mean=0.35, largest=16)


@pytest.mark.parametrize("height,width", SIZES)
def test_the_letterbox_is_the_whole_picture_in_the_middle_of_black(height, width):
    image = picture(height, width)
    found = letterboxed(of(image), 224)
    scale = 224 / max(height, width)
    down, across = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (224 - down) // 2, (224 - across) // 2
    inside = torch.zeros(224, 224, dtype=torch.bool)
    inside[top : top + down, left : left + across] = True
    assert found.shape == (1, 3, 224, 224)
    assert (found[..., ~inside] == 0).all()
    middle = found[..., top : top + down, left : left + across]
    assert_within(middle.clamp(0, 1), by_pil(image, down, across), mean=0.35, largest=16)


def test_the_letterbox_does_not_clip_and_the_others_do():
    """Bicubic rings beside hard edges; HPSv2's own preprocessing leaves that, PIL cuts it off."""
    edges = torch.zeros(1, 3, 512, 512)
    edges[..., 100:300, 200:400] = 1
    assert letterboxed(edges, 224).min() < -0.01 and letterboxed(edges, 224).max() > 1.01
    for clipped in (centre_cropped(edges, 224), squashed(edges, 224)):
        assert clipped.min() == 0 and clipped.max() == 1


def test_a_very_long_picture_costs_no_more_than_its_middle():
    """1 x 100000 would become 224 x 22400000 first: 60 GB."""
    image = torch.zeros(1, 3, 1, 100_000)
    image[..., 49_990:50_010] = 1
    found = centre_cropped(image, 224)
    assert found.shape == (1, 3, 224, 224) and found.min() > 0.9999


def test_eight_bits_are_those_of_a_file_and_pass_the_gradient():
    images = torch.rand(1, 9, 9, 3, requires_grad=True)
    pixels = pixels_of(images)
    file = (images.detach() * 255).round().to(torch.uint8)
    assert torch.equal((pixels.detach() * 255).round().to(torch.uint8), file.movedim(-1, 1))
    assert (pixels - file.movedim(-1, 1) / 255).abs().max() < 1e-6
    pixels.sum().backward()
    assert (images.grad == 1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_pictures_of_any_dtype_are_computed_in_float32(dtype):
    assert pixels_of(torch.rand(1, 4, 4, 3).to(dtype)).dtype == torch.float32


def test_pictures_beyond_black_and_white_are_clipped():
    images = torch.tensor([-0.5, 0.25, 1.5]).reshape(1, 3, 1, 1).expand(1, 3, 1, 3)
    assert pixels_of(images, eight_bits=False)[0, 0, :, 0].tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("resizing", [centre_cropped, squashed, letterboxed])
def test_gradients_are_finite_differences(resizing):
    generator = torch.Generator().manual_seed(1)
    images = 0.1 + 0.8 * torch.rand(1, 23, 31, 3, generator=generator, dtype=torch.float64)
    towards = torch.randn(1, 3, 16, 16, generator=generator, dtype=torch.float64)

    def value(images):
        return (normalised(resizing(pixels_of(images, eight_bits=False), 16), CLIP_MEAN, CLIP_STD) * towards).sum()

    images.requires_grad_()
    (gradient,) = torch.autograd.grad(value(images), images)
    direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        difference = (value(images + 1e-6 * direction) - value(images - 1e-6 * direction)) / 2e-6
    assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


def test_normalised_pixels_have_the_mean_and_deviation_taken_away():
    pixels = torch.tensor([0.48145466 + 0.26862954, 0.4578275, 0.40821073 - 2 * 0.27577711]).view(1, 3, 1, 1)
    assert normalised(pixels, CLIP_MEAN, CLIP_STD).flatten().tolist() == pytest.approx([1, 0, -2], abs=1e-6)
    assert normalised(torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1), HALF, HALF).flatten().tolist() == [-1, 0, 1]
