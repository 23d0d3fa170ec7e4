"""Rewards: one file or folder per family, all behind the port of ``mixgrpo_core.reward``.

function, pixels, palette, shapes      no network                 image_reward, aesthetic, classifier
clip/, siglip                          prompt against image       similarity, edit, directional      a picture
judges/                                vision-language models     votes                              people
transforms, gates                      what wraps a reward        ocr                                words
"""

from .aesthetic import AestheticScore
from .classifier import ImageClassifier
from .clip import CLIPScore, HPSv2, PickScore
from .directional import DirectionalCLIP
from .edit import EditPreservation
from .function import FunctionReward
from .gates import Gated, Penalised
from .image_reward import ImageReward
from .judges import JudgeReward, PairwiseReward
from .ocr import TextAccuracy
from .pixels import PixelReward
from .shapes import ShapeAdherence, ShapeCleanliness, ShapeReward
from .siglip import SigLIPScore
from .similarity import ImageSimilarity
from .transforms import Transformed
from .votes import HumanVote

__all__ = [
    "AestheticScore",
    "CLIPScore",
    "DirectionalCLIP",
    "EditPreservation",
    "FunctionReward",
    "Gated",
    "HPSv2",
    "HumanVote",
    "ImageClassifier",
    "ImageReward",
    "ImageSimilarity",
    "JudgeReward",
    "PairwiseReward",
    "Penalised",
    "PickScore",
    "PixelReward",
    "ShapeAdherence",
    "ShapeCleanliness",
    "ShapeReward",
    "SigLIPScore",
    "TextAccuracy",
    "Transformed",
]
