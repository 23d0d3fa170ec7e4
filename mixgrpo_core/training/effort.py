"""What an iteration took of each rank."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..runs.reports import RankReport
from ..support.phases import PhaseClock, peak_memory
from ..support.ranks import WAITING


@dataclass(frozen=True, kw_only=True)
class Effort:
    """One rank's: seconds and rows through the network by phase, the most memory, bytes of trajectories."""

    seconds: Mapping[str, float]
    evaluations: Mapping[str, int]
    memory: int
    kept: int

    @classmethod
    def of(cls, clock: PhaseClock, device: torch.device, kept: int) -> "Effort":
        """By ``clock``, up to now."""
        return cls(
            seconds=dict(clock.seconds),
            evaluations=dict(clock.evaluations),
            memory=peak_memory(device, clock.most_held),
            kept=kept,
        )


def evaluations_of(efforts: list[Effort]) -> dict[str, int]:
    """Rows through the network by phase, of all ranks."""
    names = dict.fromkeys(name for one in efforts for name in one.evaluations)
    return {name: sum(one.evaluations.get(name, 0) for one in efforts) for name in names}


def by_rank(efforts: list[Effort]) -> list[RankReport]:
    """What a report says of each rank; nothing of one alone."""
    if len(efforts) == 1:
        return []
    return [
        RankReport(seconds=sum(one.seconds.values()), waited=one.seconds.get(WAITING, 0.0), peak_memory=one.memory)
        for one in efforts
    ]
