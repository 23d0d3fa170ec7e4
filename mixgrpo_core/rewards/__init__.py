"""Rewards: one file per family, all behind the port of ``mixgrpo_core.reward``."""

from .function import FunctionReward
from .pixels import PixelReward
from .shapes import ShapeAdherence, ShapeCleanliness, ShapeReward

__all__ = ["FunctionReward", "PixelReward", "ShapeAdherence", "ShapeCleanliness", "ShapeReward"]
