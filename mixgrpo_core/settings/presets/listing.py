"""The list of the published algorithms, and what several of them share."""

from collections.abc import Callable

from ...advantages import CentredRewards, Credit, SuperLinear
from ..config import TrainConfig

Preset = Callable[[], TrainConfig]
PRESETS: dict[str, Preset] = {}
"""The presets by the names of their functions."""
LABELS: dict[str, Preset] = {}
"""The same by the words of the canvas."""

BATCH_STD: tuple[Credit, ...] = (CentredRewards(), SuperLinear(gamma=0.0))
"""Rewards less their group's mean, over the standard deviation of all those differences.

Where it is published, it is the deviation of the rewards themselves, which holds the differences between prompts, too.
"""


def published(label: str) -> Callable[[Preset], Preset]:
    """Makes a function one of the presets."""

    def listed(preset: Preset) -> Preset:
        PRESETS[preset.__name__] = LABELS[label] = preset
        return preset

    return listed
