"""What wraps a reward: transforms of its scores, gates and penalties."""

from .gates import Gated, Penalised
from .transforms import Affine, Clip, Rank, RunningZ, Sigmoid, Transform, Transformed

__all__ = ["Affine", "Clip", "Gated", "Penalised", "Rank", "RunningZ", "Sigmoid", "Transform", "Transformed"]
