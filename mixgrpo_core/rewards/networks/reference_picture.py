"""Pictures that a reward compares with: a file that a configuration can name, or pixels that a host has at hand."""

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ...support.paths import user_path
from ...support.pixels import rgb_of


class PictureSource(Protocol):
    """A picture, wherever it comes from. Its text (``repr``) tells it from others."""

    @property
    @abstractmethod
    def image(self) -> Tensor:
        """``[H, W, 3]`` in 0..1."""
        ...


@dataclass(frozen=True)
class Picture:
    """A picture file, turned as its camera says, without its transparency.

    Attributes:
        path: of any format that Pillow reads, 16 bits and floats included (``rgb_of``).
    """

    path: str

    @cached_property
    def image(self) -> Tensor:
        """``[H, W, 3]`` in 0..1.

        Raises:
            ValueError: there is no such file, or it is no picture.
        """
        file = user_path(self.path)
        if not file.is_file():
            raise ValueError(f"expected a picture at {file}, found nothing: check the path")
        try:
            with Image.open(file) as opened:
                pixels = rgb_of(opened)
        except Exception as error:  # each format of Pillow has its own errors
            raise ValueError(f"{file} cannot be read as a picture ({error}): is it whole?") from error
        return torch.from_numpy(pixels)


class Pixels:
    """A picture that is there already; its text is a digest of its 8-bit pixels.

    Attributes:
        image: ``[H, W, 3]`` in 0..1, on the CPU.
    """

    def __init__(self, image: Tensor) -> None:
        """``image [H, W, 3]`` in 0..1, or a batch of one."""
        if image.ndim == 4 and len(image) == 1:
            image = image[0]
        if image.ndim != 3 or image.shape[-1] != 3 or not image.numel():
            raise ValueError(f"expected one picture [H, W, 3], found {list(image.shape)}")
        if not bool(image.isfinite().all()):
            raise ValueError("expected a picture, found NaN or infinity in it")
        self.image = image.detach().float().clamp(0, 1).cpu()
        in_bytes = (self.image * 255).round().to(torch.uint8).numpy()
        self._digest = hashlib.sha256(repr(in_bytes.shape).encode() + in_bytes.tobytes()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Pixels({self._digest})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pixels) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)


def chosen(given: PictureSource | None, of_the_batch: Tensor | None) -> Tensor:
    """The picture ``[H, W, 3]`` that a reward was given, or else the one that comes with a batch.

    Raises:
        ValueError: there is neither.
    """
    if given is not None:
        return given.image
    if of_the_batch is None:
        raise ValueError("expected a reference picture, found none: give the reward one")
    return of_the_batch
