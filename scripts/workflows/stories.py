"""The example workflows: one story a file."""

from .demo_stories import DEMO_LORA, compare, first_lora, learnt_taste, score_and_rank, window_sampling, your_taste
from .model_stories import MODEL_FILES, flux, sd35

STORIES = [first_lora(), your_taste(), sd35(), flux(), compare(), score_and_rank(), window_sampling(), learnt_taste()]

__all__ = [
    "DEMO_LORA",
    "MODEL_FILES",
    "STORIES",
    "compare",
    "first_lora",
    "flux",
    "learnt_taste",
    "score_and_rank",
    "sd35",
    "window_sampling",
    "your_taste",
]
