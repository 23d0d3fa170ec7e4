"""Objectives: one file each, all behind the port of ``mixgrpo_core.objectives.port``."""

from .grpo import GRPO
from .guard import GuardGRPO

__all__ = ["GRPO", "GuardGRPO"]
