"""Settings for one GPU: the presets, fitted to a family of models and to the memory there is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ...mixgrpo_core import FullPlanner, TrainConfig, WindowPlanner
from ...mixgrpo_core.demo import demo_config
from ...mixgrpo_core.models.facts import DEMO, Facts
from ...mixgrpo_core.sampling.planners import Planner
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.settings.fitted import fitted
from ...mixgrpo_core.settings.presets import METHODS


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What fits a GPU. ``None`` sets no limit.

    Attributes:
        side: most pixels of a side.
        images: most images per prompt.
        rank: of the LoRA.
        rollout, decode, update: images per call in sampling, in decoding, in training.
        checkpointing: compute the blocks' activations again in the backward pass.
    """

    side: int | None = None
    images: int | None = None
    rank: int = 32
    rollout: int = 1
    decode: int = 1
    update: int = 1
    checkpointing: bool = True


AUTO = "auto"
"""The choice of a family that is read from the MODEL."""

MEMORY: Mapping[str, Memory] = MappingProxyType(
    {
        "plenty": Memory(rollout=8, decode=8, update=2, checkpointing=False),
        "48 GB": Memory(rollout=8, decode=8, update=2),
        "24 GB": Memory(side=768, images=12, rollout=4, decode=4),
        "16 GB": Memory(side=512, images=12, rank=16, rollout=2, decode=2),
        "12 GB": Memory(side=512, images=8, rank=16),
        "8 GB": Memory(side=384, images=6, rank=8),
    }
)
_DEMO_MEMORY = Memory(rank=8, rollout=16, decode=16, update=16, checkpointing=False)

_ELSEWHERE = ("mixgrpo_sd35", *(name for name, of in METHODS.items() if of.config.objective.plain_field or of.masks))
"""MixGRPO is that of SD3.5 for its family; objectives of final images want no guidance and are in the details; prompts
have no masks here."""

_OFFERED = sorted(
    (of for name, of in METHODS.items() if name not in _ELSEWHERE), key=lambda of: of.likeness != "our own"
)
PRESETS: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {"Demo": demo_config, **{of.label: of.preset for of in _OFFERED}}
)
"""By label: those of our own before the published ones."""


def memory_of(family: Facts, label: str) -> Memory:
    """What fits; the demo model fits everywhere."""
    if family is DEMO:
        return _DEMO_MEMORY
    return replace(MEMORY[label], checkpointing=True) if family.large else MEMORY[label]


def local_config(preset: str, family: Facts, memory: Memory) -> TrainConfig:
    """A preset for one GPU. Raises ``ValueError`` when the demo's settings meet another model.

    Weights travel with the rewards. Rollouts are decoded as low as the rewards cannot tell.
    """
    config = replace(PRESETS[preset](), reward_weights={})
    if preset == "Demo":
        if family is not DEMO:
            raise ValueError(
                "the preset Demo belongs to the demo model: choose another preset for your model, or the model family "
                "demo for the demo model"
            )
        return config
    return replace(
        fitted(config, family, images=memory.images),
        rollout_batch=memory.rollout,
        decode_batch=memory.decode,
        decode_dtype="auto",
        update_batch=memory.update,
    )


def with_window(planner: Planner, window: Window) -> WindowPlanner:
    """The planner with another window; one that trained steps everywhere becomes one with a window.

    Raises:
        ValueError: the planner is of another kind, and a window in its place would make another method of it.
    """
    if isinstance(planner, WindowPlanner):
        return replace(planner, window=window)
    if isinstance(planner, FullPlanner):
        return WindowPlanner(window=window)
    raise ValueError(
        f"{type(planner).__name__} chooses the trained steps of this preset and has no window: take the window off, or "
        "choose a preset that has one, such as MixGRPO"
    )
