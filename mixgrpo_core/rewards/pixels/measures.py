"""Rewards that need no network: a measure of the pixels, and whether more or less of it, or how much, is wanted.

    PixelReward(Colourfulness(), More())    PixelReward(Brightness(), Near(0.4))    PixelReward(JpegSize(), Less())

    luma y = .2126 R + .7152 G + .0722 B                                     (Rec. 709)

A measure maps images ``[G, H, W, 3]`` in 0..1 to ``[G]`` numbers and is differentiable, but for ``JpegSize``. Each is
easily satisfied by images that nobody wants (brightest is white): combine them with other rewards, or ask for `Near`.
"""

import io
from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ...support.setting import require_finite
from ..port import DifferentiableReward, RewardBatch, RewardInfo

_LUMA = (0.2126, 0.7152, 0.0722)
_TINY = 1e-12  # under square roots, for their gradient at 0


class Measure(Protocol):
    """Says how much of something an image has."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """``[G, H, W, 3]`` in 0..1 to ``[G]``."""
        ...


class Goal(Protocol):
    """Says how good an amount is."""

    @abstractmethod
    def __call__(self, amount: Tensor) -> Tensor:
        """Scores ``[G]`` of amounts ``[G]`` in the measure's unit, same dtype, with the gradient; higher is better."""
        ...


@dataclass(frozen=True)
class More:
    """The more the better."""

    def __call__(self, amount: Tensor) -> Tensor:
        return amount


@dataclass(frozen=True)
class Less:
    """The less the better."""

    def __call__(self, amount: Tensor) -> Tensor:
        return -amount


@dataclass(frozen=True)
class Near:
    """The nearer to ``target`` the better; 0 at best. In the measure's units."""

    target: float

    def __post_init__(self) -> None:
        require_finite(self)

    def __call__(self, amount: Tensor) -> Tensor:
        return -(amount - self.target).abs()


@dataclass(frozen=True)
class PixelReward(DifferentiableReward):
    """A measure with a goal, as a reward. Ours; a measure from the literature names its source."""

    measure: Measure
    goal: Goal = More()

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(differentiable=not isinstance(self.measure, JpegSize))

    def values(self, batch: RewardBatch) -> Tensor:
        """``[G]`` scores, with their gradient."""
        return self.goal(self.measure(batch.images.float()))


@dataclass(frozen=True)
class Brightness:
    """Mean luma, 0 (black) to 1 (white)."""

    def __call__(self, images: Tensor) -> Tensor:
        return _luma(images).mean((1, 2))


@dataclass(frozen=True)
class Contrast:
    """Standard deviation of the luma (RMS contrast), 0 to 0.5."""

    def __call__(self, images: Tensor) -> Tensor:
        return _spread(_luma(images))


@dataclass(frozen=True)
class Saturation:
    """Mean saturation of HSV, ``(max - min) / max`` of a pixel's channels (black: 0), 0 to 1."""

    def __call__(self, images: Tensor) -> Tensor:
        highest, lowest = images.amax(-1), images.amin(-1)
        black = highest <= 0
        return ((highest - lowest) / highest.masked_fill(black, 1.0)).masked_fill(black, 0.0).mean((1, 2))


@dataclass(frozen=True)
class Colourfulness:
    """Hasler and Suesstrunk (2003): ``sqrt(s_rg^2 + s_yb^2) + .3 sqrt(m_rg^2 + m_yb^2)`` on the scale of 0..255.

    0 none, 15 slight, 33 moderate, 45 average, 59 quite, 82 high, 109 extreme.
    """

    def __call__(self, images: Tensor) -> Tensor:
        red, green, blue = (255 * images).unbind(-1)
        opponents = torch.stack((red - green, (red + green) / 2 - blue))  # [2, G, H, W]
        variance = opponents.var((2, 3), correction=0).sum(0)
        mean = opponents.mean((2, 3)).square().sum(0)
        return (variance + _TINY).sqrt() + 0.3 * (mean + _TINY).sqrt()


