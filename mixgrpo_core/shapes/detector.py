"""What does an image show? Classical image analysis, nothing learned, vectorised over a batch.

    background  median colour of the two-pixel border
    distance    |pixel - background|; contrast = mean of the 40 largest
    mask        distance > contrast / 2; the object is its largest connected component
    colour      mean over the object without its edge -> nearest palette colour; spread = deviation from that mean
    shape       distance / contrast cropped to the object's box, resampled to 24 x 24, IoU with four templates

The images may come from a generator and show anything: a batch with NaN, blank or noise images gives finite numbers
(NaN counts as background); `Detection.valid` tells which images were finite.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .captions import COLOURS, SHAPES
from .drawing import PALETTE, coverage

_BRIGHTEST = 40  # pixels that define the contrast; the smallest drawn shape has about 200
_BOX = 24  # side of the resampled object
_MARGIN = 2  # background pixels kept around the object inside the box, in box pixels
_FAINT = 0.02  # contrast under which an image counts as blank


@dataclass(frozen=True, kw_only=True)
class Detection:
    """The largest object of each image.

    Attributes:
        valid: (n,) bool, every value of the image is finite.
        contrast: (n,) distance between object and background in RGB, 0..1.73.
        share: (n,) share of the mask in its largest component, 0..1.
        colour: (n,) index into `COLOURS` of the nearest palette colour.
        colour_distance: (n, 4) RGB distance of the object's mean colour to every palette colour.
        spread: (n,) root mean square RGB distance of the object's pixels from their mean colour.
        shape: (n,) index into `SHAPES` of the best template.
        shape_iou: (n, 4) soft intersection over union with every template, 0..1.
    """

    valid: Tensor
    contrast: Tensor
    share: Tensor
    colour: Tensor
    colour_distance: Tensor
    spread: Tensor
    shape: Tensor
    shape_iou: Tensor


@torch.no_grad()
def detect(images: Tensor) -> Detection:
    """Detect the largest object of each image.

    Args:
        images: shape (n, h, w, 3), values in 0..1 (others are clamped); h and w at least 8.

    Raises:
        ValueError: another shape.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < 8:
        raise ValueError(
            f"Expected images [n, height, width, 3] of at least 8 x 8 pixels, found {list(images.shape)}: make them "
            "larger, or put the channels last."
        )
    images = images.detach().cpu().float()  # small work: the CPU is as quick, and every device is served
    valid = torch.isfinite(images).flatten(1).all(1)
    pixels = torch.where(valid[:, None, None, None], images, torch.ones(())).clamp(0, 1).permute(0, 3, 1, 2)
    background = _border(pixels).median(-1).values
    distance = (pixels - background[:, :, None, None]).square().sum(1).sqrt()
    contrast = distance.flatten(1).topk(_BRIGHTEST).values.mean(1)
    mask = distance > (contrast / 2).clamp(min=_FAINT / 2)[:, None, None]
    largest = _largest_component(mask)
    share = largest.flatten(1).sum(1) / mask.flatten(1).sum(1).clamp(min=1)
    mean, spread = _colour(pixels, largest)
    colour_distance = (mean[:, None] - _palette()).square().sum(-1).sqrt()
    alpha = (distance / contrast.clamp(min=_FAINT)[:, None, None]).clamp(0, 1) * _dilate(largest)
    shape_iou = _soft_iou(_crop(alpha), _templates())
    return Detection(
        valid=valid,
        contrast=contrast,
        share=share,
        colour=colour_distance.argmin(1),
        colour_distance=colour_distance,
        spread=spread,
        shape=shape_iou.argmax(1),
        shape_iou=shape_iou,
    )


def _border(pixels: Tensor) -> Tensor:
    """The outermost two pixels, (n, 3, h, w) -> (n, 3, border)."""
    rows = torch.cat([pixels[:, :, :2], pixels[:, :, -2:]], 2).flatten(2)
    columns = torch.cat([pixels[:, :, 2:-2, :2], pixels[:, :, 2:-2, -2:]], 3).flatten(2)
    return torch.cat([rows, columns], 2)


