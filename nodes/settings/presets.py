"""Settings for one GPU: the published algorithms, fitted to a family of models and to the memory there is.

What differs from the publications, which trained on 24 to 32 GPUs: ``Family.prompts`` prompts an iteration instead of
32 to 96, no more updates an iteration than prompts, 300 iterations, and a window that stands still long enough to be
shown every step within them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from types import MappingProxyType

from ...mixgrpo_core import FlowCPS, FlowSDE, SlidingWindow, TrainConfig, WindowPlanner, mixgrpo_sd35
from ...mixgrpo_core.demo import demo_config
from ...mixgrpo_core.objectives import GCPO, GuardGRPO
from ...mixgrpo_core.objectives.port import Objective
from ...mixgrpo_core.sampling.planners import Planner
from ...mixgrpo_core.sampling.solvers import Euler
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.settings.presets import (
    LABELS,
    dance_grpo,
    flow_dppo,
    flow_grpo,
    flow_grpo_fast,
    gcpo,
    mixgrpo,
    mixgrpo_flash,
    mixgrpo_flash_star,
    precise,
)
from ...mixgrpo_core.support.setting import changed

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

_FITTED = (mixgrpo, mixgrpo_flash, mixgrpo_flash_star, flow_grpo, flow_grpo_fast, dance_grpo, precise, flow_dppo, gcpo)
"""Those that fit a family. Objectives of final images want no guidance: they are in the details."""

PRESETS: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {"Demo": demo_config, **{label: preset for label, preset in LABELS.items() if preset in _FITTED}}
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
                "the preset Demo belongs to the demo model: choose the model family demo, or another preset for "
                "your model"
            )
        return config
    if family is SD35 and preset.startswith("MixGRPO"):  # published for this model with a KL and an average
        config = replace(mixgrpo_sd35(), planner=config.planner, tail_solver=config.tail_solver)
    flash = family.steps >= _FEWEST_STEPS_FOR_FLASH
    noisy = isinstance(config.kernel, FlowSDE) and family.few_steps
    return replace(
        config,
        iterations=family.iterations,
        steps=family.steps,
        images_per_prompt=min(config.images_per_prompt, memory.images or config.images_per_prompt),
        prompts_per_iteration=family.prompts,
        planner=_fitted(config.planner, family, flash),
        tail_solver=config.tail_solver if flash else Euler(),
        kernel=FlowCPS(eta=config.kernel.eta) if noisy else config.kernel,  # leaves no noise in few steps
        objective=_of_any_size(config.objective, family.steps - 1),
        learning_rate=family.learning_rate,
        updates=min(config.updates, family.prompts),
        rollout_batch=memory.rollout,
        decode_batch=memory.decode,
        update_batch=memory.update,
    )


def with_window(planner: Planner, window: Window) -> WindowPlanner:
    """The planner with another window; one that trained steps everywhere becomes one with a window."""
    return replace(planner, window=window) if isinstance(planner, WindowPlanner) else WindowPlanner(window=window)


def _of_any_size(objective: Objective, trained: int) -> Objective:
    """The objective where a published clip, which is of one latent size, or chunks of other steps would not fit."""
    if isinstance(objective, GCPO) and objective.chunks:
        ends = [round(end * trained / sum(objective.chunks)) for end in accumulate(objective.chunks)]
        chunks = tuple(end - start for start, end in pairwise([0, *ends]))
        return replace(objective, chunks=chunks if all(chunks) else None)
    return replace(objective, clip=None) if isinstance(objective, GuardGRPO) else objective


def _fitted(planner: Planner, family: Family, flash: bool) -> Planner:
    """The preset's window in a family's steps. With few steps there is no tail to shorten."""
    if not isinstance(planner, WindowPlanner):
        return planner
    window = changed(planner.window, {"size": min(planner.window.size, family.window)})
    if isinstance(window, SlidingWindow):
        window = replace(window, hold=max(1, round(window.hold * family.pace)), last=family.last)
    return replace(planner, window=window, tail_ratio=planner.tail_ratio if flash else 1.0)
