"""Prompt sources: which prompts an iteration rolls out, one file each."""

from .curriculum import PocaCurriculum, difficulty_classes, ecdf
from .port import PromptDraw, PromptSource
from .shuffled import Shuffled

__all__ = ["PocaCurriculum", "PromptDraw", "PromptSource", "Shuffled", "difficulty_classes", "ecdf"]
