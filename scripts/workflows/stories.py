"""The example workflows: one story a file."""

from .demo_stories import (
    DEMO_LORA,
    TASTE_LORA,
    VOTED_RUN,
    align_on_votes,
    compare,
    first_lora,
    learnt_taste,
    merge_loras,
    score_and_rank,
    window_sampling,
    your_taste,
)
from .model_stories import MODEL_FILES, flux, sd35

STORIES = [
    *(first_lora(), your_taste(), sd35(), flux(), compare(), score_and_rank(), window_sampling(), learnt_taste()),
    *(align_on_votes(), merge_loras()),
]
NAMED_FILES = (*MODEL_FILES, *(f"loras/{name}" for name in (DEMO_LORA, TASTE_LORA)))
"""All files that the stories name, those that others of them make among them."""

__all__ = [
    "DEMO_LORA",
    "MODEL_FILES",
    "NAMED_FILES",
    "STORIES",
    "TASTE_LORA",
    "VOTED_RUN",
    "align_on_votes",
    "compare",
    "first_lora",
    "flux",
    "learnt_taste",
    "merge_loras",
    "score_and_rank",
    "sd35",
    "window_sampling",
    "your_taste",
]
