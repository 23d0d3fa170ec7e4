"""A person's taste, learnt: what it sees, what was said, the head, how much it knows, when it asks."""

from .latents import Latents
from .looks import ColoursAndEdges, SiglipImages
from .reward import TasteReward

__all__ = ["ColoursAndEdges", "Latents", "SiglipImages", "TasteReward"]
