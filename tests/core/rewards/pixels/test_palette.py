"""Colours in Oklab against its author's published values, and what palettes and shares say of drawn images."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixgrpo_core.rewards.pixels.measures import PixelReward
from mixgrpo_core.rewards.pixels.palette import ColourShare, Palette, colour_of, oklab
from mixgrpo_core.rewards.port import RewardBatch


def painted(*colours, columns=8):
    """[1, 4, W, 3]: vertical bands."""
    bands = [torch.tensor(colour_of(colour)).expand(4, columns, 3) for colour in colours]
    return torch.cat(bands, 1)[None]


@pytest.mark.parametrize(
    "colour,expected",  # Ottosson's post and the CSS Color 4 specification
    [
        ("#ffffff", (1.0, 0.0, 0.0)),
        ("#ff0000", (0.6280, 0.2249, 0.1258)),
        ("#00ff00", (0.8664, -0.2339, 0.1795)),
        ("#0000ff", (0.4520, -0.0325, -0.3115)),
        ("#808080", (0.5999, 0.0, 0.0)),
    ],
)
def test_oklab_of_known_colours(colour, expected):
    assert torch.allclose(oklab(torch.tensor(colour_of(colour))), torch.tensor(expected), atol=2e-4)


def test_the_distance_of_black_and_white_is_about_one():
    score = Palette(("#ffffff",), tolerance=1.0)(painted("#000000"))
    assert math.isclose(-math.log(float(score)), 1.0, abs_tol=0.02)


def test_an_image_of_the_palette_is_perfect_and_others_are_not():
    wanted = Palette(("#0b3954", "#ff6663"))
    assert float(wanted(painted("#0b3954", "#ff6663"))) > 0.999
    assert float(wanted(painted("#0b3954"))) > 0.999
    half, none = float(wanted(painted("#0b3954", "#00ff00"))), float(wanted(painted("#00ff00")))
    assert none < half < 0.5
    assert math.isclose(half, math.sqrt(none), rel_tol=1e-3)  # half the mean distance


@pytest.mark.parametrize("columns,share", [((8, 8), 0.5), ((2, 14), 0.125), ((16, 0), 1.0)])
def test_a_share_of_pixels(columns, share):
    image = torch.cat([painted("#ff6663", columns=columns[0]), painted("#003366", columns=columns[1])], 2)
    assert math.isclose(float(ColourShare("#ff6663")(image)), share, abs_tol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_the_order_of_pixels_does_not_matter(seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 6, 6, 3, generator=generator)
    mixed = image.reshape(36, 3)[torch.randperm(36, generator=generator)].reshape(1, 6, 6, 3)
    for measure in (Palette(("#336699", "#ffcc00")), ColourShare("#336699", 0.3)):
        assert torch.allclose(measure(image), measure(mixed), atol=1e-6)


@pytest.mark.parametrize("measure", [Palette(("#0b3954", "#ff6663")), ColourShare("#ff6663", 0.4)])
def test_gradients_are_those_of_finite_differences(measure):
    image = torch.rand(1, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert torch.autograd.gradcheck(measure, (image,), eps=1e-7, atol=1e-5)
    black = torch.zeros(1, 2, 2, 3, requires_grad=True)
    measure(black).sum().backward()
    assert bool(black.grad.isfinite().all())


def test_it_is_a_reward():
    images = torch.cat([painted("#ff6663"), painted("#00ff00")])
    scores = PixelReward(ColourShare("#ff6663"))(RewardBatch(images=images, prompts=("a", "a")))
    assert scores.valid.all() and scores.values[0] > 0.99 > 0.01 > scores.values[1]


@pytest.mark.parametrize(
    "make,words",
    [
        (lambda: Palette(()), "one colour or more"),
        (lambda: Palette("#ff0000"), "one colour or more"),
        (lambda: Palette(("red",)), "'red'"),
        (lambda: ColourShare("#ff00"), "#ff00"),
        (lambda: ColourShare("#ff0000", 0.0), "tolerance"),
    ],
)
def test_what_is_no_colour_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()
