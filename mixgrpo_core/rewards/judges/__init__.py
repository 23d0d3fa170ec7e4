"""Vision-language models as rewards: what they are asked, how answers become numbers, and who answers."""

from .chat import Answer, Chat, Question
from .endpoint import Endpoint
from .judge import JudgeReward
from .local import LocalChat
from .pairwise import PairScores, PairwiseReward, Verdict
from .scoring import Adjectives, Levels, Rating, UnifiedReward2, UnifiedRewardScore, UnifiedRewardSemantic, YesNo

__all__ = [
    "Adjectives",
    "Answer",
    "Chat",
    "Endpoint",
    "JudgeReward",
    "Levels",
    "LocalChat",
    "PairScores",
    "PairwiseReward",
    "Question",
    "Rating",
    "UnifiedReward2",
    "UnifiedRewardScore",
    "UnifiedRewardSemantic",
    "Verdict",
    "YesNo",
]
