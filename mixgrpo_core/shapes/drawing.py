"""Draw a caption: one flat, anti-aliased shape on a light background, 64 x 64 RGB.

Nothing in a drawing is learned. Radius, position, colour and background vary a little, so that a caption has many
drawings; all randomness comes from the generator that the caller passes.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .captions import Caption

SIDE = 64
SUPERSAMPLING = 4

PALETTE = {
    "red": (220, 50, 47),
    "green": (45, 160, 70),
    "blue": (50, 85, 210),
    "yellow": (235, 200, 40),
}
CROSS_ARM = 0.38  # half width of a cross's arm, as a share of its half extent

_RADIUS = {"small": (11.0, 12.5), "large": (15.0, 17.0)}
_OFFSET = {"small": 14.0, "large": 12.5}
_DIRECTION = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "middle": (0, 0)}
_POSITION_JITTER = 1.5
_COLOUR_JITTER = 12
_BACKGROUND = (228, 246)
_BACKGROUND_TINT = 4


def draw(caption: Caption, generator: np.random.Generator) -> np.ndarray:
    """One drawing of `caption`.

    Returns:
        uint8 array with shape (64, 64, 3).
    """
    level = generator.uniform(*_BACKGROUND)
    background = level + generator.uniform(-_BACKGROUND_TINT, _BACKGROUND_TINT, 3)
    colour = np.asarray(PALETTE[caption.colour]) + generator.uniform(-_COLOUR_JITTER, _COLOUR_JITTER, 3)
    radius = generator.uniform(*_RADIUS[caption.size])
    direction = np.asarray(_DIRECTION[caption.place])
    centre = SIDE / 2 + direction * _OFFSET[caption.size]
    centre = centre + generator.uniform(-_POSITION_JITTER, _POSITION_JITTER, 2)
    alpha = coverage(caption.shape, centre=(centre[0], centre[1]), radius=radius)[..., None]
    image = background * (1 - alpha) + colour * alpha
    made: NDArray[Any] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return made


def coverage(shape: str, *, centre: tuple[float, float], radius: float, side: int = SIDE) -> np.ndarray:
    """How much of every pixel `shape` covers.

    Args:
        shape: one of `captions.SHAPES`.
        centre: (x, y) in pixels.
        radius: half of the extent in pixels; a square is a little smaller, so that it does not look the largest.

    Returns:
        float array with shape (side, side), values in 0..1.
    """
    fine = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING))
    points = _outline(shape) * radius + np.asarray(centre)
    corners = [(x, y) for x, y in (points * SUPERSAMPLING - 0.5).tolist()]
    ImageDraw.Draw(fine).polygon(corners, fill=255)
    blocks = np.asarray(fine, dtype=np.float64).reshape(side, SUPERSAMPLING, side, SUPERSAMPLING)
    made: NDArray[Any] = blocks.mean(axis=(1, 3)) / 255
    return made


def _outline(shape: str) -> np.ndarray:
    """Corners (n, 2) of a shape around 0 with half extent 1 (square: .9); y points down."""
    if shape == "circle":
        angle = np.arange(72) * (2 * math.pi / 72)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if shape == "square":
        return 0.9 * np.asarray([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    if shape == "triangle":
        return np.asarray([(0, -1), (1, 0.9), (-1, 0.9)])
    a = CROSS_ARM
    quarter = np.asarray([(-a, -1), (a, -1), (a, -a)])
    turn = np.asarray([(0, 1), (-1, 0)])  # (x, y) @ turn = (-y, x): a quarter turn
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])