def _spread_maximum(values: Tensor) -> Tensor:
    """3 x 3 running maximum of (n, h, w) non-negative values."""
    padded = F.pad(values, (1, 1, 1, 1))
    rows = torch.maximum(torch.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return torch.maximum(torch.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def _dilate(mask: Tensor) -> Tensor:
    return _spread_maximum(mask.to(torch.uint8)).bool()


def _erode(mask: Tensor) -> Tensor:
    return ~_dilate(~mask)


def _largest_component(mask: Tensor) -> Tensor:
    """The largest 8-connected component of each mask (n, h, w).

    Every pixel starts with its own number; in turn it takes the largest number around it and then the number of the
    pixel that it is numbered after. The second move doubles the reach, so about log2(extent) rounds are enough.
    """
    n, height, width = mask.shape
    own = torch.arange(1, height * width + 1, dtype=torch.int32).view(1, height, width)
    label = torch.where(mask, own, 0)
    while True:
        near = torch.where(mask, _spread_maximum(label), 0)
        table = F.pad(near.flatten(1), (1, 0))  # label 0, the background, maps to 0
        jumped = table.gather(1, near.flatten(1).long()).view_as(label)
        if torch.equal(jumped, label):
            break
        label = jumped
    sizes = torch.zeros(n, height * width + 1).scatter_add_(1, label.flatten(1).long(), mask.flatten(1).float())
    return mask & (label == sizes.argmax(1).to(torch.int32)[:, None, None])


def _colour(pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean colour (n, 3) inside the eroded mask and the spread (n,) around it."""
    inside = _erode(mask)
    empty = ~inside.flatten(1).any(1)
    inside = torch.where(empty[:, None, None], mask, inside)
    weight = inside.flatten(1)[:, None].float()
    count = weight.sum(-1).clamp(min=1)
    flat = pixels.flatten(2)
    mean = (flat * weight).sum(-1) / count
    deviation = (flat - mean[..., None]).square().sum(1) * weight[:, 0]
    return mean, (deviation.sum(-1) / count[:, 0]).sqrt()


def _extent(profile: Tensor) -> tuple[Tensor, Tensor]:
    """First and last edge, in pixels, of where a 1-d profile (n, k) is above one half; sub-pixel."""
    k = profile.shape[1]
    on = profile > 0.5
    first = on.float().argmax(1)
    last = k - 1 - on.flip(1).float().argmax(1)
    padded = F.pad(profile, (1, 1))
    before = padded.gather(1, first[:, None])[:, 0]  # the pixel outside the object covers a part of it
    after = padded.gather(1, last[:, None] + 2)[:, 0]
    return first - before, last + 1 + after


def _crop(alpha: Tensor) -> Tensor:
    """Resample each object's box, with a margin, to (n, 24, 24)."""
    _, height, width = alpha.shape
    left, right = _extent(alpha.amax(1))
    top, bottom = _extent(alpha.amax(2))
    inner = _BOX - 2 * _MARGIN
    steps = (torch.arange(_BOX) + 0.5 - _MARGIN) / inner
    x = left[:, None] + (right - left)[:, None] * steps
    y = top[:, None] + (bottom - top)[:, None] * steps
    grid_x = (2 * x / width - 1)[:, None, :].expand(-1, _BOX, -1)
    grid_y = (2 * y / height - 1)[:, :, None].expand(-1, -1, _BOX)
    grid = torch.stack([grid_x, grid_y], -1)
    return F.grid_sample(alpha[:, None], grid, align_corners=False)[:, 0]


def _soft_iou(found: Tensor, templates: Tensor) -> Tensor:
    """(n, s, s) against (k, s, s) -> (n, k)."""
    found, templates = found.flatten(1)[:, None], templates.flatten(1)[None]
    return torch.minimum(found, templates).sum(-1) / torch.maximum(found, templates).sum(-1).clamp(min=1e-6)


@cache
def _palette() -> Tensor:
    """(4, 3) colours in 0..1, in the order of `COLOURS`."""
    return torch.tensor([PALETTE[colour] for colour in COLOURS]) / 255


@cache
def _templates() -> Tensor:
    """(4, 24, 24) coverage of every shape, in the order of `SHAPES`, each filling the box up to its margin."""
    shapes = [torch.from_numpy(coverage(shape, centre=(32, 32), radius=24.0)).float() for shape in SHAPES]
    alpha = torch.stack(shapes)
    return _crop(alpha)
