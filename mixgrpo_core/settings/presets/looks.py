"""Presets of our own making: what shows soonest whether a reward can be learned from."""

from dataclasses import replace

from ...objectives.own_step import AUTO
from ...sampling.planners import WindowPlanner
from ...sampling.windows import SlidingWindow
from ..config import TrainConfig
from .listing import our_own
from .sampled import mixgrpo_flash


@our_own(
    "Quick look",
    source="MixGRPO-Flash, made short",
    differs="10 steps; a window of 3 at the start, which moves by one after 8 and after 16 iterations. The rate sets "
    "itself, with up to 16 updates of 8 prompts. Held-out images have 25 steps. What later steps decide is not taught.",
)
def quick_look() -> TrainConfig:
    """A quick look at what a reward teaches: 24 iterations of 10 steps, an early window, a rate that sets itself."""
    return replace(
        mixgrpo_flash(),
        iterations=24,
        steps=10,
        prompts_per_iteration=8,
        planner=WindowPlanner(window=SlidingWindow(size=3, stride=1, hold=8, last=2), tail_ratio=0.4),
        learning_rate=AUTO,
        updates=AUTO,
        decode_dtype="auto",
        eval_every=8,
        eval_images=2,
        eval_steps=25,
    )
