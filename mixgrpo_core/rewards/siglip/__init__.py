"""SigLIP: how well an image fits its prompt."""

from .scores import SigLIPScore

__all__ = ["SigLIPScore"]