@dataclass(frozen=True)
class Sharpness:
    """Variance of the 3 x 3 Laplacian of the luma on the scale of 0..255, without the share that noise has in it.

    Noise of standard deviation s has a Laplacian of variance 20 s^2; s is estimated as Immerkaer (1996) does, by a
    filter that straight edges and slopes do not excite. So edges count and grain does not. Photographs have 100 to
    1000. Larger images are shrunk first, so that sizes compare.

    Attributes:
        side: pixels of the longer side above which an image is shrunk.
        guard: share of the noise's part that is taken off; 0 measures noise as sharpness.
    """

    side: int = 512
    guard: float = 1.0

    def __post_init__(self) -> None:
        require_finite(self)

    def __call__(self, images: Tensor) -> Tensor:
        luma = _shrunk(255 * _luma(images)[:, None], self.side)
        laplacian = _filtered(luma, ((0, 1, 0), (1, -4, 1), (0, 1, 0)))
        noise = _filtered(luma, ((1, -2, 1), (-2, 4, -2), (1, -2, 1))).abs().mean((1, 2))
        sigma = noise * (torch.pi / 2) ** 0.5 / 6
        made: Tensor = laplacian.var((1, 2), correction=0) - self.guard * 20 * sigma.square()
        return made


@dataclass(frozen=True)
class Symmetry:
    """How much an image equals its mirror image, left for right: 1 less the mean difference, 0 to 1."""

    def __call__(self, images: Tensor) -> Tensor:
        return 1 - (images - images.flip(2)).abs().mean((1, 2, 3))


@dataclass(frozen=True)
class Tileability:
    """How well an image joins itself: 1 less the mean step over its seams (left to right, top to bottom), 0 to 1."""

    def __call__(self, images: Tensor) -> Tensor:
        across = (images[:, :, 0] - images[:, :, -1]).abs().mean((1, 2))
        down = (images[:, 0] - images[:, -1]).abs().mean((1, 2))
        return 1 - (across + down) / 2


@dataclass(frozen=True)
class JpegSize:
    """Bits per pixel of the JPEG file: how much detail there is, noise included. Not differentiable.

    Attributes:
        quality: of the JPEG, 1..95.
    """

    quality: int = 95

    def __post_init__(self) -> None:
        require_finite(self)

    def __call__(self, images: Tensor) -> Tensor:
        sizes = [self._bits(image) for image in images.detach().cpu()]
        return torch.tensor(sizes, device=images.device)

    def _bits(self, image: Tensor) -> float:
        if not torch.isfinite(image).all():
            return float("nan")
        pixels = image.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
        made: float = 8 * file.tell() / (pixels.shape[0] * pixels.shape[1])
        return made


def _luma(images: Tensor) -> Tensor:
    """``[G, H, W, 3]`` to ``[G, H, W]``."""
    return images @ images.new_tensor(_LUMA)


def _spread(values: Tensor) -> Tensor:
    """Standard deviation over the pixels of ``[G, H, W]``."""
    return (values.var((1, 2), correction=0) + _TINY).sqrt()


def _filtered(luma: Tensor, kernel: tuple[tuple[int, ...], ...]) -> Tensor:
    """``[G, 1, H, W]`` to ``[G, H - 2, W - 2]``."""
    if min(luma.shape[2:]) < 3:
        raise ValueError(f"expected images of at least 3 x 3 pixels, found {luma.shape[2]} x {luma.shape[3]}")
    return functional.conv2d(luma, luma.new_tensor(kernel)[None, None])[:, 0]


def _shrunk(luma: Tensor, side: int) -> Tensor:
    """``[G, 1, H, W]`` with the longer side at most ``side``."""
    height, width = luma.shape[2:]
    factor = side / max(height, width)
    if factor >= 1:
        return luma
    size = (max(3, round(height * factor)), max(3, round(width * factor)))
    return functional.interpolate(luma, size=size, mode="bilinear", antialias=True)
