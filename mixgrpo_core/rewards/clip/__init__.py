"""CLIP: files of every layout, its two towers, and the rewards that compare a picture with its prompt."""

from .files import CLIP_SCORE_FILES, HPS_FILES, PICKSCORE_FILES
from .scores import CLIPScore, HPSv2, PickScore
from .towers import ImageTower, TextTower

__all__ = [
    "CLIP_SCORE_FILES",
    "HPS_FILES",
    "PICKSCORE_FILES",
    "CLIPScore",
    "HPSv2",
    "ImageTower",
    "PickScore",
    "TextTower",
]
