"""Features of an image's patches: what a map of its structure is made of."""

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..rewards.embedders.dino import DinoTower, DinoV2
from ..rewards.networks.places import Placement, Precision, Resident
from ..support.setting import require_finite


class PatchFeatures(Protocol):
    """Images ``[G, H, W, 3]`` in 0..1 to features of their patches ``[G, h, w, F]``; a frozen dataclass of settings."""

    def check(self) -> None:
        """Raise ``ValueError`` where what it reads is not there."""
        return

    @abstractmethod
    def patches(self, images: Tensor) -> Tensor:
        """Features ``[G, h, w, F]``, float32 on the images' device, of images ``[G, H, W, 3]`` in 0..1."""
        ...


@dataclass(frozen=True)
class PixelPatches(PatchFeatures):
    """Colour and detail of each patch, without a network: means, spreads and edges. Ours.

    Attributes:
        grid: patches along the shorter side, at most one a pixel.
    """

    label: ClassVar[str] = "colour and detail"

    grid: int = 16

    def __post_init__(self) -> None:
        require_finite(self)
        if self.grid < 1:
            raise ValueError(f"grid must be 1 or more patches, found {self.grid}")

    def patches(self, images: Tensor) -> Tensor:
        """Mean and standard deviation of each colour, and mean differences along both sides: ``[G, h, w, 8]``."""
        pixels = images.double().movedim(-1, 1)
        shorter = min(pixels.shape[-2:])
        height, width = (max(1, round(side * min(self.grid, shorter) / shorter)) for side in pixels.shape[-2:])
        along = F.pad(pixels.diff(dim=-1).abs().mean(1, keepdim=True), (0, 1))
        down = F.pad(pixels.diff(dim=-2).abs().mean(1, keepdim=True), (0, 0, 0, 1))
        means = F.adaptive_avg_pool2d(torch.cat([pixels, pixels.square(), along, down], 1), (height, width))
        colour, square, edges = means.split([3, 3, 2], 1)
        spread = (square - colour.square()).clamp(min=0).sqrt()
        return torch.cat([colour, spread, edges], 1).movedim(1, -1)


@dataclass(frozen=True)
class DinoPatches(PatchFeatures):
    """The patches as DINOv2 sees them: 16 of 14 pixels along the shorter side.

    Attributes:
        file: a folder of the hub (``dinov2-large``, as published), or its ``.safetensors`` or ``.bin`` alone.
        precision: of the network.
        place: where the network computes, and where it is in between.
        batch: images at a time.
    """

    label: ClassVar[str] = "DINOv2"

    file: str
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)

    def check(self) -> None:
        """Read the network. Raises ``ValueError`` where the file is missing or holds another."""
        self._tower.check()

    @torch.no_grad()
    def patches(self, images: Tensor) -> Tensor:
        """The patches' tokens after the last normalisation, float32, on the images' device."""
        return self._tower.patches(images).to(images.device)

    @cached_property
    def _tower(self) -> DinoTower:
        return DinoV2(self.file).opened(precision=self.precision, place=self.place, batch=self.batch)
