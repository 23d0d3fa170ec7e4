"""From scored groups to what is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..advantages.combine import credited, figures_of
from ..advantages.port import Advantages, Looked, ScoredGroup
from ..objectives.pieces import Group
from ..settings.config import TrainConfig


@dataclass(frozen=True)
class Rolled:
    """A scored group: what it would be trained on, its prompt's number, what stages of credit saw in its images."""

    cond: Any
    prompt: int
    group: ScoredGroup
    first: Advantages
    looked: Sequence[Looked]


def taught(rolled: Sequence[Rolled], config: TrainConfig) -> tuple[list[Group], dict[str, float]]:
    """Groups that teach something, with their final credit, of the members that count; and the credit's figures."""
    advantages = credited(
        config.credit,
        [one.group for one in rolled],
        [one.first for one in rolled],
        [one.looked for one in rolled],
    )
    groups = []
    for one, credit in zip(rolled, advantages, strict=True):
        if config.objective.teaches(credit.values) and bool(credit.counted.any()):
            device = one.group.trajectory.final.device
            group = Group(
                cond=one.cond,
                trajectory=one.group.trajectory,
                advantage=credit.values.to(device),
                prompt=one.group.prompt,
                place=one.group.place,
                parts=credit.parts,
                scores=one.group.scores,
            )
            groups.append(group.select(credit.counted.nonzero()[:, 0].to(device)))
    return groups, figures_of(advantages)
