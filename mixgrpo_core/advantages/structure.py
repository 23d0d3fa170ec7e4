"""Credit by a map of what stands out in each image, after ViPO (arXiv 2511.18719)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..support.facts import RunFacts
from ..support.setting import require_finite
from .masks import MAP, at_places
from .patches import PatchFeatures, PixelPatches
from .port import Advantages, Credit, Looked, ScoredGroup, Width

COMPONENTS = 3
_REACH = 4
"""Cells to each side that the blur looks at, in standard deviations of 1."""


def structure_map(features: Tensor) -> Tensor:
    """What stands out among patches ``[h, w, F]``: ``[h, w]`` in 0..1, float64.

    The three principal components of the patches, each from 0 to 1, are weighted by their shares of the variance; the
    sum is blurred (standard deviation of one patch) and brought to 0..1 again. The sign of a component is arbitrary: it
    is turned so that the mean over the border is not above the mean of the inner patches. Patches that are all alike
    give 1.
    """
    height, width = features.shape[:2]
    flat = features.double().flatten(0, 1)
    centred = flat - flat.mean(0)
    left, size, _ = torch.linalg.svd(centred, full_matrices=False)
    if float(size[0]) <= 1e-7 * float(flat.abs().max()) * math.sqrt(len(flat)):
        return torch.ones(height, width, dtype=torch.float64)
    found = torch.zeros(height, width, dtype=torch.float64)
    for component, variance in zip(left.T[:COMPONENTS], size[:COMPONENTS].square() / size.square().sum(), strict=True):
        found += variance * _to_unit(_turned(component.view(height, width).cpu()))
    return _to_unit(_blurred(found.clamp(0, 1)))


def _turned(component: Tensor) -> Tensor:
    """With the sign that leaves the border not above the rest; a map that is all border: its largest value up."""
    border = torch.ones_like(component, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    if bool(border.all()):
        return component * component.flatten()[component.abs().argmax()].sign()
    return component if float(component[border].mean()) <= float(component[~border].mean()) else -component


def _to_unit(values: Tensor) -> Tensor:
    """``(x - min) / (max - min)``; 1 where all are alike."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if bool(high > low) else torch.ones_like(values)


def _blurred(values: Tensor) -> Tensor:
    """A Gaussian blur with standard deviation 1; the edge goes on as it is."""
    weights = torch.arange(-_REACH, _REACH + 1, dtype=values.dtype).square().mul(-0.5).exp()
    weights = weights / weights.sum()
    padded = F.pad(values[None, None], (_REACH,) * 4, mode="replicate")
    along = F.conv2d(padded, weights.view(1, 1, 1, -1))
    return F.conv2d(along, weights.view(1, 1, -1, 1))[0, 0]


@dataclass(frozen=True)
class StructureCredit(Credit):
    """The credit of an image goes to the places where it has structure: ``A(p) = A M(p)``, ``[G, W, *latent]``.

    ``M`` is `structure_map` of the image's own patches, brought to the latent's size and to 0..1. Where it is 0 the
    gradient is exactly 0. After ViPO (arXiv 2511.18719), as read in github.com/ziqi-nox/ViPO: its video code has a
    ratio per position, and so does the objective that this needs (`PositionalGRPO`); its image code broadcasts one
    ratio over the map, which is that loss times the map's mean: no credit for places.

    Differences: the features are a setting (``DinoPatches("dinov2-large")`` are the published ones; the default needs
    no network); components have a sign by rule, where the published inversion depends on the routine; advantages are
    clamped by the objective after the product, as published. Published: FLUX at 512 px, 8 steps, Dance kernel with 0.3,
    12 images, same start noise.

    Traps: what stands out is not what the reward looks at. The mean of a map is about 0.4, which shrinks the steps;
    ``even`` makes up for it. An image without structure has a map of 1.

    Attributes:
        features: of the patches: `PixelPatches` or `DinoPatches`.
        even: each map is divided by its mean, so that an image weighs as much as it would without it.
    """

    label: ClassVar[str] = "structure (after ViPO)"
    widens: ClassVar[Width | None] = "place"

    features: PatchFeatures = PixelPatches()
    even: bool = True

    def __post_init__(self) -> None:
        require_finite(self)
        if not callable(getattr(self.features, "patches", None)):
            raise ValueError(f"features must be those of patches, such as PixelPatches(), found {self.features!r}")

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` where the features' network is not there."""
        self.features.check()

    def look(self, group: ScoredGroup, images: Tensor) -> Looked:
        """The maps over latents, ``[G, ...]``."""
        size = images.shape[-3:-1]
        maps = torch.stack([structure_map(features) for features in self.features.patches(images)])
        large = F.interpolate(maps[:, None].float(), size, mode="bilinear", antialias=True)[:, 0]
        places = group.places(large.to(images.device))
        return {MAP: torch.stack([self._scaled(place) for place in places])}

    def _scaled(self, places: Tensor) -> Tensor:
        unit = _to_unit(places)
        mean = unit.mean()
        return unit / mean if self.even else unit

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """``[G, W, *latent]``: the values at the places of each image's map."""
        assert advantages is not None  # it is never the first stage
        places = looked[MAP]
        values = at_places(advantages.values, places.to(advantages.values.device), len(group.trajectory.transitions))
        covered = (places / places.flatten(1).amax(1).view(-1, *(1,) * (places.ndim - 1))).mean()
        return advantages.changed(values, structure_mean=covered)
