"""Rewards that measure pixels, without a network."""

from .measures import (
    Brightness,
    Colourfulness,
    Contrast,
    Goal,
    JpegSize,
    Less,
    Measure,
    More,
    Near,
    PixelReward,
    Saturation,
    Sharpness,
    Symmetry,
    Tileability,
)
from .palette import ColourShare, Palette

__all__ = [
    "Brightness",
    "ColourShare",
    "Colourfulness",
    "Contrast",
    "Goal",
    "JpegSize",
    "Less",
    "Measure",
    "More",
    "Near",
    "Palette",
    "PixelReward",
    "Saturation",
    "Sharpness",
    "Symmetry",
    "Tileability",
]
