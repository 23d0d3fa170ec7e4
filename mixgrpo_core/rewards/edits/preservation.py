"""What an edit was to leave alone: the picture outside a mask, compared with its source.

    PSNR = -10 log10(mean squared difference)                                              decibels, pixels in 0..1
    SSIM = mean of (2 m_x m_y + c1)(2 s_xy + c2) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2))       (Wang et al. 2004)

with means m, variances s^2 and covariances s_xy in Gaussian windows of 11 x 11 pixels and deviation 1.5, c1 = .01^2,
c2 = .03^2, channel by channel. Not to edit at all is the easiest way to a high score: combine them with a reward for
the edit itself, such as `DirectionalCLIP`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ...support.setting import require_finite
from ..networks.preprocessing import pixels_of, resized
from ..networks.reference_picture import PictureSource, chosen
from ..port import DifferentiableReward, RewardBatch, RewardInfo

WINDOW, DEVIATION = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


class Closeness(Protocol):
    """Says how close pictures are where it matters."""

    @property
    @abstractmethod
    def expected(self) -> tuple[float, float]:
        """(low, high) of its values: 1 is a copy for SSIM; PSNR is in decibels."""
        ...

    @property
    @abstractmethod
    def spread_floor(self) -> float:
        """Least standard deviation of a group that is more than noise, in its own unit."""
        ...

    @abstractmethod
    def __call__(self, pixels: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        """``[G, 3, H, W]`` and ``[1, 3, H, W]`` in 0..1 with weights ``[1, 1, H, W]`` in 0..1 to ``[G]``.

        Raises:
            ValueError: nothing is left to compare.
        """
        ...


@dataclass(frozen=True)
class PSNR:
    """Decibels: 20 for plainly different pictures, 40 for hardly a difference.

    Attributes:
        most: of an exact copy; 60 is less than a step of 8 bits.
    """

    most: float = 60.0

    def __post_init__(self) -> None:
        require_finite(self)

    @property
    def expected(self) -> tuple[float, float]:
        return 5.0, self.most

    @property
    def spread_floor(self) -> float:
        return 0.05

    def __call__(self, pixels: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        error = (pixels - source).square().mean(1, keepdim=True)
        mean = (error * weight).sum((1, 2, 3)) / _whole(weight)
        return -10 * mean.clamp(min=10 ** (-self.most / 10)).log10()


@dataclass(frozen=True)
class SSIM:
    """Structural similarity, 1 for an exact copy. A window that touches the mask does not count."""

    expected = (0.0, 1.0)
    spread_floor = 1e-3

    def __call__(self, pixels: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        if min(pixels.shape[-2:]) < WINDOW:
            raise ValueError(
                f"expected images of at least {WINDOW} x {WINDOW} pixels for SSIM, found {list(pixels.shape[-2:])}"
            )
        weight = -functional.max_pool2d(-weight, WINDOW, stride=1)  # the least weight in a window
        return (ssim_map(pixels, source).mean(1, keepdim=True) * weight).sum((1, 2, 3)) / _whole(weight)


@dataclass(frozen=True)
class EditPreservation(DifferentiableReward):
    """How well an image keeps its source outside of the mask. Ours, of two common measures.

    The source and the mask come with the batch's context where none are given, and are resized to the image. Without
    any mask the whole picture is compared.

    Attributes:
        measure: ``PSNR()`` or ``SSIM()``.
        reference: the source picture.
        mask: a picture of the reference's extent: white where the edit may change it.
    """

    measure: Closeness = SSIM()
    reference: PictureSource | None = None
    mask: PictureSource | None = None

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(
            expected=self.measure.expected,
            differentiable=True,
            spread_floor=self.measure.spread_floor,
            reference=self.reference is None,
        )

    def prepare(self, prompts: Sequence[str]) -> None:
        """Reads the given pictures. Raises ValueError where one is missing or broken."""
        for source in (self.reference, self.mask):
            if source is not None:
                chosen(source, None)

    def values(self, batch: RewardBatch) -> Tensor:
        """``[G]`` with their gradient.

        Raises:
            ValueError: there is no reference, the mask leaves nothing, or the images are too small for the measure.
        """
        pixels = pixels_of(batch.images, eight_bits=False)
        reference = chosen(self.reference, batch.context.reference).to(pixels)
        source = resized(pixels_of(reference[None], eight_bits=False), *pixels.shape[-2:])
        return self.measure(pixels, source, self._kept(batch.context.mask, pixels))

    def _kept(self, of_the_batch: Tensor | None, pixels: Tensor) -> Tensor:
        """``[1, 1, H, W]``: 1 where nothing is to change."""
        mask = of_the_batch if self.mask is None else self.mask.image.mean(-1)
        if mask is None:
            return pixels.new_ones(1, 1, *pixels.shape[-2:])
        return 1 - resized(mask.to(pixels)[None, None], *pixels.shape[-2:], mode="bilinear")


def ssim_map(pixels: Tensor, source: Tensor) -> Tensor:
    """SSIM ``[G, C, H - 10, W - 10]`` of every window of ``[G, C, H, W]`` and ``[1 or G, C, H, W]`` in 0..1."""
    source = source.expand_as(pixels)
    moments = torch.stack((pixels, source, pixels * pixels, source * source, pixels * source))
    mean_x, mean_y, square_x, square_y, product = _blurred(moments.flatten(0, 2)).unflatten(0, moments.shape[:3])
    covariance = product - mean_x * mean_y
    variances = square_x - mean_x.square() + square_y - mean_y.square()
    brightness = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    made: Tensor = brightness * (2 * covariance + _C2) / (variances + _C2)
    return made


def _blurred(planes: Tensor) -> Tensor:
    """``[N, H, W]`` under the Gaussian window, where it fits whole."""
    places = torch.arange(WINDOW, dtype=planes.dtype, device=planes.device) - WINDOW // 2
    window = (-places.square() / (2 * DEVIATION**2)).softmax(0)
    rows = functional.conv2d(planes[:, None], window.view(1, 1, -1, 1))
    return functional.conv2d(rows, window.view(1, 1, 1, -1))[:, 0]


def _whole(weight: Tensor) -> Tensor:
    """The sum of the weights. Raises ValueError where they are all 0."""
    whole = weight.sum()
    if not bool(whole > 0):
        raise ValueError("expected a mask that leaves something alone, found one that covers the whole picture")
    return whole
