"""Image classifiers in the format of the hub."""

from .reward import ImageClassifier

__all__ = ["ImageClassifier"]
