"""Noise levels before anything is known of a model: even ones, and their shift towards the noise."""

import torch
from torch import Tensor


def even_levels(steps: int) -> Tensor:
    """``1, 1 - 1/T, ..., 0``: float64 ``[steps + 1]``."""
    return torch.arange(steps, -1, -1, dtype=torch.float64) / steps


def shifted(levels: Tensor, shift: float) -> Tensor:
    """``shift u / (1 + (shift - 1) u)``: the levels ``u`` in 0..1 moved towards 1 where ``shift`` is above 1."""
    return shift * levels / (1 + (shift - 1) * levels)
