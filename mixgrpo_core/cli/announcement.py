"""What a run is about to do, in a sentence."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..objectives.port import RatioObjective
from ..runs.folder import RunFolder
from .settings import RunConfig

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel


def announcement(settings: RunConfig, run: RunFolder, model: "PipelineModel") -> str:
    """Its folder, its iterations, and what each of them takes."""
    config = settings.train
    objective = config.objective
    clip = (
        objective.clip_range(math.prod(model.latent_shape), model.latent_shape[0])
        if isinstance(objective, RatioObjective)
        else None
    )
    many = "until it is stopped, iterations" if config.endless else f"{config.iterations} iterations"
    return (
        f"{Path(run.path)}: {many} of {config.prompts_per_iteration} prompts x "
        f"{config.images_per_prompt} images, {config.steps} steps, {type(config.planner).__name__}, "
        f"learning rate {config.learning_rate}" + (f", clip -{clip[0]:.3g}/+{clip[1]:.3g}" if clip else "")
    )
