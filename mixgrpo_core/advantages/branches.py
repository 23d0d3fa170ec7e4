"""Advantages among the images that branched from one latent, after TempFlow-GRPO (arXiv 2508.04324)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..rewards.port import Scores
from ..sampling.trajectory import Trajectory
from ..support.facts import RunFacts
from .combine import WeightedAdvantages
from .group import mix_advantages, normalised_parts
from .port import Advantages, Looked, ScoredGroup


def siblings(trajectory: Trajectory) -> Tensor:
    """``[G]``: which latent before the first trained step each member comes from; 0 where no step is trained."""
    if not trajectory.transitions:
        return torch.zeros(trajectory.group_size, dtype=torch.long)
    return trajectory.transitions[0].parents


@dataclass(frozen=True)
class BranchAdvantages(WeightedAdvantages):
    """Images are compared with those that branched from the same latent, and with no others of the prompt.

    Weighted advantages, normalised within the members of one latent before the first trained step: what another start
    noise did for an image is not credited to the step. With a shared start there is one such latent, and this is
    `WeightedAdvantages`.

    After TempFlow-GRPO (arXiv 2508.04324), its branch credit, from notes on the paper (its repository holds no code).
    It goes with `BranchStepPlanner`, ``shared_noise=False`` and groups of starts x children images (4 x 6 published).

    Traps: a latent whose children are equally good teaches nothing, however good they are; with 2 children advantages
    are +-0.71 whatever the difference is (a spread floor helps).
    """

    label: ClassVar[str] = "branch advantages (after TempFlow-GRPO)"

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` where every image comes from a latent of its own."""
        if not facts.shared_noise and facts.leaves[0] < 2:
            raise ValueError(
                "BranchAdvantages compares images of one latent, but every image starts from noise of its own and none "
                "branches: take a planner that branches, such as BranchStepPlanner(children=6), or shared_noise=true"
            )

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """The advantages within each latent's members."""
        own = siblings(group.trajectory)
        first = next(iter(group.scores.values()))
        dtype = torch.promote_types(first.values.dtype, torch.float32)
        values = torch.zeros(len(own), dtype=dtype)
        parts = {name: torch.zeros(len(own), dtype=dtype) for name in group.scores}
        flat = 0
        for latent in own.unique():
            here = own == latent
            scores = {name: Scores(score.values[here], score.valid[here]) for name, score in group.scores.items()}
            values[here] = mix_advantages(scores, group.weights, group.floors).to(dtype)
            for name, part in normalised_parts(scores, group.floors).items():
                parts[name][here] = part.to(dtype)
            flat += not bool(values[here].any())
        counted = torch.stack([score.valid for score in group.scores.values()]).any(0)
        return Advantages(values, counted, parts).changed(values, flat_branches=flat / len(own.unique()))
