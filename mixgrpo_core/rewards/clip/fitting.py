"""How pictures of any size become the square that a CLIP network was trained on, with OpenAI's mean and deviation.

Each maps images ``[B, H, W, 3]`` in 0..1 and a side to pixels ``[B, 3, side, side]``, with gradients; ``eight_bits``
rounds the images first, as every reference does that reads them from files.
"""

import math

from torch import Tensor

from ..networks.preprocessing import CLIP_MEAN, CLIP_STD, centre_cropped, letterboxed, normalised, pixels_of, squashed


def cropped(images: Tensor, side: int, *, eight_bits: bool = True) -> Tensor:
    """The middle, as OpenAI's CLIP, open_clip and torchvision take it: an odd margin is rounded half to even."""
    pixels = centre_cropped(pixels_of(images, eight_bits=eight_bits), side, start=round)
    return normalised(pixels, CLIP_MEAN, CLIP_STD)


def cropped_low(images: Tensor, side: int, *, eight_bits: bool = True) -> Tensor:
    """The middle, as transformers' processors take it (PickScore): an odd margin is rounded down."""
    pixels = centre_cropped(pixels_of(images, eight_bits=eight_bits), side, start=math.floor)
    return normalised(pixels, CLIP_MEAN, CLIP_STD)


def stretched(images: Tensor, side: int, *, eight_bits: bool = True) -> Tensor:
    """All of it, whatever the aspect (DFN5B at 378)."""
    return normalised(squashed(pixels_of(images, eight_bits=eight_bits), side), CLIP_MEAN, CLIP_STD)


def boxed(images: Tensor, side: int, *, eight_bits: bool = True) -> Tensor:
    """All of it in proportion, black around it (HPSv2)."""
    return normalised(letterboxed(pixels_of(images, eight_bits=eight_bits), side), CLIP_MEAN, CLIP_STD)
