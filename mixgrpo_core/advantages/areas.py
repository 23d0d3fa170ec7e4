"""Areas of a picture as maps ``[H, W]`` in 0..1: what credit per place is made of."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..support.facts import RunFacts
from .port import ScoredGroup


class Area(Protocol):
    """A part of the picture; a frozen dataclass of settings."""

    @abstractmethod
    def cover(self, group: ScoredGroup, height: int, width: int) -> Tensor:
        """``[H, W]``, float32: the share of each pixel that lies in the area, 0..1."""
        ...


@dataclass(frozen=True)
class PromptMask(Area):
    """The mask that comes with the prompt, white where an edit may change the picture."""

    label: ClassVar[str] = "the prompt's mask"

    def cover(self, group: ScoredGroup, height: int, width: int) -> Tensor:
        """The mask, by area means where it has another size. Raises ``ValueError`` where the prompt has none."""
        mask = group.context.mask
        if mask is None:
            raise ValueError(
                f"PromptMask() needs a mask with every prompt, found none with {group.prompt!r}: give one, or an area "
                "such as Inside(left=0.25, top=0.25, right=0.75, bottom=0.75)"
            )
        return F.adaptive_avg_pool2d(mask.float()[None], (height, width))[0]


@dataclass(frozen=True)
class Inside(Area):
    """A rectangle; its sides are shares of the picture's width and height, from the upper left corner."""

    label: ClassVar[str] = "a rectangle"

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise ValueError(f"expected 0 <= left < right <= 1 and 0 <= top < bottom <= 1, found {self}")

    def cover(self, group: ScoredGroup, height: int, width: int) -> Tensor:
        """The rectangle; pixels on its edge count by their share."""
        down = _covered(self.top * height, self.bottom * height, height)
        along = _covered(self.left * width, self.right * width, width)
        return down[:, None] * along


@dataclass(frozen=True)
class Border(Area):
    """The frame of the picture.

    Attributes:
        width: of the frame, a share of the picture's shorter side, 0 < width < 0.5.
    """

    label: ClassVar[str] = "the border"

    width: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.width < 0.5:
            raise ValueError(f"width must be above 0 and below 0.5 of the shorter side, found {self.width}")

    def cover(self, group: ScoredGroup, height: int, width: int) -> Tensor:
        """1 on the frame; pixels on its inner edge count by their share."""
        frame = self.width * min(height, width)
        down, along = _covered(frame, height - frame, height), _covered(frame, width - frame, width)
        return 1 - down[:, None] * along


def _covered(start: float, stop: float, count: int) -> Tensor:
    """The share of each of ``count`` unit cells that lies between ``start`` and ``stop``."""
    cells = torch.arange(count, dtype=torch.float32)
    return ((cells + 1).clamp(max=stop) - cells.clamp(min=start)).clamp(0, 1)


def require_masks(areas: Iterable[Area], facts: RunFacts) -> None:
    """Raise ``ValueError`` where one of the areas is the prompts' mask and a prompt has none."""
    without = [prompt for prompt, masked in facts.masks.items() if not masked]
    if without and any(isinstance(area, PromptMask) for area in areas):
        raise ValueError(
            f"PromptMask() needs a mask with every prompt, found none with {len(without)} of {len(facts.masks)} "
            f"(such as {without[0]!r}): give them, or an area such as Inside(left=0.25, right=0.75)"
        )
