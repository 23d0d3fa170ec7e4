"""Rewards: one folder per family, all behind the port; the names below are those that a run can be given.

function, pixels/, shapes              no network                 image_reward/, embedders/, classifier/
clip/, siglip/                         prompt against image       edits/                                 a picture
judges/                                vision-language models     people/                                votes
wrappers/                              what wraps a reward        ocr/                                   words
networks/                              what families with a network share
"""

from .classifier.reward import ImageClassifier
from .clip import CLIPScore, HPSv2, PickScore
from .edits.direction import DirectionalCLIP
from .edits.preservation import EditPreservation
from .embedders.aesthetic import AestheticScore
from .embedders.similarity import ImageSimilarity
from .function import FunctionReward
from .image_reward import ImageReward
from .judges import JudgeReward, PairwiseReward
from .ocr.accuracy import TextAccuracy
from .people.votes import HumanVote
from .pixels.measures import PixelReward
from .port import Context, DifferentiableReward, Reward, RewardBatch, Scores, StatelessReward
from .shapes import ShapeAdherence, ShapeCleanliness, ShapeReward
from .siglip.scores import SigLIPScore
from .wrappers.gates import Gated, Penalised
from .wrappers.transforms import Transformed

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
    "Scores",
    "ShapeAdherence",
    "ShapeCleanliness",
    "ShapeReward",
    "SigLIPScore",
    "StatelessReward",
    "TextAccuracy",
    "Transformed",
]
