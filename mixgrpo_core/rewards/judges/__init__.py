"""Vision-language models as rewards: what they are asked, how answers become numbers, and who answers."""

from .chat import Answer, Chat, Question
from .elsewhere import RewardElsewhere
from .endpoint import Endpoint
from .judge import JudgeReward
from .local import LocalChat
from .pairwise import Comparison, PairScores, PairwiseReward, Verdict
from .scoring import Adjectives, Levels, Mode, Rating, UnifiedReward2, UnifiedRewardScore, UnifiedRewardSemantic, YesNo

__all__ = [
    "Adjectives",
    "Answer",
    "Chat",
    "Comparison",
    "Endpoint",
    "JudgeReward",
    "Levels",
    "LocalChat",
    "Mode",
    "PairScores",
    "PairwiseReward",
    "Question",
    "Rating",
    "RewardElsewhere",
    "UnifiedReward2",
    "UnifiedRewardScore",
    "UnifiedRewardSemantic",
    "Verdict",
    "YesNo",
]
