"""A bonus for images unlike their siblings, where a policy's entropy is a constant."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..support.embedding import Embedding, SmallPixels
from ..support.facts import RunFacts
from ..support.setting import require_finite
from .group import group_advantages
from .port import Advantages, Credit, Looked, ScoredGroup

LOOKS = "looks"
LEAST = 1e-3
"""Least distance that a logarithm is taken of, as a share of the group's mean distance: duplicates have none."""


def nearest_distances(features: Tensor) -> Tensor:
    """``[G]``: the distance of each of ``features [G, F]`` to the nearest other one, in float64."""
    wide = features.double()
    distances = (wide[:, None] - wide[None]).square().sum(-1).sqrt()
    return distances.fill_diagonal_(torch.inf).amin(1)


def novelty_bonus(features: Tensor, counted: Tensor) -> Tensor:
    """``log`` of the distance to the nearest other counted member, normalised over them: ``[G]``, 0 where not counted.

    Args:
        features: ``[G, F]``.
        counted: bool ``[G]``; the others are no part of the group.
    """
    bonus = torch.zeros(len(features), dtype=torch.float64)
    if int(counted.sum()) > 2:
        nearest = nearest_distances(features[counted])
        if bool((nearest > 0).any()):
            bonus[counted] = nearest.clamp(min=LEAST * float(nearest.mean())).log()
    return group_advantages(bonus, counted)


@dataclass(frozen=True)
class NoveltyBonus(Credit):
    """Images that are unlike the others of their group get a bonus: ``A + weight b``.

    ``b_i = log`` of the distance of image i's features to the nearest other image, normalised within the group (mean 0,
    spread 1), ``[G]``. Inspired by perceptual entropy constraints (PEC), whose estimator is not public: this is the
    nearest neighbour's part of a differential entropy. The policy's own entropy, ``(D / 2) log(2 pi e std^2)`` a step,
    is a constant of the kernel without a gradient, so it cannot be the constraint.

    Traps: it is a reward of its own and pulls away from the trained ones; a group of equal scores then teaches novelty
    alone. Scaling the features changes nothing. Duplicates would have ``log 0``: distances below 0.001 of the group's
    mean count as that. In a group of two both images are each other's nearest, and there is no bonus.

    Attributes:
        weight: above 0; 0.1 is ours.
        embed: what distances are taken of, as in the guard `DiversityLoss`.
    """

    label: ClassVar[str] = "novelty (inspired by PEC)"

    weight: float = 0.1
    embed: Embedding = SmallPixels()

    def __post_init__(self) -> None:
        require_finite(self)
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight must be a finite number above 0, found {self.weight}")

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` for groups of two, whose images are as far from each other."""
        if facts.images < 3:
            raise ValueError(
                "NoveltyBonus tells which image is least like the others, and of 2 images per prompt none is: set "
                "images_per_prompt to 3 or more, or take the stage out"
            )

    def look(self, group: ScoredGroup, images: Tensor) -> Looked:
        """The images' features."""
        return {LOOKS: self.embed(images).cpu()}

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """The values with the bonus."""
        assert advantages is not None  # it is never the first stage
        counted, values = advantages.counted.cpu(), advantages.values
        bonus = novelty_bonus(looked[LOOKS], counted).to(values)
        among = looked[LOOKS][counted]
        distance = nearest_distances(among).mean() if len(among) > 1 else 0.0
        return advantages.changed(values + self.weight * bonus, nearest_distance=distance)
