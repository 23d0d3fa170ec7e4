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
        images: of one prompt.
        leaves: how many images one start becomes by the branching of the same plans, ascending.
        shared_noise: whether the images of a prompt start from the same noise.
        candidates: kappa, std and h (`StepNumbers`) of every step that the planner may ever train.
        planner: its name.
        groupwise: names of the trained rewards that compare the images of a group.
    """

    latent_shape: tuple[int, ...]
    trained_steps: tuple[int, ...]
    rewards: tuple[str, ...]
    masks: Mapping[str, bool]
    images: int
    leaves: tuple[int, ...]
    shared_noise: bool
    candidates: tuple[tuple[float, float, float], ...] = ()
    planner: str = "the planner"
    groupwise: tuple[str, ...] = ()

    def require_rewards(self, count: int, name: str, instead: str) -> None:
        """Raise ``ValueError`` where fewer than ``count`` rewards are trained: ``name`` then has nothing to mix."""
        if len(self.rewards) < count:
            raise ValueError(
                f"{name} weighs {count} or more rewards against each other, and this run trains {len(self.rewards)}: "
                f"add one, or take {instead} in its place"
            )
