"""Rewards as a run file and flags spell them: the calls that make them.

PixelReward(Brightness(), Near(0.4))
JudgeReward(Endpoint('qwen'), YesNo())
Gated(PickScore('PickScore_v1.safetensors'), by=PixelReward(Contrast()), least=0.1)
"""

from collections.abc import Mapping

from ..rewards.networks import Offloaded, Released, Resident
from ..rewards.port import Reward
from ..settings.kinds import REWARDS, lacking
from ..settings.parts import all_parts, require_parts
from ..support.spelling import parse
from .devices import usable_device


def made(calls: Mapping[str, str]) -> dict[str, Reward]:
    """The rewards of ``calls`` by name.

    Raises:
        ValueError: none, one that is misspelled, one that makes no reward, or has parts that do not fit.
    """
    known = ", ".join(cls.__name__ for cls in REWARDS.of(Reward))
    if not calls:
        raise ValueError(f'expected at least one reward, such as [rewards] shape = "ShapeReward()"; known: {known}')
    classes = REWARDS.by_name()
    rewards = {name: parse(call, classes) for name, call in calls.items()}
    for name, reward in rewards.items():
        if lacking(type(reward), Reward):
            raise ValueError(f"expected a reward for {name}, found {calls[name]!r}; rewards are {known}")
        require_parts(reward, REWARDS)
        _require_devices(reward)
    return rewards


def _require_devices(reward: Reward) -> None:
    """Raise ``ValueError`` when a network's place is a device that is not there."""
    for part in all_parts(reward):
        if isinstance(part, Resident | Offloaded | Released) and part.where != "auto":
            usable_device(part.where, f"the device of {type(part).__name__}")
