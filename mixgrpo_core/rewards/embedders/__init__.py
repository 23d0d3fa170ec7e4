"""Image embeddings, and the rewards that are made of them alone."""

from .aesthetic import AestheticScore
from .dino import DinoV2
from .similarity import ClipImages, ImageEncoder, ImageSimilarity

__all__ = ["AestheticScore", "ClipImages", "DinoV2", "ImageEncoder", "ImageSimilarity"]
