"""When the noise between rollout and update is looked at: a batch of forwards that mostly finds none.

At the first iteration; where batches, trained steps, device or torch are others than they were; as long as it is not
far below what is allowed, of which the first ratio of every update tells as well; and in every tenth iteration, as the
LoRA grows.
"""

from collections.abc import Sequence

import torch

from ..objectives.figures import UpdateStats
from ..runs.checkpoint import ProbeNotes
from ..sampling.planners import StepPlan
from ..settings.config import TrainConfig

EVERY = 10
_SMALL = 0.1  # of what is allowed: below it the noise is not looked at in every iteration


def circumstances(config: TrainConfig, plans: Sequence[StepPlan], device: torch.device) -> str:
    """What the noise follows from, but for the weights."""
    steps = sorted({step for plan in plans for step in plan.trained})
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"batches {config.rollout_batch} and {config.update_batch}, steps {steps}, {name}, torch {torch.__version__}"


def due(notes: ProbeNotes | None, now: str, iteration: int) -> bool:
    """Whether it is time to look."""
    return notes is None or notes["circumstances"] != now or iteration - notes["iteration"] >= EVERY


def noted(notes: ProbeNotes | None, now: str, iteration: int, update: UpdateStats) -> ProbeNotes | None:
    """What is remembered after an update: nothing where the noise has to be looked at in the next iteration, too."""
    if update.noise_allowed is None:
        return notes
    seen = max(update.ratio_noise or 0.0, update.figures.get("ratio_first", 0.0))
    if seen > _SMALL * update.noise_allowed or update.recomputed:
        return None
    return notes if update.ratio_noise is None else ProbeNotes(iteration=iteration, circumstances=now)
