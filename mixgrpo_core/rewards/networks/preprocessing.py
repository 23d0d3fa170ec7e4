"""Images as reward networks want them, in torch: on any device, with gradients, as PIL and torchvision make them.

Images ``[B, H, W, 3]`` in 0..1 become pixels ``[B, 3, side, side]``. Bicubic with antialiasing is PIL's kernel
(a = -1/2); what PIL clips to 0..255 between and after its passes is clipped to 0..1 here, after them.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
_LONGEST = 16  # times the shorter edge: of a longer picture, what is cut off anyway is not resized first


def pixels_of(images: Tensor, *, eight_bits: bool = True) -> Tensor:
    """``[B, H, W, 3]`` as ``[B, 3, H, W]`` in 0..1, in float32 at least; rounded to the 256 steps of a picture file,
    through which the gradient passes as if nothing had been rounded."""
    pixels = images.to(torch.promote_types(images.dtype, torch.float32)).clamp(0, 1).movedim(-1, 1)
    return in_eight_bits(pixels) if eight_bits else pixels


def in_eight_bits(pixels: Tensor) -> Tensor:
    """Rounded to multiples of 1/255; the gradient is that of the unrounded pixels."""
    return pixels + ((pixels * 255).round() / 255 - pixels).detach()


def resized(pixels: Tensor, height: int, width: int, *, clip: bool = True, mode: str = "bicubic") -> Tensor:
    """``[B, 3, height, width]``, antialiased; unchanged where the size is right already."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    pixels = functional.interpolate(pixels, (height, width), mode=mode, antialias=True, align_corners=False)
    return pixels.clamp(0, 1) if clip else pixels


def squashed(pixels: Tensor, side: int) -> Tensor:
    """To ``side`` x ``side``, whatever the aspect (SigLIP, DFN5B)."""
    return resized(pixels, side, side)


def centre_cropped(
    pixels: Tensor, side: int, *, shortest: int | None = None, start: Callable[[float], int] = math.floor
) -> Tensor:
    """The shorter edge to ``shortest`` (``side`` when None), the longer one in proportion, cut down; then the middle.

    Args:
        start: rounds the crop's first row and column where the margin is odd: Hugging Face's processors take
            ``math.floor``, torchvision (open_clip, ImageReward) takes ``round``, half to even.
    """
    shortest = shortest or side
    pixels = _without_ends(pixels)
    height, width = pixels.shape[-2:]
    short, long = min(height, width), max(height, width)
    longer = int(shortest * long / short)
    size = (shortest, longer) if height <= width else (longer, shortest)
    pixels = resized(pixels, *size)
    top, left = (start((edge - side) / 2) for edge in size)
    return pixels[..., top : top + side, left : left + side]


def _without_ends(pixels: Tensor) -> Tensor:
    """The middle of a very long picture: one of 1 x 4000 pixels would be resized to 224 x 896000."""
    height, width = pixels.shape[-2:]
    longest = _LONGEST * min(height, width)
    down, across = max(0, height - longest) // 2, max(0, width - longest) // 2
    return pixels[..., down : height - down, across : width - across]


def letterboxed(pixels: Tensor, side: int) -> Tensor:
    """The longer edge to ``side``, black around the middle (HPSv2); bicubic may leave 0..1 a little, as its own
    preprocessing, which resizes tensors, does."""
    scale = side / max(pixels.shape[-2:])
    height, width = (max(1, round(edge * scale)) for edge in pixels.shape[-2:])
    pixels = resized(pixels, height, width, clip=False)
    down, across = side - height, side - width
    return functional.pad(pixels, (across // 2, across - across // 2, down // 2, down - down // 2))


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(pixels - mean) / std`` per channel."""
    shift, scale = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (mean, std))
    return (pixels - shift) / scale
