"""Regularisers: what can be added to any objective's loss, one file each."""

from .port import Regulariser
from .velocity_kl import VelocityKL

__all__ = ["Regulariser", "VelocityKL"]
