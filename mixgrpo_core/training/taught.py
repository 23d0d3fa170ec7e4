"""From scored groups to what is trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..advantages.combine import credited, figures_of
from ..advantages.port import Advantages, Looked, ScoredGroup
from ..objectives.pieces import Elsewhere, Group
from ..rewards.port import Scores
from ..rewards.scoring import Failure
from ..settings.config import TrainConfig
from ..support.queued import sent
from ..support.ranks import Ranks


@dataclass(frozen=True)
class Rolled:
    """A scored group: what it would be trained on, what stages of credit saw in its images, what rewards failed on."""

    cond: Any
    group: ScoredGroup
    first: Advantages
    looked: Sequence[Looked]
    failures: Sequence[Failure]


class RewardsFailed(RuntimeError):
    """No image of an iteration got a valid score: there is nothing to train on."""


def told(rolled: Sequence[Rolled], iteration: int, ranks: Ranks) -> tuple[list[Mapping[str, Scores]], list[Failure]]:
    """The scores of the groups of all ranks, and what rewards failed on.

    Raises ``RewardsFailed`` where nothing was scored.
    """
    found = ranks.joined([(one.group.scores, one.failures) for one in rolled])
    failures = [failure for _, failed in found for failure in failed]
    if not any(one.abstained or bool(one.valid.any()) for scores, _ in found for one in scores.values()):
        raise RewardsFailed(
            f"expected scores for iteration {iteration}, but no image got a valid one ({failures[-1]}). The run is "
            "kept as it was before this iteration: mend the reward and resume"
        )
    return [scores for scores, _ in found], failures


def taught(
    rolled: Sequence[Rolled], config: TrainConfig, ranks: Ranks
) -> tuple[list[Group | Elsewhere], dict[str, float]]:
    """Groups that teach something, with their final credit, of the members that count; and the credit's figures.

    ``rolled`` are this rank's; the groups are those of all.
    """
    advantages = credited(
        config.credit,
        [one.group for one in rolled],
        [one.first for one in rolled],
        [one.looked for one in rolled],
        ranks,
    )
    own: dict[int, Group] = {}
    for one, credit in zip(rolled, advantages, strict=True):
        if config.objective.teaches(credit.values) and bool(credit.counted.any()):
            group = Group(
                cond=one.cond,
                trajectory=one.group.trajectory,
                advantage=sent(credit.values, one.group.trajectory.final.device),
                prompt=one.group.prompt,
                place=one.group.place,
                parts=credit.parts,
                scores=one.group.scores,
            )
            own[group.place] = group.select(credit.counted.nonzero()[:, 0].cpu())
    sizes = [own[one.group.place].count if one.group.place in own else 0 for one in rolled]
    told = ranks.joined([(size, credit.figures) for size, credit in zip(sizes, advantages, strict=True)])
    groups = [own.get(place) or Elsewhere(size) for place, (size, _) in enumerate(told) if size]
    return groups, figures_of([figures for _, figures in told])
