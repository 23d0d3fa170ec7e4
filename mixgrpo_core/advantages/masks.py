"""Credit per place of the picture, by an area that is said beforehand."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..support.facts import RunFacts
from .areas import Area, Inside, require_masks
from .port import Advantages, Credit, Looked, ScoredGroup, Width

MAP = "map"
"""What is kept of the images: the map over latents."""


def at_places(values: Tensor, places: Tensor, steps: int) -> Tensor:
    """Advantages ``[G]``, ``[G, W]`` or ``[G, W, *latent]`` times a map over latents.

    Args:
        values: advantages, in one of these shapes.
        places: ``[1, *latent]`` or ``[G, *latent]``, or what broadcasts to it.
        steps: W, the trained steps.

    Returns:
        ``[G, W, *latent]`` with the map's sizes, in the dtype of ``values``.
    """
    by_step = values[:, None] if values.ndim == 1 else values
    by_place = by_step.reshape(by_step.shape + (1,) * (1 + places.ndim - by_step.ndim))
    found = by_place * places.to(values)[:, None]
    return found.expand(-1, steps, *found.shape[2:])


@dataclass(frozen=True)
class MaskCredit(Credit):
    """The credit of an image goes to the places of an area: ``A(p) = A m(p)``, ``[G, W, *latent]``.

    ``m(p) = inside c(p) + outside (1 - c(p))``, where ``c(p)`` is the share of the latent's cell that lies in the area:
    edges are as soft as the latent is coarse. Where ``m`` is 0 the gradient is exactly 0. The same map serves all
    images and steps of a group.

    The form is ViPO's (arXiv 2511.18719) with a map that is given and not found by a vision network. It needs an
    objective with a ratio per place (`PositionalGRPO`): with one ratio per image a map would only be a factor.

    Traps: it says where the policy may change, not what the reward looks at: a reward of the whole picture still
    judges all of it. A map of small mean makes small steps; ``even`` makes up for it. A latent's cell decides about a
    larger patch of pixels than its own.

    Attributes:
        area: `Inside`, `Border`, or `PromptMask` (the mask that comes with each prompt).
        inside: >= 0, weight of the area.
        outside: >= 0, weight of the rest; ``inside=0, outside=1`` is the area turned inside out.
        even: the map is divided by its mean, so that a group weighs as much as it would without it.
    """

    label: ClassVar[str] = "mask"
    widens: ClassVar[Width | None] = "place"

    area: Area = Inside()
    inside: float = 1.0
    outside: float = 0.0
    even: bool = False

    def __post_init__(self) -> None:
        if not callable(getattr(self.area, "cover", None)):
            raise ValueError(f"area must be an area such as Inside(left=0.25, right=0.75), found {self.area!r}")
        weights = (self.inside, self.outside)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(f"inside and outside must be 0 or more and not both 0, found {weights}")

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` where the area is the prompts' mask and a prompt has none."""
        require_masks([self.area], facts)

    def look(self, group: ScoredGroup, images: Tensor) -> Looked:
        """The map over latents, ``[1, ...]``; of the images only their size is asked."""
        height, width = images.shape[-3:-1]
        cover = group.places(self.area.cover(group, height, width)[None])
        places = self.inside * cover + self.outside * (1 - cover)
        mean = float(places.mean())
        return {MAP: places / mean if self.even and mean > 0 else places}

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """``[G, W, *latent]``: the values at the places of the map."""
        assert advantages is not None  # it is never the first stage
        steps, places = len(group.trajectory.transitions), looked[MAP]
        return advantages.changed(at_places(advantages.values, places, steps), map_mean=places.mean())
