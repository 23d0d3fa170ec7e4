"""Images as vectors whose distances say how different they are."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from .setting import require_finite


class Embedding(Protocol):
    """Images ``[n, H, W, 3]`` in 0..1 to vectors ``[n, D]`` whose distances say how different they are."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Vectors ``[n, D]``, on the images' device, of images ``[n, H, W, 3]`` in 0..1."""
        ...


@dataclass(frozen=True)
class SmallPixels:
    """The pixels of the image shrunk to ``side`` x ``side``: layout and colour, no detail."""

    side: int = 8

    def __post_init__(self) -> None:
        require_finite(self)

    def __call__(self, images: Tensor) -> Tensor:
        pixels = images.float().movedim(-1, 1)
        return functional.interpolate(pixels, (self.side, self.side), mode="bilinear", antialias=True).flatten(1)
