"""The list of the presets, published algorithms and our own, and what several of them share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ...advantages import CentredRewards, Credit, SuperLinear
from ...objectives.port import GROUP
from ..config import TrainConfig

Preset = Callable[[], TrainConfig]
Likeness = Literal["as published", "after", "inspired by", "our own"]
"""As read in the authors' code; its formula with a stated difference; our own stand-in for one that is not public; a
preset that stands in no publication."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A published method, or a preset of our own, as settings.

    Attributes:
        name: the publication's, or ours.
        preset: makes the settings; the function's name is the method's in run files.
        likeness: how near it is to the publication.
        source: the paper, the code that was read, or what tells of them.
        differs: what is otherwise than published, in sentences; empty where nothing is.
        rewards: names of rewards that it can be tried with: the names that it routes, or any.
        masks: whether every prompt comes with a mask.
    """

    name: str
    preset: Preset
    likeness: Likeness
    source: str
    differs: str = ""
    rewards: tuple[str, ...] = ("any",)
    masks: bool = False

    @property
    def label(self) -> str:
        """The name with its likeness to a publication: ``MixGRPO``, ``after E-GRPO``, ``inspired by PEC``."""
        return self.name if self.likeness in ("as published", "our own") else f"{self.likeness} {self.name}"

    @property
    def config(self) -> TrainConfig:
        """The settings as published, or as we made them."""
        return self.preset()

    @property
    def needs(self) -> tuple[str, ...]:
        """What a run must bring for it, in words."""
        return tuple(_needs(self))


METHODS: dict[str, Method] = {}
"""The methods by the names of their presets."""
PRESETS: dict[str, Preset] = {}
"""The presets by the names of their functions."""

BATCH_STD: tuple[Credit, ...] = (CentredRewards(), SuperLinear(gamma=0.0))
"""Rewards less their group's mean, over the standard deviation of all those differences.

Where it is published, it is the deviation of the rewards themselves, which holds the differences between prompts, too.
"""


def published(
    name: str,
    *,
    source: str,
    likeness: Likeness = "as published",
    differs: str = "",
    rewards: tuple[str, ...] = ("any",),
    masks: bool = False,
) -> Callable[[Preset], Preset]:
    """Makes a function one of the presets; the words are those of `Method`."""

    def listed(preset: Preset) -> Preset:
        return _listed(
            Method(
                name=name,
                preset=preset,
                likeness=likeness,
                source=source,
                differs=differs,
                rewards=rewards,
                masks=masks,
            )
        )

    return listed


def our_own(name: str, *, source: str, differs: str) -> Callable[[Preset], Preset]:
    """Makes a function one of the presets that stand in no publication: ``source`` is what it is made of."""

    def listed(preset: Preset) -> Preset:
        told = f"our own, not published: {source}"
        return _listed(Method(name=name, preset=preset, likeness="our own", source=told, differs=differs))

    return listed


def _listed(method: Method) -> Preset:
    METHODS[method.preset.__name__] = method
    PRESETS[method.preset.__name__] = method.preset
    return method.preset


def _needs(method: Method) -> list[str]:
    config, found = method.config, []
    leaves = config.plan(0, 0, config.sigmas()).leaves_per_row
    if config.objective.plain_field:
        found.append("no guidance")
    if leaves > 1:
        found.append(f"images per prompt: a multiple of {leaves}")
    if GROUP in config.objective.needs:
        found.append("no more updates than prompts")
    if config.objective.finest_credit == "place":
        found.append("latents with places")
    if method.masks:
        found.append("a mask with every prompt")
    if len(method.rewards) > 1:
        named = method.rewards != ANY_TWO
        found.append(f"rewards named {' and '.join(method.rewards)}" if named else "two rewards or more")
    return found


ANY_TWO = ("one", "other")
"""Two rewards of any names."""
