"""Reference pictures as a pipeline's call is handed them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from PIL import Image
from torch import Tensor

from ...support.pixels import LEAST, shrunk, to_image
from .family import Family

PICTURE = "image"
"""The argument of a pipeline's call."""


@dataclass(frozen=True, eq=False)
class Reference:
    """One picture."""

    image: Image.Image

    @cached_property
    def key(self) -> str:
        """What tells it from others."""
        return blake2b(self.image.tobytes() + repr(self.image.size).encode(), digest_size=12).hexdigest()


class References:
    """The pictures of prompts, for a family that conditions on them or does not.

    Attributes:
        last: the one that was asked for last; None before.
    """

    def __init__(self, family: Family) -> None:
        self._family = family
        self._pictures: Mapping[str, Tensor] = {}
        self.last = self.blank

    def take(self, pictures: Mapping[str, Tensor]) -> None:
        """Those of prompts to come, ``[H, W, 3]`` in 0..1."""
        self._pictures = pictures

    @cached_property
    def blank(self) -> Reference | None:
        """One where the picture does not matter; None where there need be none."""
        return Reference(Image.new("RGB", (LEAST, LEAST), (128,) * 3)) if self._family.needs_picture else None

    def of(self, prompt: str, area: int) -> Reference | None:
        """That of a prompt. Where the family leaves pictures their size, it has at most ``area`` pixels: what a picture
        adds to the network's work is in proportion.

        Raises:
            ValueError: the family cannot do without, and there is none.
        """
        if not self._family.reads_pictures:
            return None
        found = self._pictures.get(prompt)
        if found is None and self._family.needs_picture:
            raise ValueError(
                f"{self._family.name} edits pictures, and the prompt {str(prompt)[:40]!r} has none: give it one, as "
                '{"prompt": "...", "image": "..."} in a .jsonl file'
            )
        if found is not None:
            image = to_image(found)
            self.last = Reference(image if self._family.own_area else shrunk(image, area))
        else:
            self.last = None
        return self.last
