"""Colours that an image should have, as measures for `PixelReward`, in Oklab (Ottosson 2020).

Equal distances look equally different there: black and white are 1 apart, 0.02 is just seen.

    PixelReward(Palette(("#0b3954", "#bfd7ea", "#ff6663")))      PixelReward(ColourShare("#ff6663"), Near(0.3))
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from ...support.setting import require_finite

_HEX = re.compile(r"#?([0-9a-fA-F]{6})")
_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
_TINY = 1e-6  # under the cube root, for its gradient at black


@dataclass(frozen=True)
class Palette:
    """How near an image's pixels are to the colours of a palette: ``exp(-mean distance / tolerance)``, 0 to 1.

    A pixel's distance is the one to its nearest colour, so an image of one of the colours alone is perfect, too.

    Attributes:
        colours: ``#rrggbb``, one or more.
        tolerance: mean distance at which 0.37 is left.
    """

    colours: tuple[str, ...]
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        require_finite(self)
        _require(self.colours, self.tolerance)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.exp(-_distances(images, self.colours).amin(-1).mean((1, 2)) / self.tolerance)


@dataclass(frozen=True)
class ColourShare:
    """Share of the pixels that have a colour, 0 to 1; pixels count in part around ``tolerance``.

    Attributes:
        colour: ``#rrggbb``.
        tolerance: distance up to which a pixel has the colour.
    """

    colour: str
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        require_finite(self)
        _require((self.colour,), self.tolerance)

    def __call__(self, images: Tensor) -> Tensor:
        distance = _distances(images, (self.colour,))[..., 0]
        return torch.sigmoid(10 * (1 - distance / self.tolerance)).mean((1, 2))


def oklab(images: Tensor) -> Tensor:
    """``[..., 3]`` sRGB in 0..1 to Oklab: lightness 0..1, green to red, blue to yellow (about -0.4..0.4)."""
    linear = torch.where(images <= 0.04045, images / 12.92, ((images.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    cones = linear @ linear.new_tensor(_TO_CONES).T
    return (cones + _TINY) ** (1 / 3) @ linear.new_tensor(_TO_OKLAB).T


def colour_of(text: str) -> tuple[float, float, float]:
    """``#rrggbb`` in 0..1. Raises ``ValueError`` for anything else."""
    found = _HEX.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found:
        raise ValueError(f"expected a colour such as #ff8800, found {text!r}")
    red, green, blue = (int(found[1][i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


def _require(colours: tuple[str, ...], tolerance: float) -> None:
    if isinstance(colours, str) or not colours:
        raise ValueError(f"expected one colour or more, such as #ff8800, found {colours or 'none'}")
    for colour in colours:
        colour_of(colour)
    if not tolerance > 0:
        raise ValueError(f"expected a tolerance above 0 (0.02 is just seen), found {tolerance}")


def _distances(images: Tensor, colours: tuple[str, ...]) -> Tensor:
    """``[G, H, W, colours]``, each the Oklab distance of a pixel to a colour."""
    wanted = oklab(images.new_tensor([colour_of(colour) for colour in colours]))
    difference = oklab(images)[..., None, :] - wanted
    return (difference.square().sum(-1) + _TINY**2).sqrt()
