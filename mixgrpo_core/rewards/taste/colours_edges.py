"""Colours and edges as numbers: what can be said of a picture where no network's weights are.

Pictures are shrunk to 64 pixels. The blocks, each of about the same weight:

    colours     shares of the 4 x 4 x 4 boxes of RGB, softly, as square roots
    layout      the mean colour of each of 4 x 4 places
    edges       how much runs in each of 16 directions, at two scales, as square roots
    textures    power of the grey picture by frequency (6 rings) and direction (8), as logarithms
    meetings    which directions of edges lie about 4 and 12 pixels from each other, 8 x 8 pairs each, as square roots
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 64
_BOXES, _PLACES, _DIRECTIONS, _COARSE = 4, 4, 16, 8
_RINGS, _RAYS = 6, 8
_DISTANCES = (2, 6)  # pixels of the coarse scale


@torch.no_grad()
def colours_and_edges(images: Tensor) -> Tensor:
    """Images ``[B, H, W, 3]`` in 0..1 to vectors ``[B, D]``, float32 on the CPU."""
    pixels = images.detach().float().cpu().clamp(0, 1).movedim(-1, 1)
    pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    fine, coarse = _edges(pixels), _edges(F.avg_pool2d(pixels, 2))
    blocks = (
        _colours(pixels),
        2 * F.adaptive_avg_pool2d(pixels, _PLACES).flatten(1) / _PLACES,
        _directions(*fine),
        _directions(*coarse),
        _textures(pixels.mean(1)),
        _meetings(*coarse),
    )
    return torch.cat(blocks, 1)


def _colours(pixels: Tensor) -> Tensor:
    """``[B, 64]``: each pixel is shared between the boxes around it."""
    place = pixels * (_BOXES - 1)
    centres = torch.arange(_BOXES)
    share = (1 - (place.unsqueeze(2) - centres.view(1, 1, -1, 1, 1)).abs()).clamp(min=0)  # [B, 3, boxes, H, W]
    red, green, blue = share.flatten(3).unbind(1)
    return (torch.einsum("bip,bjp,bkp->bijk", red, green, blue).flatten(1) / place[0, 0].numel()).sqrt()


def _edges(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and direction ``[B, H, W]`` of the strongest channel's gradient; a direction lies in 0 .. 1."""
    padded = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    strength, channel = (across.square() + down.square()).sqrt().max(1, keepdim=True)
    across, down = across.gather(1, channel)[:, 0], down.gather(1, channel)[:, 0]
    return strength[:, 0], (torch.atan2(down, across) / (2 * math.pi)) % 1


def _shared(strength: Tensor, direction: Tensor, bins: int) -> Tensor:
    """``[B, bins, H, W]``: the strength in the two bins next to its direction."""
    distance = (direction.unsqueeze(1) * bins - torch.arange(bins).view(1, -1, 1, 1)).abs()
    return strength.unsqueeze(1) * (1 - torch.minimum(distance, bins - distance)).clamp(min=0)


def _directions(strength: Tensor, direction: Tensor) -> Tensor:
    return _shared(strength, direction, _DIRECTIONS).mean((2, 3)).sqrt()


def _textures(grey: Tensor) -> Tensor:
    """``[B, rings * rays]`` of grey pictures ``[B, H, W]``."""
    power = torch.fft.rfft2(grey - grey.mean((1, 2), keepdim=True)).abs().square() / grey[0].numel()
    down, across = torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)[None]
    radius, angle = (down.square() + across.square()).sqrt(), torch.atan2(down, across)
    ring = ((radius * SIDE).clamp(min=1).log2() / math.log2(SIDE / 2) * _RINGS).long().clamp(max=_RINGS - 1)
    ray = ((angle / math.pi + 0.5) * _RAYS).long() % _RAYS
    place = (ring * _RAYS + ray).flatten()
    total = torch.zeros(len(grey), _RINGS * _RAYS).index_add_(1, place, power.flatten(1))
    count = torch.zeros(_RINGS * _RAYS).index_add_(0, place, torch.ones(place.numel())).clamp(min=1)
    return (total / count + 1e-3).log() / 20


def _meetings(strength: Tensor, direction: Tensor) -> Tensor:
    """``[B, 2 * 64]``: strengths of two directions that lie a few pixels from each other, to any side."""
    shared = _shared(strength, direction, _COARSE)
    found = []
    for distance in _DISTANCES:
        inner, outer = 2 * distance - 1, 2 * distance + 1
        ring = outer**2 * _boxed(shared, outer) - inner**2 * _boxed(shared, inner)
        ring = ring.clamp(min=0) / (outer**2 - inner**2)
        found.append((torch.einsum("bihw,bjhw->bij", shared, ring) / strength[0].numel()).flatten(1).sqrt())
    return torch.cat(found, 1)


def _boxed(maps: Tensor, size: int) -> Tensor:
    """Means over squares of an odd ``size`` around each place, of maps that are 0 beyond their borders."""
    rows = F.avg_pool2d(maps, (size, 1), stride=1, padding=(size // 2, 0))
    return F.avg_pool2d(rows, (1, size), stride=1, padding=(0, size // 2))
