"""Rewards as a run file and flags spell them: the calls that make them, ``PixelReward(Brightness(), Near(0.4))``."""

from collections.abc import Mapping
from types import MappingProxyType

from ..reward import Reward
from ..rewards import PixelReward, palette, pixels
from ..rewards.networks import Offloaded, Released, Resident
from ..rewards.shapes import ShapeAdherence, ShapeCleanliness, ShapeReward
from ..spelling import parse

REWARDS: tuple[type, ...] = (*(ShapeReward, ShapeAdherence, ShapeCleanliness), PixelReward)
PARTS: tuple[type, ...] = (
    *(pixels.Brightness, pixels.Contrast, pixels.Saturation, pixels.Colourfulness, pixels.Sharpness),
    *(pixels.Symmetry, pixels.Tileability, pixels.JpegSize, palette.Palette, palette.ColourShare),
    *(pixels.More, pixels.Less, pixels.Near),
    *(Resident, Offloaded, Released),
)
"""What stands inside the calls of rewards."""
_CLASSES: Mapping[str, type] = MappingProxyType({cls.__name__: cls for cls in (*REWARDS, *PARTS)})


def made(calls: Mapping[str, str]) -> dict[str, Reward]:
    """The rewards of ``calls`` by name.

    Raises:
        ValueError: none, one that is misspelled, or one that makes no reward.
    """
    known = ", ".join(cls.__name__ for cls in REWARDS)
    if not calls:
        raise ValueError(f'expected at least one reward, such as [rewards] shape = "ShapeReward()"; known: {known}')
    rewards = {name: parse(call, _CLASSES) for name, call in calls.items()}
    for name, reward in rewards.items():
        if not isinstance(reward, REWARDS):
            raise ValueError(f"expected a reward for {name}, found {calls[name]!r}; rewards are {known}")
    return rewards
