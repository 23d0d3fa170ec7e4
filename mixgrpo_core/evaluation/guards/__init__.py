"""Guards against reward hacking and collapse: they look at evaluations and iterations, warn, and stop a run."""

from .collapse import Collapse
from .diversity import DiversityLoss, Embedding, SmallPixels
from .drift import PixelDrift
from .held_out import HeldOutFall
from .port import Alarm, EvaluationView, Guard, IterationView

__all__ = [
    "Alarm",
    "Collapse",
    "DiversityLoss",
    "Embedding",
    "EvaluationView",
    "Guard",
    "HeldOutFall",
    "IterationView",
    "PixelDrift",
    "SmallPixels",
]
