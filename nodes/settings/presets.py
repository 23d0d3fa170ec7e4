"""Settings for one GPU: the published algorithms, fitted to a family of models and to the memory there is.

What differs from the publications, which trained on 24 to 32 GPUs: ``Family.prompts`` prompts an iteration instead of
32 to 96, no more updates an iteration than prompts, 300 iterations, and a window that stands still long enough to be
shown every step within them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ...mixgrpo_core import FlowSDE, FullPlanner, TrainConfig, WindowPlanner, mixgrpo_sd35
from ...mixgrpo_core.demo import demo_config
from ...mixgrpo_core.sampling.planners import Planner
from ...mixgrpo_core.sampling.solvers import Euler
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.settings.presets import METHODS
from .fitting import fitted_course, fitted_objective, fitted_tree, fitted_window, images_of, without_left_noise

_FEWEST_STEPS_FOR_FLASH = 10


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a family of models wants.

    Attributes:
        steps: denoising steps of a rollout.
        window: most trained steps of an iteration.
        pace: factor on the iterations for which a preset's window stands still.
        last: cap on the window's start.
        side: pixels of the images' sides where memory allows.
        cfg: classifier-free guidance scale; 1 is off.
        guidance: guidance that the model takes as an input.
        distilled: guidance is inside the model, CFG harms it.
        prompts: prompts of an iteration on one GPU.
        iterations, learning_rate: of a run.
        few_steps: distilled to make images in 4 to 8 steps.
        large: one trained image does not fit on an 80 GB card beside the weights without gradient checkpointing.
    """

    steps: int
    side: int
    window: int = 4
    pace: float = 1.0
    last: int | None = None
    cfg: float = 1.0
    guidance: float | None = None
    distilled: bool = False
    prompts: int = 2
    iterations: int = 300
    learning_rate: float = 3e-4
    few_steps: bool = False
    large: bool = False


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


SD35 = Family(steps=10, side=512, pace=2, cfg=4.5, prompts=4)
AUTO = "auto"
"""The choice of a family that is read from the MODEL."""
DEMO = Family(steps=25, side=64, pace=0.2, last=3, prompts=8, iterations=55, learning_rate=5e-4)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "SD3.5": SD35,
        "FLUX.1-dev": Family(steps=25, side=720, guidance=3.5, distilled=True),
        "FLUX.2": Family(steps=25, side=768, guidance=4.0, distilled=True, large=True),
        "Qwen-Image": Family(steps=20, side=768, cfg=4.0, large=True),
        "Z-Image": Family(steps=20, side=768, cfg=4.0),
        "Chroma": Family(steps=20, side=512, cfg=4.0),
        "distilled, 4-8 steps": Family(steps=6, side=768, window=2, pace=2, distilled=True, prompts=4, few_steps=True),
        "other flow model": Family(steps=20, side=512, cfg=3.5),
        "demo": DEMO,
    }
)

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

PRESETS: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {"Demo": demo_config, **{of.label: of.preset for name, of in METHODS.items() if name not in _ELSEWHERE}}
)


def memory_of(family: Family, label: str) -> Memory:
    """What fits; the demo model fits everywhere."""
    if family is DEMO:
        return _DEMO_MEMORY
    return replace(MEMORY[label], checkpointing=True) if family.large else MEMORY[label]


def local_config(preset: str, family: Family, memory: Memory) -> TrainConfig:
    """A published algorithm for one GPU. Raises ``ValueError`` when the demo's settings meet another model."""
    config = replace(PRESETS[preset](), reward_weights={})  # weights travel with the rewards
    if preset == "Demo":
        if family is not DEMO:
            raise ValueError(
                "the preset Demo belongs to the demo model: choose another preset for your model, or the model family "
                "demo for the demo model"
            )
        return config
    if family is SD35 and preset.startswith("MixGRPO"):  # published for this model with a KL and an average
        config = replace(mixgrpo_sd35(), planner=config.planner, tail_solver=config.tail_solver)
    flash = family.steps >= _FEWEST_STEPS_FOR_FLASH
    noisy = isinstance(config.kernel, FlowSDE) and family.few_steps
    images = min(config.images_per_prompt, memory.images or config.images_per_prompt)
    planner = fitted_window(config.planner, family.window, family.pace, family.last, flash)
    planner = fitted_tree(planner, family.steps, images)
    planner, source = fitted_course(planner, config.prompt_source, family.iterations / config.iterations)
    return replace(
        config,
        iterations=family.iterations,
        steps=family.steps,
        images_per_prompt=images_of(planner, family.steps, images),
        prompts_per_iteration=family.prompts,
        planner=planner,
        prompt_source=source,
        tail_solver=config.tail_solver if flash else Euler(),
        kernel=without_left_noise(config.kernel, planner, family.steps) if noisy else config.kernel,
        objective=fitted_objective(config.objective, family.steps - 1),
        learning_rate=family.learning_rate,
        updates=min(config.update_count, family.prompts),
        rollout_batch=memory.rollout,
        decode_batch=memory.decode,
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
