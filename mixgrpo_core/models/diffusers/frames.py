"""Which frames of a video are looked at."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Some frames of a video, evenly over its length; one is that in the middle.

    Attributes:
        made: frames of a video.
        seen: how many of them are looked at.

    Raises:
        ValueError: more are to be seen than are made, or none.
    """

    made: int = 1
    seen: int = 1

    def __post_init__(self) -> None:
        if self.made < 1:
            raise ValueError(f"expected 1 frame or more, found {self.made}")
        if not 1 <= self.seen <= self.made:
            raise ValueError(f"expected 1 to {self.made} frames to be seen, as many as are made, found {self.seen}")

    def of(self, images: Tensor) -> Tensor:
        """Of videos ``[B, F, H, W, 3]`` those that are looked at; a single one is a picture ``[B, H, W, 3]``."""
        if images.ndim == 4:
            return images
        if self.seen == 1:
            return images[:, (self.made - 1) // 2]
        places = torch.linspace(0, self.made - 1, self.seen).round().long()
        return images[:, places.to(images.device)]


PICTURE = Frames()
"""A single frame."""
