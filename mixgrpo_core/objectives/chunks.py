"""Which members each optimizer step is taken on."""

from collections.abc import Sequence
from math import ceil

import torch

from .pieces import Elsewhere, Group


def split_into_chunks(
    groups: Sequence[Group | Elsewhere], updates: int, *, whole: bool = False
) -> list[list[Group | Elsewhere]]:
    """Groups dealt out to ``updates`` chunks: whole groups while there are enough, else interleaved members of each.

    Whole groups keep the shared first step one evaluation per group; nothing is dropped. With ``whole`` groups are
    never taken apart: there are at most as many chunks as groups.
    """
    parts_per_group = ceil(updates / len(groups)) if groups and not whole else 1
    if parts_per_group == 1:
        return [list(groups[i::updates]) for i in range(min(updates, len(groups)))]
    parts = [
        group.select(torch.arange(start, group.count, parts_per_group))
        for start in range(parts_per_group)
        for group in groups
        if start < group.count
    ]
    return [chunk for chunk in (parts[i::updates] for i in range(updates)) if chunk]
