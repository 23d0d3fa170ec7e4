"""ImageReward: what people preferred, told by a BLIP that reads the prompt while it looks at the image."""

from .reward import IMAGE_REWARD, ImageReward
from .tokens import VOCABULARY

__all__ = ["IMAGE_REWARD", "VOCABULARY", "ImageReward"]
