"""People as a reward: ballots on disk, and what votes are worth."""

from .votes import HumanVote
from .voting import Ranking, Thumbs, VoteScheme

__all__ = ["HumanVote", "Ranking", "Thumbs", "VoteScheme"]
