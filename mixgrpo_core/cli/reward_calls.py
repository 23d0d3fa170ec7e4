"""Rewards as a run file and flags spell them: the calls that make them.

PixelReward(Brightness(), Near(0.4))
JudgeReward(Endpoint('qwen'), YesNo())
Gated(PickScore('PickScore_v1.safetensors'), by=PixelReward(Contrast()), least=0.1)
"""

from collections.abc import Mapping
from types import MappingProxyType

from ..rewards import judges
from ..rewards.classifier.reward import ImageClassifier
from ..rewards.clip import CLIPScore, HPSv2, PickScore
from ..rewards.edits import direction as directional
from ..rewards.edits import preservation as edit
from ..rewards.embedders.aesthetic import AestheticScore
from ..rewards.embedders.dino import DinoV2
from ..rewards.embedders.similarity import ClipImages, ImageSimilarity
from ..rewards.image_reward import ImageReward
from ..rewards.networks.places import Offloaded, Released, Resident
from ..rewards.networks.reference_picture import Picture
from ..rewards.ocr.accuracy import TextAccuracy
from ..rewards.ocr.rapid_ocr import RapidOCRReader
from ..rewards.people import votes, voting
from ..rewards.pixels import measures as pixels
from ..rewards.pixels import palette
from ..rewards.port import Reward
from ..rewards.shapes import ShapeAdherence, ShapeCleanliness, ShapeReward
from ..rewards.siglip.scores import SigLIPScore
from ..rewards.wrappers import gates, transforms
from ..support.spelling import parse
from .reward_parts import require_parts

REWARDS: tuple[type, ...] = (
    *(ShapeReward, ShapeAdherence, ShapeCleanliness, pixels.PixelReward),
    *(HPSv2, PickScore, CLIPScore, SigLIPScore, ImageReward, AestheticScore, ImageSimilarity, ImageClassifier),
    *(edit.EditPreservation, directional.DirectionalCLIP, TextAccuracy),
    *(judges.JudgeReward, judges.PairwiseReward, votes.HumanVote),
    *(transforms.Transformed, gates.Gated, gates.Penalised),
)
PARTS: tuple[type, ...] = (
    *(pixels.Brightness, pixels.Contrast, pixels.Saturation, pixels.Colourfulness, pixels.Sharpness),
    *(pixels.Symmetry, pixels.Tileability, pixels.JpegSize, palette.Palette, palette.ColourShare),
    *(pixels.More, pixels.Less, pixels.Near),
    *(DinoV2, ClipImages, Picture, edit.PSNR, edit.SSIM, RapidOCRReader),
    *(judges.Endpoint, judges.LocalChat, judges.YesNo, judges.Levels, judges.Adjectives, judges.Rating),
    *(judges.UnifiedReward2, judges.UnifiedRewardScore, judges.UnifiedRewardSemantic),
    *(judges.Verdict, judges.PairScores, voting.Thumbs, voting.Ranking),
    *(transforms.Affine, transforms.Clip, transforms.Rank, transforms.RunningZ, transforms.Sigmoid),
    *(Resident, Offloaded, Released),
)
"""What stands inside the calls of rewards."""
_CLASSES: Mapping[str, type] = MappingProxyType({cls.__name__: cls for cls in (*REWARDS, *PARTS)})


def made(calls: Mapping[str, str]) -> dict[str, Reward]:
    """The rewards of ``calls`` by name.

    Raises:
        ValueError: none, one that is misspelled, one that makes no reward, or has parts that do not fit.
    """
    known = ", ".join(cls.__name__ for cls in REWARDS)
    if not calls:
        raise ValueError(f'expected at least one reward, such as [rewards] shape = "ShapeReward()"; known: {known}')
    rewards = {name: parse(call, _CLASSES) for name, call in calls.items()}
    for name, reward in rewards.items():
        if not isinstance(reward, REWARDS):
            raise ValueError(f"expected a reward for {name}, found {calls[name]!r}; rewards are {known}")
        require_parts(reward, (*REWARDS, *PARTS))
    return rewards
