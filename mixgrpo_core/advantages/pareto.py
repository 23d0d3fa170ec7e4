"""Training on the best and the worst of a group by several rewards at once, after POCA (arXiv 2604.24171)."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..support.facts import RunFacts
from .port import Advantages, Credit, Looked, ScoredGroup


def pareto_fronts(rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Which members no other dominates, and which dominate no other.

    One dominates another that is at least as good in all rewards and better in one; equal ones do not dominate each
    other.

    Args:
        rewards: ``[G, K]``, finite.

    Returns:
        bool ``[G]``: the front of the best, and that of the worst.
    """
    one, other = rewards[:, None], rewards[None]
    dominates = (one >= other).all(-1) & (one > other).any(-1)
    return ~dominates.any(0), ~dominates.any(1)


@dataclass(frozen=True)
class ParetoCredit(Credit):
    """Only the members on the two Pareto fronts of their group teach: the undominated, and those that dominate none.

    ``A_i G / |P|`` for i in ``P = P+ u P-``, else 0, ``[G]``: the mean over the group becomes one over P. A member that
    one of the rewards could not judge has no place on a front and is left out (``counted``); a reward that failed on
    the whole group is not asked.

    After POCA (arXiv 2604.24171), from a detailed note on the paper. Difference: which number the members on the
    fronts keep is not said there; here it is the stage's before (`WeightedAdvantages`).

    Traps: with one reward P is the best and the worst alone (and who equals them); with many rewards nearly all
    members are on a front, and it changes little. A member of P+ may have a negative advantage. The rewards' weights
    do not bear on the fronts. What is kept need not sum to 0.
    """

    label: ClassVar[str] = "Pareto fronts (after POCA)"

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` for a run of one reward."""
        facts.require_rewards(2, "ParetoCredit", "no stage")

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """The values on the fronts, scaled up; 0 elsewhere."""
        assert advantages is not None  # it is never the first stage
        judging = [score for score in group.scores.values() if bool(score.valid.any())]
        if not judging:
            return advantages
        counted = advantages.counted & torch.stack([score.valid for score in judging]).all(0)
        rewards = torch.stack([score.values for score in judging], 1)[counted]
        best, worst = pareto_fronts(rewards)
        kept = torch.zeros_like(counted)
        kept[counted] = best | worst
        factor = len(rewards) / max(1, int(kept.sum()))
        values = torch.where(kept, advantages.values * factor, torch.zeros_like(advantages.values))
        share = kept.sum() / max(1, len(rewards))
        return replace(advantages, counted=counted).changed(values, front_share=share)
