"""Rewards: one folder per family, all behind the port; below are those that a run can be given, and in the ``__init__``
of each folder what stands inside their calls.

function, pixels/, shapes              no network                 image_reward/, embedders/, classifier/
clip/, siglip/                         prompt against image       edits/                                 a picture
judges/                                vision-language models     people/                                votes
wrappers/                              what wraps a reward        taste/                      what votes taught
networks/          what families with a network share             ocr/                                   words
"""

from .classifier import ImageClassifier
from .clip import CLIPScore, HPSv2, PickScore
from .edits import DirectionalCLIP, EditPreservation
from .embedders import AestheticScore, ImageSimilarity
from .function import FunctionReward
from .image_reward import ImageReward
from .judges import JudgeReward, PairwiseReward, RewardElsewhere
from .ocr import TextAccuracy
from .people import HumanVote
from .pixels import PixelReward
from .port import Context, DifferentiableReward, Reward, RewardBatch, Scores, StatelessReward
from .shapes import ShapeAdherence, ShapeCleanliness, ShapeReward
from .siglip import SigLIPScore
from .taste import TasteReward
from .wrappers import Gated, Penalised, Transformed

__all__ = [
    "AestheticScore",
    "CLIPScore",
    "Context",
    "DifferentiableReward",
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
    "Reward",
    "RewardBatch",
    "RewardElsewhere",
    "Scores",
    "ShapeAdherence",
    "ShapeCleanliness",
    "ShapeReward",
    "SigLIPScore",
    "StatelessReward",
    "TasteReward",
    "TextAccuracy",
    "Transformed",
]
