"""What is known of a run before it starts: what objectives, credit and prompt sources may refuse it for."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Facts that settings are held against before any work.

    Attributes:
        latent_shape: shape of one latent, without the batch dimension.
        trained_steps: how many steps the plans of the first and of the last iteration train, ascending.
        rewards: names of the trained rewards.
        masks: by prompt, whether a mask travels with it.
        candidates: kappa, std and h (`StepNumbers`) of every step that the planner may ever train.
    """

    latent_shape: tuple[int, ...]
    trained_steps: tuple[int, ...]
    rewards: tuple[str, ...]
    masks: Mapping[str, bool]
    candidates: tuple[tuple[float, float, float], ...] = ()
