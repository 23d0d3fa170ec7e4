"""The demo's settings: MixGRPO-Flash sized for the demo model and two CPU cores."""

from dataclasses import replace

from .evaluation.guards import Collapse, DiversityLoss, HeldOutFall, PixelDrift
from .sampling.planners import WindowPlanner
from .sampling.windows import SlidingWindow
from .settings.config import TrainConfig
from .settings.presets import mixgrpo_flash
from .shapes.captions import split_captions


def demo_config(*, iterations: int | None = None, seed: int = 0) -> TrainConfig:
    """Settings with which the demo model learns to listen to its captions within two minutes.

    The published window would stand still in a run this short: here it moves every 5 iterations, up to step 3 (later
    steps decide about detail, of which this model has little). The learning rate suits the tiny model. The untrained
    model draws another colour or shape than asked for every other time: what images lose in diversity is mostly that.
    """
    return replace(
        mixgrpo_flash(),
        iterations=55 if iterations is None else iterations,
        seed=seed,
        images_per_prompt=12,
        prompts_per_iteration=8,
        planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=5, last=3), tail_ratio=0.4),
        reward_weights={"shape": 1.0, "adherence": 0.0, "clean": 0.0},
        learning_rate=5e-4,
        eval_every=14,
        eval_images=6,
        guards=(HeldOutFall(), DiversityLoss(warn=0.2), PixelDrift(), Collapse()),
    )


def train_prompts() -> tuple[str, ...]:
    """The 128 training captions."""
    return tuple(str(caption) for caption in split_captions()[0])


def held_out_prompts() -> tuple[str, ...]:
    """The 32 captions that are never trained on."""
    return tuple(str(caption) for caption in split_captions()[1])
