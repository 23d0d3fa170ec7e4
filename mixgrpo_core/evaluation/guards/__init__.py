"""Guards against reward hacking: they look at held-out evaluations, warn, and stop a run where told to."""

from .diversity import DiversityLoss, Embedding, SmallPixels
from .drift import PixelDrift
from .held_out import HeldOutFall
from .port import Alarm, Guard, Seen

__all__ = ["Alarm", "DiversityLoss", "Embedding", "Guard", "HeldOutFall", "PixelDrift", "Seen", "SmallPixels"]
